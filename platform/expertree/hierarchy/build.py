"""Cut embeddings into a tree, top-down (METHOD section 3)."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64

from expertree.errors import GroupingError
from expertree.hierarchy.assign import assign
from expertree.hierarchy.config import HierarchyConfig
from expertree.hierarchy.cuts import Group
from expertree.hierarchy.levels import METHODS
from expertree.hierarchy.tree import Node, Tree, scales, standardise


def build_tree(
    embeddings: Float32[np.ndarray, "samples dim"], config: HierarchyConfig, *, extractor: str
) -> tuple[Tree, Int64[np.ndarray, " samples"]]:
    """Standardise embeddings, cut them level by level, and assign each to its leaf.

    Args:
        embeddings: float32 [samples, dim], as the extractor gives them.
        config: Shape and method.
        extractor: Hash of the extractor, kept in the tree.

    Returns:
        The tree, and the leaf number of each embedding, int64 [samples].

    Raises:
        ValueError: If the embeddings are not a finite matrix.
        GroupingError: If they cannot be cut into that many groups: too few samples, or too few that
            differ.
    """
    rows = draw_rows(len(embeddings), config)
    sample = embeddings if len(rows) == len(embeddings) else embeddings[rows]
    tree = fit_tree(sample, config, extractor=extractor)
    leaves = assign(tree, embeddings)
    return with_counts(tree, count_leaves(tree, leaves)), leaves


def draw_rows(num_rows: int, config: HierarchyConfig) -> Int64[np.ndarray, " sample"]:
    """Choose the embeddings that a tree is fitted on: all, or a random sample; rows ascending."""
    if num_rows <= config.fit_samples:
        return np.arange(num_rows)
    rng = np.random.default_rng(config.seed)
    return np.sort(rng.choice(num_rows, config.fit_samples, replace=False))


def fit_tree(
    sample: Float32[np.ndarray, "sample dim"], config: HierarchyConfig, *, extractor: str
) -> Tree:
    """Standardise a sample and cut it level by level; the tree's nodes count the sample.

    With many embeddings only the sample is in memory at once: `draw_rows` draws it, the others are
    assigned in batches, and `with_counts` counts them.

    Args:
        sample: float32 [sample, dim], as the extractor gives them.
        config: Shape and method.
        extractor: Hash of the extractor, kept in the tree.

    Raises:
        ValueError: If the embeddings are not a finite matrix.
        GroupingError: If the sample cannot be cut into that many groups.
    """
    _check_embeddings(sample, config)
    mean, std = scales(sample, config.metric)
    points = standardise(sample, mean, std, config.metric)
    levels = METHODS[config.method](points, config)
    return Tree(
        groups=tuple(len(groups) for groups in levels.groups),
        metric=config.metric,
        extractor=extractor,
        nodes=_nodes(levels.groups),
        centroids=np.stack([group.centroid for groups in levels.groups for group in groups]),
        mean=mean,
        std=std,
        dendrogram=levels.dendrogram,
    )


def count_leaves(tree: Tree, leaves: Int64[np.ndarray, " samples"]) -> Int64[np.ndarray, " leaves"]:
    """Return the number of samples in each leaf."""
    return np.bincount(leaves, minlength=tree.num_leaves)


def with_counts(tree: Tree, counts: Int64[np.ndarray, " leaves"]) -> Tree:
    """Return the tree with each node's `num_samples` set from the number of samples per leaf."""
    nodes = tuple(
        dataclasses.replace(node, num_samples=int(counts[list(node.leaves)].sum()))
        for node in tree.nodes
    )
    return dataclasses.replace(tree, nodes=nodes)


def _check_embeddings(
    embeddings: Float32[np.ndarray, "samples dim"], config: HierarchyConfig
) -> None:
    if embeddings.ndim != 2 or embeddings.dtype != np.float32:
        raise ValueError(
            f"embeddings must be float32 [samples, dim], got {embeddings.dtype} "
            f"{list(embeddings.shape)}"
        )
    if len(embeddings) < config.fewest_samples:
        raise GroupingError(
            f"{config.fewest_groups} groups of at least {config.smallest_group} samples need "
            f"{config.fewest_samples} samples, got {len(embeddings)}; give more samples or "
            "ask for fewer groups"
        )
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"embedding {int(np.argmin(finite))} is not finite; its extractor is damaged"
        )


def _nodes(levels: Sequence[Sequence[Group]]) -> tuple[Node, ...]:
    starts = np.cumsum([0, *(len(level) for level in levels)])
    leaves: list[list[tuple[int, ...]]] = [[(leaf,) for leaf in range(len(levels[-1]))]]
    for level in reversed(range(len(levels) - 1)):
        below = list(zip(levels[level + 1], leaves[0], strict=True))
        leaves.insert(
            0,
            [
                tuple(leaf for child, own in below if child.parent == position for leaf in own)
                for position in range(len(levels[level]))
            ],
        )
    return tuple(
        Node(
            index=int(starts[level]) + position,
            level=level,
            parent=int(starts[level - 1]) + group.parent if level else None,
            children=_children(levels, starts, level, position),
            leaves=leaves[level][position],
            num_samples=len(group.rows),
        )
        for level, groups in enumerate(levels)
        for position, group in enumerate(groups)
    )


def _children(
    levels: Sequence[Sequence[Group]],
    starts: Int64[np.ndarray, " bounds"],
    level: int,
    position: int,
) -> tuple[int, ...]:
    if level + 1 == len(levels):
        return ()
    return tuple(
        int(starts[level + 1]) + i
        for i, child in enumerate(levels[level + 1])
        if child.parent == position
    )
