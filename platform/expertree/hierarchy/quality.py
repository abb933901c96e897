"""Measure the groups of a tree: silhouette by level, and the labels in each group."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from expertree.hierarchy.labels import Labels
from expertree.hierarchy.tree import Tree

MAX_SILHOUETTE_SAMPLES = 10_000
"""Most samples that are scored, as the silhouette needs every pairwise distance; of more a random
sample is drawn."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """The labels of one node's samples.

    Attributes:
        node: Index of the node.
        num_samples: Number of samples in the node.
        shares: (label, share of the node's samples), most frequent first.
    """

    node: int
    num_samples: int
    shares: tuple[tuple[str, float], ...]


def silhouette_rows(
    num_samples: int, *, max_samples: int = MAX_SILHOUETTE_SAMPLES, seed: int = 0
) -> Int64[np.ndarray, " rows"]:
    """Choose the samples that `silhouettes` scores: all, or a random sample; rows ascending.

    Where not all embeddings fit in memory, read and score only these.
    """
    if num_samples <= max_samples:
        return np.arange(num_samples)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(num_samples, max_samples, replace=False))


def silhouettes(
    tree: Tree,
    embeddings: Float[np.ndarray, "samples dim"],
    leaves: Int64[np.ndarray, " samples"],
    *,
    max_samples: int = MAX_SILHOUETTE_SAMPLES,
    seed: int = 0,
) -> tuple[float | None, ...]:
    """Return the mean silhouette of each level's groups, in the tree's space and metric.

    Args:
        tree: The tree.
        embeddings: [samples, embed_dim], not standardised.
        leaves: The leaf of each, as `assign` gives it.
        max_samples: Most samples to score; beyond it a random sample is drawn.
        seed: Seed of that sample.

    Returns:
        One number a level, in [-1, 1]; None where fewer than two groups have samples, as on level
        0.
    """
    from sklearn.metrics import silhouette_score  # noqa: PLC0415 - a second to load

    if len(embeddings) > max_samples:
        rows = silhouette_rows(len(embeddings), max_samples=max_samples, seed=seed)
        embeddings, leaves = embeddings[rows], leaves[rows]
    points = tree.standardise(embeddings)
    scores: list[float | None] = []
    for level in range(tree.num_levels):
        groups = nodes_at_level(tree, leaves, level)
        defined = 1 < len(np.unique(groups)) < len(groups)
        scores.append(float(silhouette_score(points, groups)) if defined else None)
    return tuple(scores)


def compositions(
    tree: Tree, leaves: Int64[np.ndarray, " samples"], labels: Sequence[str]
) -> tuple[Composition, ...]:
    """Return the labels of each node's samples, in node order.

    Args:
        tree: The tree.
        leaves: The leaf of each sample.
        labels: A name for each sample: its task, or its degree caption.
    """
    found = []
    coded = Labels.of(labels)
    by_leaf = coded.counts(leaves, tree.num_leaves)
    for node in tree.nodes:
        counts: list[int] = by_leaf[list(node.leaves)].sum(axis=0).tolist()
        total = sum(counts)
        present = [(name, n) for name, n in zip(coded.values, counts, strict=True) if n]
        ranked = sorted(present, key=lambda item: (-item[1], item[0]))
        shares = tuple((label, count / total) for label, count in ranked)
        found.append(Composition(node=node.index, num_samples=total, shares=shares))
    return tuple(found)


def purity(
    tree: Tree, leaves: Int64[np.ndarray, " samples"], labels: Sequence[str]
) -> tuple[float, ...]:
    """Return the share of samples that carry their group's most frequent label, for each level."""
    if not len(leaves):
        raise ValueError("purity needs at least one sample")
    found = compositions(tree, leaves, labels)
    hits = [c.shares[0][1] * c.num_samples if c.shares else 0.0 for c in found]
    return tuple(
        sum(hits[node.index] for node in tree.nodes_of_level(level)) / len(leaves)
        for level in range(tree.num_levels)
    )


def nodes_at_level(
    tree: Tree, leaves: Int64[np.ndarray, " samples"], level: int
) -> Int64[np.ndarray, " samples"]:
    """Return the node of each sample on one level."""
    nodes = [tree.node_at(leaf, level) for leaf in range(tree.num_leaves)]
    return np.take(np.asarray(nodes, dtype=np.int64), leaves)
