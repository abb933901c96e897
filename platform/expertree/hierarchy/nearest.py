"""Find the nearest centroid of each point, by faiss on one thread."""

import contextlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int64


def nearest(
    points: Float32[np.ndarray, "samples dim"], centroids: Float32[np.ndarray, "groups dim"]
) -> tuple[Int64[np.ndarray, " samples"], Float32[np.ndarray, " samples"]]:
    """Return the nearest centroid of each point, by faiss, and its squared distance."""
    import faiss  # noqa: PLC0415 - half a second to load, and a restorer needs no tree's cut

    with one_thread():
        distances, indices = faiss.knn(points, np.ascontiguousarray(centroids), 1)
    return indices[:, 0], distances[:, 0]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run faiss on one thread, so that sums have one order and results do not vary."""
    import faiss  # noqa: PLC0415 - as above

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
