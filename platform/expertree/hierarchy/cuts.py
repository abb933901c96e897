"""Cut one group into parts, by k-means or spectral clustering."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64

from expertree.hierarchy.clustering import CUTTERS, ClusterSettings
from expertree.hierarchy.config import HierarchyConfig
from expertree.hierarchy.nearest import nearest


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Group:
    """Samples of one node while the tree grows.

    Attributes:
        rows: Rows of these samples among all standardised samples.
        centroid: Centroid of the group, float32 [dim].
        parent: Position of the group it was cut from, on the level above.
    """

    rows: Int64[np.ndarray, " members"]
    centroid: Float32[np.ndarray, " dim"]
    parent: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cut:
    """One group cut into a number of parts, largest first; `parts` is None if it cannot be done."""

    parts: tuple[Group, ...] | None
    sum_of_squares: float


def everything(points: Float32[np.ndarray, "sample dim"]) -> Group:
    """Return the root's group, which holds all points."""
    return Group(rows=np.arange(len(points)), centroid=points.mean(axis=0), parent=0)


def cut(
    points: Float32[np.ndarray, "sample dim"],
    group: Group,
    num_parts: int,
    *,
    position: int,
    seed: Sequence[int],
    config: HierarchyConfig,
) -> Cut:
    """Cut a group into a number of parts.

    Args:
        points: All standardised samples.
        group: The group to cut.
        num_parts: Number of parts; 1 gives the group itself.
        position: Position of the group on its level, the `parent` of the parts.
        seed: Numbers that make this cut's random choices different from those of others.
        config: Method and settings.
    """
    members = points[group.rows]
    settings = ClusterSettings(
        seed=int(np.random.SeedSequence([config.seed, *seed]).generate_state(1)[0] >> 1),
        num_iterations=config.num_iterations,
        num_restarts=config.num_restarts,
        spherical=config.metric == "cosine",
    )
    centroids = (
        group.centroid[None] if num_parts == 1 else _fit(members, num_parts, config, settings)
    )
    if centroids is None:
        return Cut(parts=None, sum_of_squares=np.inf)
    labels, distances = nearest(members, centroids)
    parts = tuple(
        Group(rows=group.rows[labels == part], centroid=centroids[part], parent=position)
        for part in np.argsort(-np.bincount(labels, minlength=num_parts), kind="stable")
    )
    return Cut(parts=parts, sum_of_squares=float(distances.sum(dtype=np.float64)))


def gain(coarse: Cut, fine: Cut) -> float:
    """Return how much the finer of two cuts of a group lowers the sum of squares."""
    return -np.inf if fine.parts is None else coarse.sum_of_squares - fine.sum_of_squares


def _fit(
    members: Float32[np.ndarray, "members dim"],
    num_parts: int,
    config: HierarchyConfig,
    settings: ClusterSettings,
) -> Float32[np.ndarray, "parts dim"] | None:
    """Return centroids whose groups all have enough members; None if there are none.

    Members that would form a group too small for an expert are outliers: the centroids are fitted
    again without them, and in the end they join the nearest group.
    """
    smallest = config.min_group_samples
    while len(members) >= num_parts * smallest:
        centroids = CUTTERS[config.method](members, num_parts, settings)
        labels = nearest(members, centroids)[0]
        too_small = np.bincount(labels, minlength=num_parts) < smallest
        if not too_small.any():
            return centroids
        outliers = too_small[labels]
        if not outliers.any():
            return None
        members = members[~outliers]
    return None
