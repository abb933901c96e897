"""The hierarchy: embeddings are cut top-down into a tree of groups, one restoration expert each.

`tree.py` is the artefact that everything downstream reads, `build.py` makes one, `assign.py` finds
the leaf of a new embedding, `quality.py` says how good the groups are.
"""

from expertree.hierarchy.assign import assign, nearest
from expertree.hierarchy.build import HierarchyConfig, build_tree
from expertree.hierarchy.quality import Composition, compositions, purity, silhouettes
from expertree.hierarchy.tree import Node, Tree, load_tree, save_tree

__all__ = [
    "Composition",
    "HierarchyConfig",
    "Node",
    "Tree",
    "assign",
    "build_tree",
    "compositions",
    "load_tree",
    "nearest",
    "purity",
    "save_tree",
    "silhouettes",
]
