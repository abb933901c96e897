"""Add leaves to an existing tree for groups of new samples that fit no leaf.

Old centroids do not move, and no node loses its expert. A sample lies outside of its leaf if it is
further from the leaf's centroid than nearly all samples that the leaf was made of. The samples
outside of a leaf are cut into groups, and a group becomes a leaf if it is large enough and takes
next to nothing from the leaves around it (METHOD section 3).
"""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Int64

from expertree.errors import GroupingError
from expertree.hierarchy.assign import assign
from expertree.hierarchy.build import count_leaves, with_counts
from expertree.hierarchy.config import HierarchyConfig
from expertree.hierarchy.cuts import Group, cut, everything
from expertree.hierarchy.nearest import nearest
from expertree.hierarchy.tree import Node, Tree

SETTLING_ROUNDS = 10
"""Most rounds in which the centroids of new leaves move to the means of their nearest samples."""

APART = 4.0
"""Least distance between the centroids of two separate groups, in standard deviations along the
line between them. The halves of a round cloud are 2.7 apart, those of a uniform stretch 3.5."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GrowthLimits:
    """Limits that decide when new samples get a new leaf."""

    quantile: float = 0.99
    """A sample lies outside of its leaf if this share of the leaf's old samples is nearer to the
    centroid."""

    min_samples: int = 64
    """Fewest new samples in a new leaf: an expert is trained on them."""

    max_moved: float = 0.05
    """Largest share of any leaf's old samples that may go to new leaves. A leaf whose new samples
    lie on all sides of it would lose more, and gets no new leaf beside it."""

    def __post_init__(self) -> None:
        """Raise ValueError for a share out of range, or fewer than 1 sample."""
        if not 0.0 < self.quantile < 1.0:
            raise ValueError(f"quantile must lie in (0, 1), got {self.quantile}")
        if self.min_samples < 1:
            raise ValueError(f"min_samples must be at least 1, got {self.min_samples}")
        if not 0.0 <= self.max_moved < 1.0:
            raise ValueError(f"max_moved must lie in [0, 1), got {self.max_moved}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Growth:
    """A tree after growing, and how its nodes follow from the old ones.

    Attributes:
        tree: The tree; the old one itself if nothing was added.
        nodes: The new index of each old node.
        sibling_of: For the node of each added expert, the node of the expert that served its
            samples before.
    """

    tree: Tree
    nodes: Mapping[int, int]
    sibling_of: Mapping[int, int]

    @property
    def leaves(self) -> tuple[int, ...]:
        """The numbers of the leaves that were added."""
        return tuple(self.tree.nodes[node].leaves[0] for node in sorted(self.sibling_of))

    def leaves_of(self, old: Tree) -> Int64[np.ndarray, " leaves"]:
        """Return the new number of each leaf of the old tree."""
        first_old, first = (len(t.nodes) - t.num_leaves for t in (old, self.tree))
        return np.array([self.nodes[first_old + n] - first for n in range(old.num_leaves)])

    def then(self, later: "Growth") -> "Growth":
        """Return this growth and a later growth of its tree as one."""
        moved = {later.nodes[new]: later.nodes[old] for new, old in self.sibling_of.items()}
        return Growth(
            tree=later.tree,
            nodes={old: later.nodes[new] for old, new in self.nodes.items()},
            sibling_of=moved | dict(later.sibling_of),
        )


def grow(
    tree: Tree,
    known: Float32[np.ndarray, "known dim"],
    new: Float32[np.ndarray, "new dim"],
    limits: GrowthLimits,
    *,
    seed: int = 0,
) -> Growth:
    """Give groups of new samples that fit no leaf a leaf of their own.

    Args:
        tree: The tree.
        known: Embeddings that the tree was built from, or a sample of them, float32 [known, dim].
        new: New embeddings by the same extractor, float32 [new, dim].
        limits: Limits that decide what gets a new leaf.
        seed: Seed of the clustering.

    Returns:
        The tree with new leaves. Old ones keep `num_samples`, new ones count their new samples.

    Raises:
        GroupingError: If the tree has a root only.
        ValueError: If embeddings have another length than the tree's, or are not finite.
    """
    if tree.num_levels == 1:
        raise GroupingError("a tree of one group cannot grow: nothing can stand beside its root")
    growing = _Growing(tree, known, new, limits, seed)
    while growing.try_widest_leaf():
        pass
    return growing.counted()


def leaf_radii(
    tree: Tree, embeddings: Float32[np.ndarray, "samples dim"], quantile: float
) -> Float32[np.ndarray, " leaves"]:
    """Return the distance from each leaf's centroid within which a share of its samples lies.

    Returns:
        float32 [leaves], in the standardised space; infinite where a leaf has no samples.
    """
    leaves, distances = assign(tree, embeddings), _distances(tree, embeddings)
    radii = np.full(tree.num_leaves, np.inf, dtype=np.float32)
    for leaf in np.unique(leaves):
        radii[leaf] = np.quantile(distances[leaves == leaf], quantile)
    return radii


def add_leaf(tree: Tree, leaf: int, centroid: Float32[np.ndarray, " dim"]) -> Growth:
    """Put a new leaf beside an old one.

    A leaf that shares its expert with the nodes above it (a chain of groups that were not cut)
    keeps it: the new leaf stands beside the coarsest of them, with a chain of its own down to the
    finest level.

    Args:
        tree: The tree, of two levels at least.
        leaf: The old leaf.
        centroid: Centroid of the new leaf, float32 [dim], in the standardised space.

    Returns:
        The tree with a new leaf of no samples.
    """
    last = len(tree.nodes) - tree.num_leaves + leaf
    beside = tree.nodes[tree.expert_of(last)]
    if beside.parent is None:
        raise ValueError("nothing can stand beside the root")
    # New nodes are called by their level, negative, until all have their places.
    added = [-level for level in range(beside.level, tree.num_levels)]
    children = {node.index: node.children for node in tree.nodes}
    children[beside.parent] += (added[0],)
    children |= {upper: (lower,) for upper, lower in itertools.pairwise(added)}
    children[added[-1]] = ()
    levels: list[list[int]] = [[0]]
    for _ in range(1, tree.num_levels):
        levels.append([child for name in levels[-1] for child in children[name]])
    number = {name: index for index, name in enumerate(itertools.chain(*levels))}
    centroids = [centroid if name < 0 else tree.centroids[name] for name in number]
    first_old, first = len(tree.nodes) - tree.num_leaves, len(number) - len(levels[-1])
    dendrogram = tree.dendrogram
    if dendrogram is not None:
        dendrogram = dendrogram.split_leaf(
            leaf,
            np.stack([tree.leaf_centroids[leaf], centroid]),
            numbers=[number[first_old + old] - first for old in range(tree.num_leaves)],
            added=number[added[-1]] - first,
        )
    grown = dataclasses.replace(
        tree,
        groups=tuple(len(names) for names in levels),
        nodes=_nodes(tree, levels, children, number),
        centroids=np.stack(centroids),
        dendrogram=dendrogram,
    )
    return Growth(
        tree=grown,
        nodes={name: index for name, index in number.items() if name >= 0},
        sibling_of={number[added[0]]: number[beside.index]},
    )


def _nodes(
    tree: Tree,
    levels: list[list[int]],
    children: Mapping[int, tuple[int, ...]],
    number: Mapping[int, int],
) -> tuple[Node, ...]:
    """Return the nodes of a grown tree, from names by level and each name's children and number."""
    parents = {child: name for name, below in children.items() for child in below}
    leaves: dict[int, tuple[int, ...]] = {name: (place,) for place, name in enumerate(levels[-1])}
    for names in reversed(levels[:-1]):
        for name in names:
            leaves[name] = tuple(sorted(leaf for child in children[name] for leaf in leaves[child]))
    return tuple(
        Node(
            index=number[name],
            level=level,
            parent=number[parents[name]] if level else None,
            children=tuple(number[child] for child in children[name]),
            leaves=leaves[name],
            num_samples=tree.nodes[name].num_samples if name >= 0 else 0,
        )
        for level, names in enumerate(levels)
        for name in names
    )


