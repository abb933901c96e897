"""Ways to cut one group of points into several, by name.

A method takes points [samples, dim] (float32), the number of groups, and its settings, and returns
the groups' centroids; a point then belongs to the nearest one. A further method is one function
and one line in `METHODS`.
"""

import dataclasses
from collections.abc import Callable, Mapping

import faiss
import numpy as np
from jaxtyping import Float32

from expertree.hierarchy.assign import one_thread

Points = Float32[np.ndarray, "samples dim"]
Centroids = Float32[np.ndarray, "groups dim"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSettings:
    """What a clustering method may use besides the points.

    Attributes:
        seed: Of its random choices; the same seed gives the same centroids.
        num_iterations: Most rounds of one attempt.
        num_restarts: Attempts from different starts; the best one counts.
        spherical: Keep centroids at length 1, for the metric `cosine`.
    """

    seed: int
    num_iterations: int
    num_restarts: int
    spherical: bool


def kmeans(points: Points, num_groups: int, settings: ClusterSettings) -> Centroids:
    """Cut points by faiss k-means (the paper's method), k-means++ start, one thread."""
    clusterer = faiss.Kmeans(
        points.shape[1],
        num_groups,
        niter=settings.num_iterations,
        nredo=settings.num_restarts,
        seed=settings.seed,
        spherical=settings.spherical,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
        gpu=False,
    )
    with one_thread():
        clusterer.train(points)
    return np.ascontiguousarray(clusterer.centroids, dtype=np.float32)


METHODS: Mapping[str, Callable[[Points, int, ClusterSettings], Centroids]] = {"kmeans": kmeans}
