import numpy as np
import pytest

from expertree.embedding import picture
from expertree.embedding.picture import draw, sample_rows, separations


def clouds(num: int = 30) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    centres = 6 * rng.normal(size=(3, 8))
    labels = np.arange(3 * num) % 3
    points = centres[labels] + rng.normal(size=(3 * num, 8))
    return points.astype(np.float32), [("rain", "haze", "noise")[label] for label in labels]


def test_what_is_apart_stays_apart_in_both_projections_and_the_picture_repeats():
    points, labels = clouds()
    drawn, again = draw(points), draw(points)
    assert drawn.rows.tolist() == list(range(90))
    for places, other in ((drawn.pca, again.pca), (drawn.tsne, again.tsne)):
        assert places.shape == (90, 2)
        np.testing.assert_array_equal(places, other)
        distances = np.linalg.norm(places[:, None] - places[None], axis=2)
        np.fill_diagonal(distances, np.inf)
        assert [labels[row] for row in distances.argmin(axis=1)] == labels


def test_pca_is_the_projection_with_the_largest_variance():
    points, _ = clouds()
    standard = (points - points.mean(axis=0)) / points.std(axis=0)
    values = np.linalg.svd(standard, compute_uv=False)
    found = np.linalg.norm(draw(points).pca, axis=0)
    np.testing.assert_allclose(found, values[:2], rtol=1e-4)


def test_of_many_embeddings_a_fixed_number_is_drawn(monkeypatch):
    monkeypatch.setattr(picture, "MOST_POINTS", 12)
    points, _ = clouds()
    rows = draw(points, seed=1).rows
    assert len(set(rows.tolist())) == 12
    assert rows.tolist() == sorted(rows.tolist()) == sample_rows(90, seed=1).tolist()
    assert rows.tolist() != sample_rows(90, seed=2).tolist()


def test_a_few_embeddings_of_few_dimensions_still_make_a_picture():
    points = np.random.default_rng(0).normal(size=(4, 1)).astype(np.float32)
    assert np.isfinite(draw(points).tsne).all()
    with pytest.raises(ValueError, match="at least 4 embeddings, got 3"):
        draw(points[:3])


def test_separation_is_high_for_labels_that_are_apart_and_low_for_mixed_up_ones():
    points, labels = clouds()
    found = separations(points, labels)
    assert [(one.label, one.num_samples) for one in found] == [
        *(("rain", 30), ("haze", 30), ("noise", 30))
    ]
    assert all(one.purity == 1.0 and one.silhouette > 0.5 for one in found)
    shuffled = np.random.default_rng(1).permutation(labels).tolist()
    assert all(one.purity < 0.6 and one.silhouette < 0.1 for one in separations(points, shuffled))
    (alone,) = separations(points, ["rain"] * 90)
    assert (alone.silhouette, alone.purity) == (None, 1.0)
    with pytest.raises(ValueError, match="90 embeddings cannot be told apart by 2 labels"):
        separations(points, ["rain", "haze"])
