"""Decide which groups are cut into how many parts: one function a method (METHOD section 3).

`shared_out` is given the number of groups on each level, `by_silhouette` finds it, and `bisected`
cuts one dendrogram at the given numbers.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float32

from expertree.errors import GroupingError
from expertree.hierarchy.config import HierarchyConfig
from expertree.hierarchy.cuts import Cut, Group, cut, everything, gain
from expertree.hierarchy.dendrogram import Dendrogram

Points = Float32[np.ndarray, "sample dim"]

MAX_SILHOUETTE_SAMPLES = 4_000
"""Most members of a group that the silhouette is computed on, as it takes all pairwise distances,
five times for a group; of more a random sample is drawn."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Levels:
    """The groups of each level, coarse to fine, children of one group beside each other.

    Attributes:
        groups: The groups by level.
        dendrogram: The splits that lead a sample to its leaf; None where the groups' centroids do.
    """

    groups: tuple[tuple[Group, ...], ...]
    dendrogram: Dendrogram | None = None


def shared_out(points: Points, config: HierarchyConfig) -> Levels:
    """Cut each level into its number of groups, always where it lowers the sum of squares most.

    Raises:
        GroupingError: If the samples do not fall into that many groups.
    """
    levels: list[tuple[Group, ...]] = [(everything(points),)]
    for level in range(1, len(config.cut_groups)):
        levels.append(_share_level_out(points, levels[-1], level, config))
    return Levels(groups=tuple(levels))


def _share_level_out(
    points: Points, groups: Sequence[Group], level: int, config: HierarchyConfig
) -> tuple[Group, ...]:
    wanted = config.cut_groups[level]

    def cut_into(position: int, num_parts: int) -> Cut:
        seed = [level, position, num_parts]
        group = groups[position]
        return cut(points, group, num_parts, position=position, seed=seed, config=config)

    if len(groups) == 1:
        chosen = [cut_into(0, wanted)]
    else:
        chosen = [cut_into(position, 1) for position in range(len(groups))]
        finer = [cut_into(position, 2) for position in range(len(groups))]
        for _ in range(wanted - len(groups)):
            gains = [gain(a, b) for a, b in zip(chosen, finer, strict=True)]
            best = int(np.argmax(gains))
            chosen[best] = finer[best]
            if chosen[best].parts is None:
                break
            finer[best] = cut_into(best, len(chosen[best].parts or ()) + 1)
    if any(c.parts is None for c in chosen):
        raise GroupingError(_too_many(level, points, config))
    return tuple(part for c in chosen for part in c.parts or ())


def bisected(points: Points, config: HierarchyConfig) -> Levels:
    """Cut one dendrogram: always split the group whose halves lower the sum of squares most.

    The first splits are the same however many follow, and a level of k groups is the result of
    k - 1 splits. So trees of different shapes share groups.

    Raises:
        GroupingError: If the samples do not fall into that many groups.
    """
    growing = _Growing(points, config)
    fronts = [[0]]
    for level, wanted in enumerate(config.cut_groups[1:], start=1):
        while len(growing.front) < wanted:
            if not growing.split():
                raise GroupingError(_too_many(level, points, config))
        fronts.append(list(growing.front))
    return growing.levels(fronts)


class _Growing:
    """A dendrogram while it grows: element 0 is the root, split s makes 2 s + 1 and 2 s + 2."""

    def __init__(self, points: Points, config: HierarchyConfig) -> None:
        self.front = [0]
        """Elements that are not split, in the order in which they lie beside each other."""
        self._points = points
        self._config = config
        self._elements = [everything(points)]
        self._cuts: dict[int, tuple[Cut, Cut]] = {}
        self._halves: dict[int, tuple[int, int]] = {}

    def split(self) -> bool:
        """Split one more element; return False if none can be split."""
        gains = [gain(*self._cut(element)) for element in self.front]
        place = int(np.argmax(gains))
        element = self.front[place]
        parts = self._cuts[element][1].parts
        if parts is None:
            return False
        first = len(self._elements)
        self._elements += parts
        self._halves[element] = (first, first + 1)
        self.front[place : place + 1] = [first, first + 1]
        return True

    def _cut(self, element: int) -> tuple[Cut, Cut]:
        """Return an element whole and cut in two; random choices depend on the element alone."""
        if element not in self._cuts:
            whole, halved = (
                cut(
                    self._points,
                    self._elements[element],
                    num_parts,
                    position=element,
                    seed=[element],
                    config=self._config,
                )
                for num_parts in (1, 2)
            )
            self._cuts[element] = whole, halved
        return self._cuts[element]

    def levels(self, fronts: Sequence[Sequence[int]]) -> Levels:
        """Return the groups of each front, and the splits that lead to the last one."""
        parent_of = {half: element for element, pair in self._halves.items() for half in pair}
        places = [{element: place for place, element in enumerate(front)} for front in fronts]

        def parent(element: int, level: int) -> int:
            while element not in places[level - 1]:
                element = parent_of[element]
            return places[level - 1][element]

        groups = tuple(
            tuple(
                dataclasses.replace(
                    self._elements[element], parent=parent(element, level) if level else 0
                )
                for element in front
            )
            for level, front in enumerate(fronts)
        )
        return Levels(groups=groups, dendrogram=self._dendrogram(places[-1]))

    def _dendrogram(self, leaves: Mapping[int, int]) -> Dendrogram | None:
        if not self._halves:
            return None
        number = dict(leaves) | {e: len(leaves) + split for split, e in enumerate(self._halves)}
        return Dendrogram(
            halves=tuple((number[a], number[b]) for a, b in self._halves.values()),
            centroids=np.stack(
                [[self._elements[e].centroid for e in pair] for pair in self._halves.values()]
            ),
        )


