"""Cutting embeddings into a tree, top-down (METHOD section 3)."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64

from expertree.hierarchy.assign import assign, nearest
from expertree.hierarchy.clustering import METHODS, ClusterSettings
from expertree.hierarchy.tree import Metric, Node, Tree, check_groups, standardise

MIN_STD = 1e-6
"""A dimension that varies less than this is constant: it is centred but not scaled."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HierarchyConfig:
    """How the hierarchy is cut."""

    groups: tuple[int, ...] = (1, 4, 8)
    """Number of groups on each level, coarse to fine; the paper's small tree."""

    method: Literal["kmeans"] = "kmeans"
    """How one group is cut into several; a name in `clustering.METHODS`."""

    metric: Metric = "l2"
    """Distance between standardised embeddings."""

    seed: int = 0
    """Of the sample and of each clustering."""

    num_iterations: int = 50
    """Most rounds of one k-means attempt."""

    num_restarts: int = 5
    """Attempts for each cut; the best is kept, because k-means stops in local minima."""

    fit_samples: int = 100_000
    """Embeddings that centroids are fitted on; beyond it a random sample is drawn, and the others
    are only assigned. 100,000 of 512 floats are 195 MiB."""

    min_group_samples: int = 8
    """No group is smaller, in fitted samples: an expert needs at least one batch. Fewer samples
    that lie apart are outliers, which join the nearest group."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_groups(self.groups)
        for name in ("num_iterations", "num_restarts", "fit_samples", "min_group_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Group:
    """Samples of one node while the tree grows.

    Attributes:
        rows: Their rows in the standardised sample.
        centroid: float32 [dim].
        parent: Position of the group it was cut from, on the level above.
    """

    rows: Int64[np.ndarray, " members"]
    centroid: Float32[np.ndarray, " dim"]
    parent: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Cut:
    """One group cut into some number of parts, largest first; None parts if it cannot be done."""

    parts: tuple[_Group, ...] | None
    sum_of_squares: float


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
        ValueError: If the embeddings are not a finite matrix, or cannot be cut into that many
            groups (too few samples, or too few that differ).
    """
    _check_embeddings(embeddings, config)
    sample = _draw_sample(embeddings, config)
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    std = sample.std(axis=0, dtype=np.float64).astype(np.float32)
    std[std < MIN_STD] = 1.0
    points = standardise(sample, mean, std, config.metric)
    levels = _grow(points, config)
    tree = Tree(
        groups=config.groups,
        metric=config.metric,
        extractor=extractor,
        nodes=_nodes(levels),
        centroids=np.stack([group.centroid for level in levels for group in level]),
        mean=mean,
        std=std,
    )
    leaves = assign(tree, embeddings)
    return with_counts(tree, leaves), leaves


def with_counts(tree: Tree, leaves: Int64[np.ndarray, " samples"]) -> Tree:
    """The same tree with `num_samples` counted anew from the leaves of some samples."""
    counts = np.bincount(leaves, minlength=tree.num_leaves)
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
    needed = config.groups[-1] * config.min_group_samples
    if len(embeddings) < needed:
        raise ValueError(
            f"{config.groups[-1]} groups of at least {config.min_group_samples} samples need "
            f"{needed} samples, got {len(embeddings)}; give more samples or ask for fewer groups"
        )
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"embedding {int(np.argmin(finite))} is not finite; its extractor is damaged"
        )


def _draw_sample(
    embeddings: Float32[np.ndarray, "samples dim"], config: HierarchyConfig
) -> Float32[np.ndarray, "sample dim"]:
    if len(embeddings) <= config.fit_samples:
        return embeddings
    rng = np.random.default_rng(config.seed)
    return embeddings[np.sort(rng.choice(len(embeddings), config.fit_samples, replace=False))]


def _grow(points: Float32[np.ndarray, "sample dim"], config: HierarchyConfig) -> list[list[_Group]]:
    rows = np.arange(len(points))
    levels = [[_Group(rows=rows, centroid=points.mean(axis=0), parent=0)]]
    for level in range(1, len(config.groups)):
        levels.append(_next_level(points, levels[-1], level, config))
    return levels


def _next_level(
    points: Float32[np.ndarray, "sample dim"],
    groups: Sequence[_Group],
    level: int,
    config: HierarchyConfig,
) -> list[_Group]:
    """Share a level's groups out: the next cut goes where it lowers the sum of squares most."""
    wanted = config.groups[level]

    def cut(position: int, num_parts: int) -> _Cut:
        return _cut(points, groups[position], position, num_parts, level=level, config=config)

    if len(groups) == 1:
        chosen = [cut(0, wanted)]
    else:
        chosen = [cut(position, 1) for position in range(len(groups))]
        finer = [cut(position, 2) for position in range(len(groups))]
        for _ in range(wanted - len(groups)):
            gains = [_gain(a, b) for a, b in zip(chosen, finer, strict=True)]
            best = int(np.argmax(gains))
            chosen[best] = finer[best]
            if chosen[best].parts is None:
                break
            finer[best] = cut(best, len(chosen[best].parts or ()) + 1)
    if any(c.parts is None for c in chosen):
        raise ValueError(
            f"level {level} needs {wanted} groups of at least {config.min_group_samples} samples, "
            f"but the {len(points)} samples do not fall into that many; give more or more varied "
            "samples, ask for fewer groups, or lower min_group_samples"
        )
    return [part for c in chosen for part in c.parts or ()]


def _gain(coarse: _Cut, fine: _Cut) -> float:
    return -np.inf if fine.parts is None else coarse.sum_of_squares - fine.sum_of_squares


def _cut(
    points: Float32[np.ndarray, "sample dim"],
    group: _Group,
    position: int,
    num_parts: int,
    *,
    level: int,
    config: HierarchyConfig,
) -> _Cut:
    members = points[group.rows]
    seeds = np.random.SeedSequence([config.seed, level, position, num_parts])
    settings = ClusterSettings(
        seed=int(seeds.generate_state(1)[0] >> 1),
        num_iterations=config.num_iterations,
        num_restarts=config.num_restarts,
        spherical=config.metric == "cosine",
    )
    centroids = (
        group.centroid[None] if num_parts == 1 else _fit(members, num_parts, config, settings)
    )
    if centroids is None:
        return _Cut(parts=None, sum_of_squares=np.inf)
    labels, distances = nearest(members, centroids)
    parts = tuple(
        _Group(rows=group.rows[labels == part], centroid=centroids[part], parent=position)
        for part in np.argsort(-np.bincount(labels, minlength=num_parts), kind="stable")
    )
    return _Cut(parts=parts, sum_of_squares=float(distances.sum(dtype=np.float64)))


def _fit(
    members: Float32[np.ndarray, "members dim"],
    num_parts: int,
    config: HierarchyConfig,
    settings: ClusterSettings,
) -> Float32[np.ndarray, "parts dim"] | None:
    """Centroids whose groups all have enough members; None if there are none.

    Members that would form a group too small for an expert are outliers: the centroids are fitted
    again without them, and in the end they join the nearest group.
    """
    while len(members) >= num_parts * config.min_group_samples:
        centroids = METHODS[config.method](members, num_parts, settings)
        labels = nearest(members, centroids)[0]
        too_small = np.bincount(labels, minlength=num_parts) < config.min_group_samples
        if not too_small.any():
            return centroids
        outliers = too_small[labels]
        if not outliers.any():
            return None
        members = members[~outliers]
    return None


def _nodes(levels: Sequence[Sequence[_Group]]) -> tuple[Node, ...]:
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
    levels: Sequence[Sequence[_Group]],
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