def _distances(
    tree: Tree, embeddings: Float32[np.ndarray, "samples dim"]
) -> Float32[np.ndarray, " samples"]:
    """Return the distance from each embedding to the centroid of its leaf."""
    leaves = assign(tree, embeddings)
    away = tree.standardise(embeddings) - tree.leaf_centroids[leaves]
    distances: Float32[np.ndarray, " samples"] = np.sqrt(np.einsum("nd,nd->n", away, away))
    return distances


def _separation(points: Float32[np.ndarray, "samples dim"], one: Group, other: Group) -> float:
    """Return how far apart two groups are, in standard deviations along the line between them."""
    line = other.centroid - one.centroid
    spreads = [np.var(points[group.rows] @ line) for group in (one, other)]
    weights = [len(group.rows) for group in (one, other)]
    spread = np.sqrt(np.average(spreads, weights=weights))
    return float(line @ line / max(spread, np.finfo(np.float32).tiny))


class _Growing:
    """A tree while it grows; leaves are called by their numbers in the old tree."""

    def __init__(
        self,
        tree: Tree,
        known: Float32[np.ndarray, "known dim"],
        new: Float32[np.ndarray, "new dim"],
        limits: GrowthLimits,
        seed: int,
    ) -> None:
        self._old, self._known, self._new = tree, known, new
        self._limits, self._seed = limits, seed
        self._points = tree.standardise(new)
        self._known_leaves = assign(tree, known)
        self._radii = leaf_radii(tree, known, limits.quantile)
        self._waiting = set(range(tree.num_leaves))
        same = {node.index: node.index for node in tree.nodes}
        self._growth = Growth(tree=tree, nodes=same, sibling_of={})

    def try_widest_leaf(self) -> bool:
        """Add leaves beside the one that most samples lie outside of; return False if none is left.

        Leaves are tried one after the other, because an added leaf may take samples that lay
        outside of others.
        """
        leaves = self._old_leaves()
        far = (leaves >= 0) & (_distances(self._growth.tree, self._new) > self._radii[leaves])
        counts = np.bincount(leaves[far], minlength=self._old.num_leaves)
        widest = max(self._waiting, key=lambda leaf: (counts[leaf], -leaf), default=None)
        if widest is None or counts[widest] < self._limits.min_samples:
            return False
        self._waiting.remove(widest)
        own = leaves == widest
        groups = self._cut(self._points[far & own])
        for centroid in self._settle(widest, self._points[own], groups):
            self._add(widest, centroid)
        return True

    def counted(self) -> Growth:
        """Return the growth: old leaves keep their `num_samples`, new ones count new samples."""
        if not self._growth.sibling_of:
            return self._growth
        tree = self._growth.tree
        counts = count_leaves(tree, assign(tree, self._new))
        first = len(self._old.nodes) - self._old.num_leaves
        old = [node.num_samples for node in self._old.nodes[first:]]
        counts[self._growth.leaves_of(self._old)] = old
        return dataclasses.replace(self._growth, tree=with_counts(tree, counts))

    def _old_leaves(self) -> Int64[np.ndarray, " new"]:
        """Return the old number of each new sample's leaf in the tree as it is; -1 if added."""
        names = np.full(self._growth.tree.num_leaves, -1, dtype=np.int64)
        names[self._growth.leaves_of(self._old)] = np.arange(self._old.num_leaves)
        return np.take(names, assign(self._growth.tree, self._new))

    def _cut(self, points: Float32[np.ndarray, "far dim"]) -> Float32[np.ndarray, "groups dim"]:
        """Return centroids of points outside of a leaf, halved while the halves are separate."""
        config = HierarchyConfig(
            metric=self._old.metric,
            seed=self._seed,
            min_group_samples=self._limits.min_samples,
        )
        groups: list[Group] = []
        waiting = [everything(points)]
        while waiting:
            group = waiting.pop()
            seed = [len(groups), len(waiting)]
            halves = cut(points, group, 2, position=0, seed=seed, config=config).parts
            if halves is None or _separation(points, *halves) < APART:
                groups.append(group)
            else:
                waiting += halves
        return np.stack([group.centroid for group in groups])

    def _settle(
        self,
        leaf: int,
        points: Float32[np.ndarray, "members dim"],
        centroids: Float32[np.ndarray, "groups dim"],
    ) -> Float32[np.ndarray, "groups dim"]:
        """Move new centroids by Lloyd's steps; the leaf's own stays and keeps its points."""
        held = self._old.leaf_centroids[leaf][None]
        for _ in range(SETTLING_ROUNDS):
            labels = nearest(points, np.concatenate([held, centroids]))[0] - 1
            moved = np.stack(
                [
                    points[labels == group].mean(axis=0) if (labels == group).any() else centroid
                    for group, centroid in enumerate(centroids)
                ]
            )
            if self._old.metric == "cosine":
                moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
            if np.array_equal(moved, centroids):
                break
            centroids = moved
        return centroids

    def _add(self, leaf: int, centroid: Float32[np.ndarray, " dim"]) -> None:
        """Add a leaf, if all new ones then have enough samples and old samples stay put."""
        now = int(self._growth.leaves_of(self._old)[leaf])
        grown = self._growth.then(add_leaf(self._growth.tree, now, centroid))
        counts = count_leaves(grown.tree, assign(grown.tree, self._new))
        if counts[list(grown.leaves)].min() < self._limits.min_samples:
            return
        stayed = assign(grown.tree, self._known) == grown.leaves_of(self._old)[self._known_leaves]
        totals = np.bincount(self._known_leaves, minlength=self._old.num_leaves)
        moved = np.bincount(self._known_leaves[~stayed], minlength=self._old.num_leaves)
        if (moved <= self._limits.max_moved * totals).all():
            self._growth = grown
