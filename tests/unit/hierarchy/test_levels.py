import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.metrics import adjusted_rand_score, silhouette_score

from expertree.hierarchy import AdaptiveConfig, HierarchyConfig, Tree, assign, build_tree
from expertree.hierarchy.clustering import ClusterSettings, kmeans, spectral
from expertree.hierarchy.nearest import nearest
from expertree.hierarchy.quality import nodes_at_level

SETTINGS = ClusterSettings(seed=0, num_iterations=50, num_restarts=5, spherical=False)


def make_blobs(counts, spread, dim=16, seed=0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    points = 5 * rng.normal(size=(len(counts), dim))[labels]
    return (points + spread * rng.normal(size=points.shape)).astype(np.float32), labels


def groups_of(tree: Tree, leaves: np.ndarray, level: int) -> set[frozenset[int]]:
    """The groups of a level as sets of samples."""
    nodes = nodes_at_level(tree, leaves, level)
    return {frozenset(np.flatnonzero(nodes == node).tolist()) for node in np.unique(nodes)}


def bisect(points: np.ndarray, shape: tuple[int, ...], **changes):
    config = HierarchyConfig(method="bisecting", groups=shape, min_group_samples=2, **changes)
    return build_tree(points, config, extractor="")


@pytest.mark.parametrize("metric", ["l2", "cosine", "angular"])
def test_shapes_of_bisecting_hold_the_same_samples_in_their_groups(metric):
    points = np.random.default_rng(0).normal(size=(900, 8)).astype(np.float32)
    found: dict[int, list[set[frozenset[int]]]] = {}
    for shape in ((1, 4), (1, 8), (1, 4, 8), (1, 2, 4, 8), (1, 3, 16)):
        tree, leaves = bisect(points, shape, metric=metric, fit_samples=500)
        for level, count in enumerate(shape):
            found.setdefault(count, []).append(groups_of(tree, leaves, level))
    for count, versions in found.items():
        assert all(len(version) == count for version in versions)
        assert all(version == versions[0] for version in versions)
    for fine, coarse in ((16, 8), (8, 4), (4, 3), (3, 2)):
        assert all(any(a <= b for b in found[coarse][0]) for a in found[fine][0])


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=3, unique=True),
    metric=st.sampled_from(["l2", "cosine", "angular"]),
)
def test_a_new_embedding_reaches_the_same_group_whatever_the_shape(seed, sizes, metric):
    rng = np.random.default_rng(seed)
    points = (rng.normal(size=(150, 4)) * rng.uniform(0.1, 3, size=4)).astype(np.float32)
    new = (3 * rng.normal(size=(200, 4))).astype(np.float32)
    shape = (1, *sorted(sizes))
    tree, _ = bisect(points, shape, metric=metric)
    alone, _ = bisect(points, (1, shape[1]), metric=metric)
    assert groups_of(tree, assign(tree, new), 1) == groups_of(alone, assign(alone, new), 1)


def test_the_splits_are_those_that_lower_the_sum_of_squares_most():
    points, _ = make_blobs([60, 40, 50, 30, 45, 35], spread=1.5, dim=6)
    tree, leaves = bisect(points, (1, 2, 3, 4, 5, 6), num_restarts=20)
    standard = tree.standardise(points)
    expected = {frozenset(range(len(points)))}
    for level in range(1, 6):
        drops = {}
        for group in expected:
            rows = np.asarray(sorted(group))
            halves = KMeans(2, n_init=20, random_state=0).fit(standard[rows])
            whole = KMeans(1, n_init=1).fit(standard[rows])
            parts = [frozenset(rows[halves.labels_ == half].tolist()) for half in (0, 1)]
            drops[group] = (whole.inertia_ - halves.inertia_, parts)
        best = max(drops, key=lambda group: drops[group][0])
        expected = (expected - {best}) | set(drops[best][1])
        assert groups_of(tree, leaves, level) == expected


def test_spectral_cuts_along_a_gap_that_k_means_does_not_see():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    along, across = np.tile(np.linspace(0, 20, 200), 2), 0.2 * rng.normal(size=400)
    points = np.stack([along, 2 * labels + across], axis=1).astype(np.float32)
    agreement = [
        adjusted_rand_score(labels, nearest(points, cut(points, 2, SETTINGS))[0])
        for cut in (kmeans, spectral)
    ]
    assert agreement[0] < 0.1
    assert agreement[1] == 1.0


