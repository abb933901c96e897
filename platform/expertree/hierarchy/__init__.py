"""The hierarchy: embeddings are cut top-down into a tree of groups, one restoration expert each.

`tree.py` is what everything downstream reads, `build.py` makes one, `assign.py` finds the leaf of a
new embedding, `quality.py` says how good the groups are.
"""

from expertree.hierarchy.artefact import load_tree, save_tree
from expertree.hierarchy.assign import assign
from expertree.hierarchy.build import build_tree
from expertree.hierarchy.config import AdaptiveConfig, HierarchyConfig
from expertree.hierarchy.dendrogram import Dendrogram
from expertree.hierarchy.grow import Growth, GrowthLimits, grow
from expertree.hierarchy.labels import Labels
from expertree.hierarchy.nearest import nearest
from expertree.hierarchy.quality import (
    Composition,
    compositions,
    purity,
    silhouette_rows,
    silhouettes,
)
from expertree.hierarchy.tree import ROOT, Node, Tree

__all__ = [
    "ROOT",
    "AdaptiveConfig",
    "Composition",
    "Dendrogram",
    "Growth",
    "GrowthLimits",
    "HierarchyConfig",
    "Labels",
    "Node",
    "Tree",
    "assign",
    "build_tree",
    "compositions",
    "grow",
    "load_tree",
    "nearest",
    "purity",
    "save_tree",
    "silhouette_rows",
    "silhouettes",
]
