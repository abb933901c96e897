"""The Tree artefact: which groups there are, how they nest, and where their centres lie.

A tree is checked when it is made and when it is loaded, so whoever holds one need not check again.
The weights released with the paper pair a table of 22 rows with 23 experts and then restore six
groups with a neighbour's network (METHOD section 3); such a tree does not load here.
"""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from expertree.errors import ArtefactError
from expertree.hierarchy.dendrogram import Dendrogram

Metric = Literal["l2", "cosine", "angular"]
"""Distance between embeddings. `l2`: of each dimension standardised by itself; `cosine`: these,
scaled to length 1; `angular`: of embeddings scaled to length 1, no dimension against the others."""

MIN_STD = 1e-6
"""A dimension that varies less than this is constant: it is centred but not scaled."""

ROOT = 0
"""Index of the root, the node that holds all samples."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One group of samples.

    Attributes:
        index: Its place in `Tree.nodes`.
        level: Number of its level; 0 for the root, which holds all samples.
        parent: Index of the group it was cut from; None for the root.
        children: Indices of the groups cut from it; empty at the finest level.
        leaves: Numbers of the finest groups below it (or itself), ascending.
        num_samples: Number of embeddings in it, of those that the tree was built from.
    """

    index: int
    level: int
    parent: int | None
    children: tuple[int, ...]
    leaves: tuple[int, ...]
    num_samples: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tree:
    """A hierarchy of groups, coarse to fine; every path from the root has one node a level.

    Leaf numbers count the finest level's nodes from 0, in order.

    Attributes:
        groups: Number of groups on each level, for example (1, 4, 8).
        metric: Distance between embeddings; see `Metric`.
        extractor: Name of the extractor whose embeddings were clustered, by content; of older
            trees, by the stage that trained it.
        nodes: The nodes, breadth first, so that a node's children are neighbours.
        centroids: Centroids of the nodes, float32 [num_nodes, embed_dim], in the standardised
            space.
        mean: Mean of the embeddings, float32 [embed_dim]; for `angular` of those of length 1.
        std: Standard deviation of the embeddings, float32 [embed_dim]; positive. For `angular` all
            are the same number.
        dendrogram: The splits that lead a sample to its leaf, where the tree is a cut of them; None
            where the nodes' own centroids do.
    """

    groups: tuple[int, ...]
    metric: Metric
    extractor: str
    nodes: tuple[Node, ...]
    centroids: Float32[np.ndarray, "nodes dim"]
    mean: Float32[np.ndarray, " dim"]
    std: Float32[np.ndarray, " dim"]
    dendrogram: Dendrogram | None = None

    def __post_init__(self) -> None:
        """Check everything and make the arrays read-only.

        Raises:
            ValueError: If the parts do not make one tree; says which value is wrong.
        """
        _check_arrays(self)
        _check_nodes(self)
        _check_dendrogram(self)
        for array in (self.centroids, self.mean, self.std):
            array.setflags(write=False)

    @property
    def num_levels(self) -> int:
        """The number of levels, the root's included."""
        return len(self.groups)

    @property
    def num_leaves(self) -> int:
        """The number of groups on the finest level."""
        return self.groups[-1]

    @property
    def embed_dim(self) -> int:
        """Length of an embedding."""
        return int(self.mean.shape[0])

    @property
    def leaf_centroids(self) -> Float32[np.ndarray, "leaves dim"]:
        """Centroids of the leaves, by leaf number."""
        return self.centroids[-self.num_leaves :]

    def standardise(
        self, embeddings: Float[np.ndarray, "samples dim"]
    ) -> Float32[np.ndarray, "samples dim"]:
        """Bring embeddings into the space of `centroids`.

        Raises:
            ValueError: If their length is not the tree's.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embed_dim:
            raise ValueError(
                f"the tree takes embeddings [samples, {self.embed_dim}], got "
                f"{list(embeddings.shape)}; use the extractor it was built with"
            )
        return standardise(embeddings, self.mean, self.std, self.metric)

    def nodes_of_level(self, level: int) -> tuple[Node, ...]:
        """Return the nodes of one level, in order."""
        self._check_level(level)
        first = sum(self.groups[:level])
        return self.nodes[first : first + self.groups[level]]

    def path(self, leaf: int) -> tuple[int, ...]:
        """Return the node indices from the root to a leaf, one a level."""
        if not 0 <= leaf < self.num_leaves:
            raise ValueError(
                f"leaf {leaf} does not exist; the tree has leaves 0 to {self.num_leaves - 1}"
            )
        node = self.nodes[len(self.nodes) - self.num_leaves + leaf]
        path = [node.index]
        while node.parent is not None:
            node = self.nodes[node.parent]
            path.append(node.index)
        return tuple(reversed(path))

    def node_at(self, leaf: int, level: int) -> int:
        """Return the index of the node on one level of the path to a leaf."""
        self._check_level(level)
        return self.path(leaf)[level]

    def expert_of(self, node: int) -> int:
        """Return the node whose expert serves a node.

        A node with one child holds the same samples as the child, so a chain of such nodes has one
        expert, named by its coarsest node.
        """
        current = self.nodes[node]
        while current.parent is not None and len(self.nodes[current.parent].children) == 1:
            current = self.nodes[current.parent]
        return current.index

    def experts(self) -> tuple[int, ...]:
        """Return the nodes that have an expert of their own, coarse to fine."""
        return tuple(node.index for node in self.nodes if self.expert_of(node.index) == node.index)

    def levels_of_expert(self, expert: int) -> tuple[int, ...]:
        """Return the levels on which an expert serves a node.

        Raises:
            ValueError: If the node has no expert of its own.
        """
        if expert not in self.experts():
            raise ValueError(
                f"node {expert} has no expert of its own; the experts are {list(self.experts())}"
            )
        return tuple(node.level for node in self.nodes if self.expert_of(node.index) == expert)

    def parent_expert(self, expert: int) -> int | None:
        """Return the expert that an expert is trained from; None for the root's."""
        parent = self.nodes[expert].parent
        return None if parent is None else self.expert_of(parent)

    def check_experts(self, experts: Iterable[int]) -> None:
        """Check that a set of trained experts is exactly this tree's.

        Raises:
            ArtefactError: If one is missing or left over; names them.
        """
        found, wanted = set(experts), set(self.experts())
        if found != wanted:
            raise ArtefactError(
                f"a tree of {len(wanted)} experts is paired with {len(found)}: missing "
                f"{sorted(wanted - found)}, left over {sorted(found - wanted)}"
            )

    def _check_level(self, level: int) -> None:
        if not 0 <= level < self.num_levels:
            raise ValueError(
                f"level {level} does not exist; the tree has levels 0 to {self.num_levels - 1}"
            )


