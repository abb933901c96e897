"""Find the leaf of an embedding by the decisions with which the tree was built."""

import numpy as np
from jaxtyping import Float, Float32, Int64

from expertree.hierarchy.nearest import nearest
from expertree.hierarchy.tree import Tree

CHUNK_ROWS = 65_536
"""Rows standardised at a time: 128 MiB at 512 dimensions, whatever the number of embeddings."""


def assign(
    tree: Tree, embeddings: Float[np.ndarray, "samples dim"]
) -> Int64[np.ndarray, " samples"]:
    """Find the leaf of each embedding by the decisions with which the tree was built.

    At each level the nearest centroid among the children of the node above is taken (METHOD section
    3), which does not always lead to the nearest leaf. In a tree with a dendrogram, the nearer half
    is taken at each split.

    Args:
        tree: The tree.
        embeddings: [samples, embed_dim], as the extractor gives them, not standardised.

    Returns:
        Leaf numbers, int64 [samples].

    Raises:
        ValueError: If the embeddings have another length than the tree's, or are not finite.
    """
    chunks = range(0, len(embeddings), CHUNK_ROWS)
    leaves = [_assign(tree, tree.standardise(embeddings[i : i + CHUNK_ROWS])) for i in chunks]
    return np.concatenate([np.empty(0, dtype=np.int64), *leaves])


def _assign(
    tree: Tree, points: Float32[np.ndarray, "samples dim"]
) -> Int64[np.ndarray, " samples"]:
    if not np.isfinite(points).all():
        row = int(np.argwhere(~np.isfinite(points))[0, 0])
        raise ValueError(f"embedding {row} is not finite, so it belongs to no group")
    if tree.dendrogram is not None:
        return tree.dendrogram.assign(points)
    nodes = np.zeros(len(points), dtype=np.int64)
    for parent in tree.nodes[: -tree.num_leaves]:
        rows = np.flatnonzero(nodes == parent.index)
        if len(rows):
            children = np.asarray(parent.children, dtype=np.int64)
            nodes[rows] = children[nearest(points[rows], tree.centroids[children])[0]]
    return nodes - (len(tree.nodes) - tree.num_leaves)
