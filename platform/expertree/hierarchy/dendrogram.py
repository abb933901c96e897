"""The dendrogram of a tree: the splits in two that lead a sample to its leaf.

Trees of `bisecting` are cuts of one dendrogram. Their own nodes do not tell which leaf a sample
belongs to: in a tree {1, 8} the nearest of eight leaves is not always the one that three splits in
a row lead to, as they do in {1, 2, 4, 8}. Shapes share groups because all follow the same splits.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64

from expertree.hierarchy.nearest import nearest


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dendrogram:
    """A list of splits in two, each listed after the split that leads to it.

    With L leaves there are L - 1 splits. An element e below L is leaf e, and from L on it is split
    e - L.

    Attributes:
        halves: The two elements that each split leads to.
        centroids: Centroids of both elements, float32 [splits, 2, dim], in the standardised space.
    """

    halves: tuple[tuple[int, int], ...]
    centroids: Float32[np.ndarray, "splits 2 dim"]

    def __post_init__(self) -> None:
        """Check everything and make the array read-only.

        Raises:
            ValueError: If the splits do not make one dendrogram; says which value is wrong.
        """
        num_splits = len(self.halves)
        shape = self.centroids.shape
        if len(shape) != 3 or shape[:2] != (num_splits, 2) or self.centroids.dtype != np.float32:
            raise ValueError(
                f"centroids of {num_splits} splits are float32 [{num_splits}, 2, dim], got "
                f"{self.centroids.dtype} {list(shape)}"
            )
        if not np.isfinite(self.centroids).all():
            raise ValueError("a centroid of the splits is not finite")
        led_to = sorted(element for pair in self.halves for element in pair)
        expected = [e for e in range(2 * num_splits + 1) if e != self.num_leaves]
        if not num_splits or led_to != expected:
            raise ValueError(
                f"the splits lead to {led_to}; {num_splits} splits lead to each of {expected} once"
            )
        for split, pair in enumerate(self.halves):
            if any(self.num_leaves <= element <= self.num_leaves + split for element in pair):
                raise ValueError(f"split {split} leads to {list(pair)}, which does not come after")
        self.centroids.setflags(write=False)

    @property
    def num_leaves(self) -> int:
        """The number of leaves that the splits lead to."""
        return len(self.halves) + 1

    def groups(self) -> frozenset[tuple[int, ...]]:
        """Return the set of leaves below each element, as a node of a cut can have."""
        below: dict[int, tuple[int, ...]] = {leaf: (leaf,) for leaf in range(self.num_leaves)}
        for split in reversed(range(len(self.halves))):
            first, second = self.halves[split]
            below[self.num_leaves + split] = tuple(sorted(below[first] + below[second]))
        return frozenset(below.values())

    def assign(self, points: Float32[np.ndarray, "samples dim"]) -> Int64[np.ndarray, " samples"]:
        """Return the leaf of each standardised point, with the nearer half taken at each split."""
        elements = np.full(len(points), self.num_leaves, dtype=np.int64)
        for split, pair in enumerate(self.halves):
            rows = np.flatnonzero(elements == self.num_leaves + split)
            if len(rows):
                elements[rows] = np.take(pair, nearest(points[rows], self.centroids[split])[0])
        return elements

    def split_leaf(
        self,
        leaf: int,
        centroids: Float32[np.ndarray, "2 dim"],
        *,
        numbers: Sequence[int],
        added: int,
    ) -> "Dendrogram":
        """Return the dendrogram with one more split, which divides a leaf.

        Args:
            leaf: The leaf to split.
            centroids: Centroids of the old and of the added leaf, float32 [2, dim].
            numbers: The new number of each old leaf.
            added: The number of the leaf that is added.
        """
        last = self.num_leaves + 1 + len(self.halves)

        def renumbered(element: int) -> int:
            if element == leaf:
                return last
            return numbers[element] if element < self.num_leaves else element + 1

        return Dendrogram(
            halves=(
                *((renumbered(a), renumbered(b)) for a, b in self.halves),
                (numbers[leaf], added),
            ),
            centroids=np.concatenate([self.centroids, centroids[None]]),
        )
