"""How a hierarchy is cut: the settings."""

import dataclasses
from typing import Literal

from expertree.hierarchy.tree import Metric, check_growing


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveConfig:
    """Where the data say how many groups there are (paper 000, appendix E)."""

    max_parts: int = 6
    """A group is cut into 2 to this many parts; the silhouette chooses. The paper's list."""

    min_samples: int = 200
    """No group is smaller, in fitted samples; the paper's number."""

    min_silhouette: float = 0.1
    """A group whose best cut scores less stays whole."""

    def __post_init__(self) -> None:
        """Check the values."""
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
    """How the hierarchy is cut."""

    groups: tuple[int, ...] = (1, 4, 8)
    """Number of groups on each level, coarse to fine; the paper's small tree. With `adaptive`, the
    most that a level may have: how many there are, and how many levels, is up to the data. A shape
    that does not begin with 1, such as 4, 8, is cut from everything too, but its routers never
    choose the expert for everything (paper 000, table 8)."""

    method: Literal["kmeans", "bisecting", "spectral", "adaptive"] = "kmeans"
    """How groups are cut: `kmeans` top-down (the paper); `bisecting`, cuts of one dendrogram, so
    that all shapes share groups; `spectral` top-down; `adaptive`, k-means with the number of parts
    by silhouette."""

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

    adaptive: AdaptiveConfig = AdaptiveConfig()
    """For `method=adaptive`."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_growing(self.groups)
        for name in ("num_iterations", "num_restarts", "fit_samples", "min_group_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.method == "adaptive" and len(self.cut_groups) == 1:
            raise ValueError("groups=[1] leaves method=adaptive nothing to cut; add a level")

    @property
    def has_root(self) -> bool:
        """Whether routers may choose the expert for everything."""
        return self.groups[0] == 1

    @property
    def cut_groups(self) -> tuple[int, ...]:
        """Number of groups on each level of the tree, which always begins with everything."""
        return self.groups if self.has_root else (1, *self.groups)

    @property
    def fewest_groups(self) -> int:
        """Groups on the finest level, at least."""
        if self.method == "adaptive":
            return 2
        return self.groups[-1]

    @property
    def smallest_group(self) -> int:
        """Fitted samples in each group, at least."""
        if self.method == "adaptive":
            return max(self.adaptive.min_samples, self.min_group_samples)
        return self.min_group_samples

    @property
    def fewest_samples(self) -> int:
        """Samples without which it cannot be cut."""
        return self.fewest_groups * self.smallest_group