def standardise(
    embeddings: Float[np.ndarray, "samples dim"],
    mean: Float32[np.ndarray, " dim"],
    std: Float32[np.ndarray, " dim"],
    metric: Metric,
) -> Float32[np.ndarray, "samples dim"]:
    """Bring embeddings into the space of a metric, with what `scales` found."""
    rows = np.asarray(embeddings, dtype=np.float32)
    points = ((_of_length_1(rows) if metric == "angular" else rows) - mean) / std
    if metric == "cosine":
        points = _of_length_1(points)
    return np.ascontiguousarray(points, dtype=np.float32)


def scales(
    sample: Float32[np.ndarray, "sample dim"], metric: Metric
) -> tuple[Float32[np.ndarray, " dim"], Float32[np.ndarray, " dim"]]:
    """Return the mean and the standard deviation by which a metric's space is scaled."""
    rows = _of_length_1(sample) if metric == "angular" else sample
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    std = rows.std(axis=0, dtype=np.float64).astype(np.float32)
    if metric == "angular":
        std[:] = np.sqrt(np.square(std, dtype=np.float64).mean())
    std[std < MIN_STD] = 1.0
    return mean, std


def _of_length_1(rows: Float32[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "rows dim"]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # callers name the row that is not finite
        return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)


def _check_arrays(tree: Tree) -> None:
    dim = tree.mean.shape[-1] if tree.mean.ndim else 0
    shapes = {"centroids": (len(tree.nodes), dim), "mean": (dim,), "std": (dim,)}
    for name, shape in shapes.items():
        array = getattr(tree, name)
        if array.dtype != np.float32 or array.shape != shape:
            raise ValueError(
                f"{name} is {array.dtype} {list(array.shape)}, but a tree of {len(tree.nodes)} "
                f"nodes and embeddings of {dim} needs float32 {list(shape)}"
            )
        if not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ValueError(f"{name}{place} is {array[tuple(place)]}; all values must be finite")
    if dim == 0 or not (tree.std > 0).all():
        raise ValueError(
            f"std must be positive in every dimension, its minimum is {tree.std.min(initial=0)}"
        )


