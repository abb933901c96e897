"""Ways to cut one group of points into several, by name.

A cutter takes points [samples, dim] (float32), the number of groups, and its settings, and returns
the groups' centroids; a point then belongs to the nearest one. A further cutter is one function
and one line in `CUTTERS`.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from expertree.hierarchy.nearest import nearest, one_thread

NUM_NEIGHBOURS = 10
"""Neighbours of each point in the graph of spectral clustering; scikit-learn's default."""

SPECTRAL_SAMPLES = 5_000
"""Most points in the graph of a group; of a larger group a random sample is drawn. Finding their
neighbours takes a second and the eigenvectors another."""

Points = Float32[np.ndarray, "samples dim"]
Centroids = Float32[np.ndarray, "groups dim"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSettings:
    """Settings of one clustering, besides the points and the number of groups.

    Attributes:
        seed: Seed of the random choices; the same seed gives the same centroids.
        num_iterations: Most rounds of one attempt.
        num_restarts: Attempts from different starts; the best one counts.
        spherical: Whether to keep centroids at length 1, for the metric `cosine`.
    """

    seed: int
    num_iterations: int
    num_restarts: int
    spherical: bool


def kmeans(points: Points, num_groups: int, settings: ClusterSettings) -> Centroids:
    """Cut points by faiss k-means (the paper's method), k-means++ start, one thread."""
    import faiss  # noqa: PLC0415 - half a second to load

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


def spectral(points: Points, num_groups: int, settings: ClusterSettings) -> Centroids:
    """Cut points where their graph of neighbours is thin (paper 000, table K).

    The rows of the lowest eigenvectors of the normalised Laplacian are clustered by k-means. Where
    the graph falls into more pieces than groups are wanted, any union of pieces is a perfect cut,
    and near pieces are joined. A tree assigns samples by centroids, so the means of the groups are
    returned: a point on the border may lie nearer to another group's mean.
    """
    from sklearn.neighbors import kneighbors_graph  # noqa: PLC0415 - a second to load

    points = _draw(points, settings)
    graph = kneighbors_graph(points, min(NUM_NEIGHBOURS, len(points) - 1), include_self=True)
    pieces = _pieces(graph)
    if len(np.unique(pieces)) > num_groups:
        vectors = _means(points, pieces)[pieces]
    else:
        vectors = _eigenvectors(graph, num_groups, settings.seed)
    starts = kmeans(vectors, num_groups, dataclasses.replace(settings, spherical=False))
    centroids = _means(points, nearest(vectors, starts)[0])
    # A group without members takes the place of the first: it stays empty, and the cut is refused.
    centroids = centroids[np.arange(num_groups) % len(centroids)]
    if settings.spherical:
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(centroids)


def _eigenvectors(graph: Any, count: int, seed: int) -> Points:  # noqa: ANN401 - SciPy has no types
    from sklearn.manifold import spectral_embedding  # noqa: PLC0415 - a second to load

    with warnings.catch_warnings():
        # It warns where the graph falls apart, which is when the groups are clearest.
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        vectors = spectral_embedding(
            0.5 * (graph + graph.T),
            n_components=count,
            eigen_solver="arpack",
            random_state=seed % 2**32,
            drop_first=False,
        )
    return np.ascontiguousarray(vectors / np.abs(vectors).max(), dtype=np.float32)


def _pieces(graph: Any) -> Int64[np.ndarray, " samples"]:  # noqa: ANN401 - SciPy has no types
    """Return the connected piece of each point, numbered from 0."""
    first, second = graph.nonzero()
    lowest = np.arange(graph.shape[0])
    while True:
        before = lowest.copy()
        np.minimum.at(lowest, first, before[second])
        np.minimum.at(lowest, second, before[first])
        lowest = lowest[lowest]
        if np.array_equal(lowest, before):
            return np.unique(lowest, return_inverse=True)[1].astype(np.int64)


def _means(points: Points, labels: Int64[np.ndarray, " samples"]) -> Centroids:
    """Return the mean of the points of each label that occurs, in the order of the labels."""
    return np.stack([points[labels == label].mean(axis=0) for label in np.unique(labels)])


def _draw(points: Points, settings: ClusterSettings) -> Points:
    if len(points) <= SPECTRAL_SAMPLES:
        return points
    rng = np.random.default_rng(settings.seed)
    return points[np.sort(rng.choice(len(points), SPECTRAL_SAMPLES, replace=False))]


CUTTERS: Mapping[str, Callable[[Points, int, ClusterSettings], Centroids]] = {
    "kmeans": kmeans,
    "bisecting": kmeans,
    "spectral": spectral,
    "adaptive": kmeans,
}
"""The cutter of one group, by the name of the method that decides which groups are cut."""