def test_spectral_agrees_with_that_of_scikit_learn():
    points, _ = make_blobs([80, 60, 40, 70], spread=4.0)
    slow = SpectralClustering(4, affinity="nearest_neighbors", random_state=0).fit_predict(points)
    fast = nearest(points, spectral(points, 4, SETTINGS))[0]
    assert adjusted_rand_score(slow, fast) > 0.97


def test_spectral_joins_near_pieces_where_the_graph_falls_into_more_than_are_wanted():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    centres = np.asarray([[0, 0], [0, 3], [20, 0], [20, 3]])
    points = (centres[labels] + 0.1 * rng.normal(size=(160, 2))).astype(np.float32)
    found = nearest(points, spectral(points, 2, SETTINGS))[0]
    assert adjusted_rand_score(labels // 2, found) == 1.0


def test_spectral_looks_at_a_sample_of_a_large_group(monkeypatch):
    monkeypatch.setitem(spectral.__globals__, "SPECTRAL_SAMPLES", 100)
    points, labels = make_blobs([200] * 3, spread=0.5)
    assert adjusted_rand_score(labels, nearest(points, spectral(points, 3, SETTINGS))[0]) == 1.0


def adapt(points: np.ndarray, shape: tuple[int, ...], **limits) -> tuple[Tree, np.ndarray]:
    config = HierarchyConfig(method="adaptive", groups=shape, adaptive=AdaptiveConfig(**limits))
    return build_tree(points, config, extractor="")


def test_adaptive_finds_as_many_groups_as_there_are_and_then_no_further_level():
    points, labels = make_blobs([40] * 5, spread=0.5)
    tree, leaves = adapt(points, (1, 6, 20, 40), min_samples=20)
    assert tree.groups == (1, 5)
    assert adjusted_rand_score(labels, leaves) == 1.0


def test_adaptive_cuts_groups_of_groups_on_two_levels():
    rng = np.random.default_rng(0)
    coarse, fine = 20 * np.eye(3), 3 * np.eye(3)
    labels = list(itertools.product(range(3), range(3))) * 30
    points = np.asarray([coarse[i] + fine[j] for i, j in labels])
    points = (points + 0.1 * rng.normal(size=points.shape)).astype(np.float32)
    tree, _ = adapt(points, (1, 6, 12), min_samples=20)
    assert tree.groups == (1, 3, 9)


def test_adaptive_takes_the_number_of_parts_with_the_best_silhouette():
    points, _ = make_blobs([80, 40, 50, 30, 60], spread=3.0, dim=4, seed=1)
    tree, leaves = adapt(points, (1, 6), min_samples=10)
    standard = tree.standardise(points)
    scores = {
        k: silhouette_score(standard, KMeans(k, n_init=20, random_state=0).fit_predict(standard))
        for k in range(2, 7)
    }
    assert tree.num_leaves == max(scores, key=lambda k: scores[k])
    assert silhouette_score(standard, leaves) == pytest.approx(max(scores.values()), abs=0.01)


def test_adaptive_keeps_to_the_most_groups_and_the_fewest_samples():
    points, _ = make_blobs([60] * 5 + [12], spread=0.5)
    assert adapt(points, (1, 3), min_samples=20)[0].groups == (1, 3)
    assert adapt(points, (1, 6), min_samples=20)[0].groups == (1, 5)
    assert adapt(points, (1, 6), min_samples=10)[0].groups == (1, 6)


def test_adaptive_says_that_a_round_cloud_has_no_groups():
    points = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
    with pytest.raises(
        ValueError, match=r"do not fall into groups .* silhouette of 0\.1; .* lower"
    ):
        adapt(points, (1, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_parts": 1}, "max_parts must be at least 2"),
        ({"min_silhouette": 1.0}, "below 1, got 1.0"),
    ],
)
def test_limits_that_allow_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveConfig(**changes)


def test_adaptive_without_a_level_to_cut_is_refused():
    with pytest.raises(ValueError, match="nothing to cut; add a level"):
        HierarchyConfig(method="adaptive", groups=(1,))