def by_silhouette(points: Points, config: HierarchyConfig) -> Levels:
    """Cut each group into the number of parts with the best silhouette, or leave it whole.

    Where that gives more groups than the level may have, the groups whose cuts score best are cut
    first. The tree has fewer levels than asked for when no group can be cut any more (paper 000,
    appendix E; there the number is found by binary search, here all are tried).

    Raises:
        GroupingError: If not even the root can be cut.
    """
    levels: list[tuple[Group, ...]] = [(everything(points),)]
    for level in range(1, len(config.cut_groups)):
        finer = _cut_by_silhouette(points, levels[-1], level, config)
        if len(finer) == len(levels[-1]):
            break
        levels.append(finer)
    if len(levels) == 1:
        limits = config.adaptive
        raise GroupingError(
            f"the {len(points)} samples do not fall into groups of at least {limits.min_samples} "
            f"with a silhouette of {limits.min_silhouette}; give more or more varied samples, or "
            "lower adaptive.min_samples or adaptive.min_silhouette"
        )
    return Levels(groups=tuple(levels))


def _cut_by_silhouette(
    points: Points, groups: Sequence[Group], level: int, config: HierarchyConfig
) -> tuple[Group, ...]:
    left = config.cut_groups[level] - len(groups)
    found = {
        position: list(_scored_cuts(points, group, position, level, config))
        for position, group in enumerate(groups)
    }
    chosen: dict[int, tuple[Group, ...]] = {}
    for position in sorted(found, key=lambda p: -max((s for s, _ in found[p]), default=-1.0)):
        fitting = [scored for scored in found[position] if len(scored[1]) - 1 <= left]
        if fitting:
            chosen[position] = max(fitting, key=lambda scored: scored[0])[1]
            left -= len(chosen[position]) - 1
    return tuple(
        part
        for position, group in enumerate(groups)
        for part in chosen.get(position, (dataclasses.replace(group, parent=position),))
    )


def _scored_cuts(
    points: Points, group: Group, position: int, level: int, config: HierarchyConfig
) -> Iterator[tuple[float, tuple[Group, ...]]]:
    """Yield the silhouette and the parts of each cut of a group that is good enough."""
    limits = config.adaptive
    for num_parts in range(2, limits.max_parts + 1):
        seed = [level, position, num_parts]
        if len(group.rows) < num_parts * limits.min_samples:
            return
        parts = cut(points, group, num_parts, position=position, seed=seed, config=config).parts
        if parts is None or min(len(part.rows) for part in parts) < limits.min_samples:
            continue
        score = _silhouette(points, parts, config)
        if score >= limits.min_silhouette:
            yield score, parts


def _silhouette(points: Points, parts: Sequence[Group], config: HierarchyConfig) -> float:
    from sklearn.metrics import silhouette_score  # noqa: PLC0415 - a second to load

    rows = np.concatenate([part.rows for part in parts])
    labels = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
    if len(rows) > MAX_SILHOUETTE_SAMPLES:
        rng = np.random.default_rng(config.seed)
        kept = np.sort(rng.choice(len(rows), MAX_SILHOUETTE_SAMPLES, replace=False))
        rows, labels = rows[kept], labels[kept]
    return float(silhouette_score(points[rows], labels))


def _too_many(level: int, points: Points, config: HierarchyConfig) -> str:
    return (
        f"level {level} needs {config.cut_groups[level]} groups of at least "
        f"{config.min_group_samples} samples, but the {len(points)} samples do not fall into that "
        "many; give more or more varied samples, ask for fewer groups, or lower min_group_samples"
    )


METHODS: Mapping[str, Callable[[Points, HierarchyConfig], Levels]] = {
    "kmeans": shared_out,
    "spectral": shared_out,
    "bisecting": bisected,
    "adaptive": by_silhouette,
}