def _check_nodes(tree: Tree) -> None:
    check_groups(tree.groups)
    if len(tree.nodes) != sum(tree.groups):
        raise ValueError(
            f"groups {list(tree.groups)} make {sum(tree.groups)} nodes, got {len(tree.nodes)}"
        )
    levels = [level for level, count in enumerate(tree.groups) for _ in range(count)]
    for index, (node, level) in enumerate(zip(tree.nodes, levels, strict=True)):
        if (node.index, node.level) != (index, level):
            raise ValueError(
                f"node {index} says it is node {node.index} of level {node.level}, expected level "
                f"{level}"
            )
    for node in tree.nodes:
        _check_links(tree, node)
        _check_samples(tree, node)


def _check_links(tree: Tree, node: Node) -> None:
    children = tuple(n.index for n in tree.nodes if n.parent == node.index)
    if (node.parent is None) != (node.index == 0):
        raise ValueError(f"node {node.index} has parent {node.parent}; only node 0 has none")
    if node.parent is not None:
        level = tree.nodes[node.parent].level if 0 <= node.parent < len(tree.nodes) else None
        if level != node.level - 1:
            raise ValueError(
                f"node {node.index} of level {node.level} has parent {node.parent}, which is not "
                f"on level {node.level - 1}"
            )
    if node.children != children:
        raise ValueError(
            f"node {node.index} lists children {list(node.children)}, but {list(children)} name it "
            "as parent"
        )
    if not children and node.level != tree.num_levels - 1:
        raise ValueError(f"node {node.index} of level {node.level} ends before the finest level")


def _check_samples(tree: Tree, node: Node) -> None:
    first_leaf = len(tree.nodes) - tree.num_leaves
    below = [leaf for child in node.children for leaf in tree.nodes[child].leaves]
    expected = below if node.children else [node.index - first_leaf]
    if list(node.leaves) != sorted(expected):
        raise ValueError(
            f"node {node.index} lists leaves {list(node.leaves)}, but below it are "
            f"{sorted(expected)}; the leaves must be a partition on every level"
        )
    total = sum(tree.nodes[child].num_samples for child in node.children)
    if node.num_samples < 0 or (node.children and node.num_samples != total):
        raise ValueError(
            f"node {node.index} counts {node.num_samples} samples, its children {total}"
        )


def _check_dendrogram(tree: Tree) -> None:
    if tree.dendrogram is None:
        return
    shape = tree.dendrogram.num_leaves, tree.dendrogram.centroids.shape[-1]
    if shape != (tree.num_leaves, tree.embed_dim):
        raise ValueError(
            f"the splits lead to {shape[0]} leaves with centroids of {shape[1]}, the tree has "
            f"{tree.num_leaves} and embeddings of {tree.embed_dim}"
        )
    groups = tree.dendrogram.groups()
    for node in tree.nodes:
        if node.leaves not in groups:
            raise ValueError(
                f"node {node.index} has leaves {list(node.leaves)}, which no split leads to"
            )


def check_growing(groups: tuple[int, ...]) -> None:
    """Check that a shape grows from level to level; it may leave out the root's level.

    Raises:
        ValueError: If it does not grow from level to level.
    """
    if not _grows(groups):
        raise ValueError(
            f"groups must grow from level to level, as in 1, 4, 8 or 4, 8; got {list(groups)}"
        )


def check_groups(groups: tuple[int, ...]) -> None:
    """Check that a tree's shape starts with 1 and grows from level to level.

    Raises:
        ValueError: If it does not start with 1 and grow from level to level.
    """
    if not _grows(groups) or groups[0] != 1:
        raise ValueError(
            f"groups must start with 1 and grow from level to level, as in 1, 4, 8; got "
            f"{list(groups)}"
        )


def _grows(groups: tuple[int, ...]) -> bool:
    return bool(groups) and groups[0] >= 1 and all(a < b for a, b in itertools.pairwise(groups))
