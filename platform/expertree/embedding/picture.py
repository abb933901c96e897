"""Project embeddings onto a plane, and measure how far apart degradations lie in them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int64
from threadpoolctl import threadpool_limits

MOST_POINTS = 2000
"""Most points of a picture: more would show no more, and t-SNE takes 4 s of one core for these."""

NUM_NEIGHBOURS = 10
_PRINCIPAL = 50
_TSNE_STEPS = 500
_LEAST_SPREAD = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Picture:
    """Embeddings projected onto a plane.

    Attributes:
        rows: Rows of the embeddings that are shown, ascending.
        pca: Their first two principal components.
        tsne: Their places by t-SNE: neighbours stay neighbours, distances mean little.
    """

    rows: Int64[np.ndarray, " points"]
    pca: Float32[np.ndarray, "points 2"]
    tsne: Float32[np.ndarray, "points 2"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Separation:
    """A measure of how far the samples of one label are from all others.

    Attributes:
        label: The label.
        num_samples: Number of samples with this label.
        silhouette: Their mean silhouette, in [-1, 1]; None where there is one label only, or no
            label occurs twice.
        purity: Share of their `NUM_NEIGHBOURS` nearest neighbours that carry the same label.
    """

    label: str
    num_samples: int
    silhouette: float | None
    purity: float


def draw(embeddings: Float[np.ndarray, "samples dim"], *, seed: int = 0) -> Picture:
    """Project embeddings onto a plane, by PCA and by t-SNE, after standardising each dimension.

    Args:
        embeddings: At least 4 of them; of more than `MOST_POINTS` a random sample is drawn.
        seed: Seed of the sample and of t-SNE. The same embeddings and seed give the same picture.

    Raises:
        ValueError: If there are fewer than 4 embeddings.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415 - a second to load
    from sklearn.manifold import TSNE  # noqa: PLC0415 - likewise

    if len(embeddings) < 4:
        raise ValueError(f"a picture needs at least 4 embeddings, got {len(embeddings)}")
    rows = sample_rows(len(embeddings), seed=seed)
    points = standardised(embeddings[rows])
    num_kept = min(_PRINCIPAL, *points.shape)
    kept = PCA(num_kept, svd_solver="full").fit_transform(points)
    flat = np.zeros((len(rows), 2))
    flat[:, : kept.shape[1]] = kept[:, :2]
    tsne = TSNE(
        2,
        init=flat / max(float(flat[:, 0].std()), _LEAST_SPREAD) * 1e-4,
        perplexity=min(30.0, (len(rows) - 1) / 3),
        max_iter=_TSNE_STEPS,
        random_state=seed,
    )
    # On busy cores its threads wait for one another ten times as long as they work.
    with threadpool_limits(1):
        places = tsne.fit_transform(kept.astype(np.float32))
    return Picture(rows=rows, pca=flat.astype(np.float32), tsne=places.astype(np.float32))


def separations(
    embeddings: Float[np.ndarray, "samples dim"], labels: Sequence[str], *, seed: int = 0
) -> tuple[Separation, ...]:
    """Return silhouette and purity by label, in the order in which labels first occur.

    Args:
        embeddings: One for each label; of more than `MOST_POINTS` a random sample is drawn.
        labels: Label of each embedding, for example its degradation.
        seed: Seed of the sample.

    Raises:
        ValueError: If there is not one label for each embedding, or there are fewer than two.
    """
    from sklearn.metrics import silhouette_samples  # noqa: PLC0415 - a second to load
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415 - likewise

    if len(embeddings) != len(labels) or len(labels) < 2:
        raise ValueError(
            f"{len(embeddings)} embeddings cannot be told apart by {len(labels)} labels"
        )
    rows = sample_rows(len(labels), seed=seed)
    points, own = standardised(embeddings[rows]), np.asarray(labels)[rows]
    names = list(dict.fromkeys(own.tolist()))
    defined = 1 < len(names) < len(own)
    scores = silhouette_samples(points, own) if defined else np.zeros(len(own))
    num_nearest = min(NUM_NEIGHBOURS, len(own) - 1)
    nearest = NearestNeighbors(n_neighbors=num_nearest).fit(points).kneighbors()[1]
    alike = (own[nearest] == own[:, None]).mean(axis=1)
    return tuple(
        Separation(
            label=name,
            num_samples=int((own == name).sum()),
            silhouette=float(scores[own == name].mean()) if defined else None,
            purity=float(alike[own == name].mean()),
        )
        for name in names
    )


def sample_rows(num_samples: int, *, seed: int) -> Int64[np.ndarray, " points"]:
    """Draw at most `MOST_POINTS` different rows, and return them ascending."""
    if num_samples <= MOST_POINTS:
        return np.arange(num_samples)
    chosen = np.random.default_rng(seed).choice(num_samples, MOST_POINTS, replace=False)
    return np.sort(chosen)


def standardised(
    embeddings: Float[np.ndarray, "samples dim"],
) -> Float[np.ndarray, "samples dim"]:
    """Bring each dimension to mean 0 and deviation 1, as the tree does (METHOD section 3)."""
    spread = np.maximum(embeddings.std(axis=0), _LEAST_SPREAD)
    return np.asarray((embeddings - embeddings.mean(axis=0)) / spread)
