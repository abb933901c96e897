"""Settings for cutting embeddings into a hierarchy."""

import dataclasses
from typing import Literal

from expertree.hierarchy.tree import Metric, check_growing


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveConfig:
    """Settings of `method=adaptive`, in which the data decide how many groups there are.

    Paper 000, appendix E.
    """

    max_parts: int = 6
    """Most parts of a group; the silhouette chooses a number from 2 to this. The paper's list."""

    min_samples: int = 200
    """Fewest fitted samples in a group; the paper's number."""

    min_silhouette: float = 0.1
    """Lowest silhouette of a cut; a group whose best cut scores less stays whole."""

    def __post_init__(self) -> None:
        """Raise ValueError for too few parts or samples, or a silhouette outside of [-1, 1)."""
        if self.max_parts < 2 or self.min_samples < 1:
            raise ValueError(
                f"max_parts must be at least 2 and min_samples at least 1, got {self.max_parts} "
                f"and {self.min_samples}"
            )
        if not -1 <= self.min_silhouette < 1:
            raise ValueError(
                f"min_silhouette must be at least -1 and below 1, got {self.min_silhouette}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HierarchyConfig:
    """Settings for cutting embeddings into a tree."""

    groups: tuple[int, ...] = (1, 4, 8)
    """Number of groups on each level, coarse to fine; the paper's small tree. With `adaptive`, the
    most groups on each level; the data decide how many there are, and how many levels. A tree whose
    shape does not begin with 1, such as 4, 8, has a root too, but its routers never choose the
    root's expert (paper 000, table 8)."""

    method: Literal["kmeans", "bisecting", "spectral", "adaptive"] = "kmeans"
    """How groups are cut: `kmeans` top-down (the paper); `bisecting`, cuts of one dendrogram, so
    that all shapes share groups; `spectral` top-down; `adaptive`, k-means with the number of parts
    by silhouette."""

    metric: Metric = "angular"
    """Distance between embeddings: `angular` of those scaled to length 1, as the extractor's loss
    compares them; `l2` (the paper's) and `cosine` of those standardised by dimension, which lifts
    dimensions that say what is on a picture: groups are then less of one degradation
    (docs/LOG.md)."""

    seed: int = 0
    """Seed of the sample and of each clustering."""

    num_iterations: int = 50
    """Most rounds of one k-means attempt."""

    num_restarts: int = 5
    """Attempts for each cut; the best is kept, because k-means stops in local minima."""

    fit_samples: int = 100_000
    """Most embeddings that centroids are fitted on; of more a random sample is drawn, and the
    others are only assigned. 100,000 of 512 floats are 195 MiB."""

    min_group_samples: int = 8
    """Fewest fitted samples in a group: an expert needs at least one batch. Fewer samples that lie
    apart are outliers, which join the nearest group."""

    adaptive: AdaptiveConfig = AdaptiveConfig()
    """Settings of `method=adaptive`."""

    def __post_init__(self) -> None:
        """Raise ValueError for groups that do not grow, a number below 1, or nothing to cut."""
        check_growing(self.groups)
        for name in ("num_iterations", "num_restarts", "fit_samples", "min_group_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.method == "adaptive" and len(self.cut_groups) == 1:
            raise ValueError("groups=[1] leaves method=adaptive nothing to cut; add a level")

    @property
    def has_root(self) -> bool:
        """Whether routers may choose the root's expert."""
        return self.groups[0] == 1

    @property
    def cut_groups(self) -> tuple[int, ...]:
        """Number of groups on each level of the tree, which always begins with the root."""
        return self.groups if self.has_root else (1, *self.groups)

    @property
    def fewest_groups(self) -> int:
        """The fewest groups that the finest level may have."""
        if self.method == "adaptive":
            return 2
        return self.groups[-1]

    @property
    def smallest_group(self) -> int:
        """The fewest fitted samples that a group may have."""
        if self.method == "adaptive":
            return max(self.adaptive.min_samples, self.min_group_samples)
        return self.min_group_samples

    @property
    def fewest_samples(self) -> int:
        """The fewest samples that can be cut into a hierarchy."""
        return self.fewest_groups * self.smallest_group
