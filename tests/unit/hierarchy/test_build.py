import faiss
import numpy as np
import pytest
from sklearn.cluster import KMeans

from expertree.hierarchy import AdaptiveConfig, HierarchyConfig, assign, build_tree
from expertree.hierarchy.build import count_leaves, with_counts
from expertree.hierarchy.quality import nodes_at_level


def make_blobs(counts, spread=0.1, dim=16, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Points around random centres; returns them with the centre of each."""
    rng = np.random.default_rng(seed)
    centres = 5.0 * rng.normal(size=(len(counts), dim))
    labels = np.repeat(np.arange(len(counts)), counts)
    order = rng.permutation(len(labels))
    points = centres[labels] + spread * rng.normal(size=(len(labels), dim))
    return points[order].astype(np.float32), labels[order]


@pytest.mark.parametrize("method", ["kmeans", "bisecting", "spectral"])
def test_separate_blobs_become_the_leaves(method):
    points, labels = make_blobs([30] * 8)
    tree, leaves = build_tree(points, HierarchyConfig(method=method), extractor="abc")
    pairs = set(zip(labels.tolist(), leaves.tolist(), strict=True))
    assert len(pairs) == 8
    assert tree.num_leaves == 8
    assert tree.extractor == "abc"
    assert sum(node.num_samples for node in tree.nodes_of_level(2)) == 240


@pytest.mark.parametrize("method", ["kmeans", "bisecting", "spectral", "adaptive"])
@pytest.mark.parametrize("metric", ["l2", "cosine", "angular"])
def test_assigning_the_same_embeddings_gives_the_leaves_of_the_build(method, metric):
    points, _ = make_blobs([50] * 8, spread=2.0)
    adaptive = AdaptiveConfig(min_samples=20)
    config = HierarchyConfig(method=method, metric=metric, adaptive=adaptive)
    tree, leaves = build_tree(points, config, extractor="")
    np.testing.assert_array_equal(assign(tree, points), leaves)
    counts = [node.num_samples for node in tree.nodes_of_level(tree.num_levels - 1)]
    np.testing.assert_array_equal(np.bincount(leaves, minlength=tree.num_leaves), counts)
    assert min(counts) >= config.smallest_group
    lengths = np.linalg.norm(tree.centroids[1:], axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == (metric == "cosine")


def test_lengths_and_scales_of_dimensions_do_not_count_for_angles():
    points, _ = make_blobs([50] * 4, spread=1.0)
    config = HierarchyConfig(groups=(1, 4), metric="angular")
    tree, leaves = build_tree(points, config, extractor="")
    stretched = points * np.linspace(0.5, 3.0, len(points), dtype=np.float32)[:, None]
    np.testing.assert_array_equal(assign(tree, stretched), leaves)
    assert len(set(tree.std.tolist())) == 1
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    between, found = (
        np.linalg.norm(rows[:50] - rows[50:100], axis=1)
        for rows in (unit, tree.standardise(points))
    )
    np.testing.assert_allclose(found, between / tree.std[0], rtol=1e-4)


@pytest.mark.parametrize("method", ["kmeans", "bisecting", "spectral", "adaptive"])
def test_every_run_gives_the_same_tree_whatever_the_number_of_threads(method):
    points, _ = make_blobs([100] * 6, spread=2.0)
    config = HierarchyConfig(method=method, seed=3, adaptive=AdaptiveConfig(min_samples=40))
    before = faiss.omp_get_max_threads()
    results = []
    for num_threads in (1, 2, 2):
        faiss.omp_set_num_threads(num_threads)
        results.append(build_tree(points, config, extractor=""))
    assert faiss.omp_get_max_threads() == 2
    faiss.omp_set_num_threads(before)
    (tree, leaves), *others = results
    for other, other_leaves in others:
        assert other.nodes == tree.nodes
        np.testing.assert_array_equal(other.centroids, tree.centroids)
        np.testing.assert_array_equal(other_leaves, leaves)


def test_the_next_cut_goes_to_the_group_that_it_helps_most():
    rng = np.random.default_rng(0)
    wide = np.concatenate([[[-8.0, y]] * 40 for y in (-3.0, 0.0, 3.0)])
    narrow = np.asarray([[8.0, 0.0]] * 120)
    points = np.concatenate([wide, narrow]) + 0.05 * rng.normal(size=(240, 2))
    config = HierarchyConfig(groups=(1, 2, 4))
    tree, _ = build_tree(points.astype(np.float32), config, extractor="")
    shapes = sorted(len(node.children) for node in tree.nodes_of_level(1))
    assert shapes == [1, 3]
    assert len(tree.experts()) == 1 + 2 + 3


def test_greedy_allocation_matches_trying_every_allocation():
    points, _ = make_blobs([60, 25, 25, 60, 40], spread=1.5, dim=4, seed=2)
    config = HierarchyConfig(groups=(1, 3, 5), num_restarts=20)
    tree, leaves = build_tree(points, config, extractor="")
    standard = tree.standardise(points)
    groups = nodes_at_level(tree, leaves, 1)
    drops = {}
    for node in tree.nodes_of_level(1):
        members = standard[groups == node.index]
        sums = [_sum_of_squares(members, k) for k in (1, 2, 3)]
        drops[node.index] = (sums[0] - sums[1], sums[1] - sums[2])
    expected = dict.fromkeys(drops, 1)
    for _ in range(2):
        best = max(drops, key=lambda n: drops[n][expected[n] - 1])
        expected[best] += 1
    assert {n.index: len(n.children) for n in tree.nodes_of_level(1)} == expected


def _sum_of_squares(points: np.ndarray, num_groups: int) -> float:
    return KMeans(num_groups, n_init=20, random_state=0).fit(points).inertia_


def test_a_group_that_is_not_cut_keeps_its_centroid():
    points, _ = make_blobs([40] * 3)
    tree, _ = build_tree(points, HierarchyConfig(groups=(1, 2, 3)), extractor="")
    (single,) = [node for node in tree.nodes_of_level(1) if len(node.children) == 1]
    np.testing.assert_array_equal(tree.centroids[single.index], tree.centroids[single.children[0]])


def test_a_sample_is_fitted_and_everything_is_assigned():
    points, labels = make_blobs([200] * 4)
    config = HierarchyConfig(groups=(1, 4), fit_samples=100)
    tree, leaves = build_tree(points, config, extractor="")
    assert len(set(zip(labels.tolist(), leaves.tolist(), strict=True))) == 4
    assert tree.nodes[0].num_samples == 800


def test_a_constant_dimension_does_no_harm():
    points, _ = make_blobs([20] * 4)
    points[:, 3] = 7.0
    tree, _ = build_tree(points, HierarchyConfig(groups=(1, 4), metric="l2"), extractor="")
    assert tree.std[3] == 1.0
    assert np.isfinite(tree.centroids).all()


def test_outliers_join_the_nearest_group_instead_of_forming_one():
    points, labels = make_blobs([40] * 4)
    points[:3] += 500.0
    tree, leaves = build_tree(points, HierarchyConfig(groups=(1, 4)), extractor="")
    assert min(node.num_samples for node in tree.nodes_of_level(1)) >= 39 - 3
    assert len(set(zip(labels[3:].tolist(), leaves[3:].tolist(), strict=True))) == 4


def test_counts_can_be_taken_from_other_samples():
    points, _ = make_blobs([20] * 4)
    tree, _ = build_tree(points, HierarchyConfig(groups=(1, 2, 4)), extractor="")
    recounted = with_counts(tree, count_leaves(tree, np.asarray([0, 0, 3])))
    assert [n.num_samples for n in recounted.nodes_of_level(2)] == [2, 0, 0, 1]
    assert recounted.nodes[0].num_samples == 3


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((50, 4), np.float32), "8 groups of at least 8 samples need 64 samples, got 50"),
        (np.zeros((100, 4), np.float32), "level 1 needs 4 groups .* lower min_group_samples"),
        (np.zeros((100, 4)), r"float32 \[samples, dim\], got float64 \[100, 4\]"),
        (np.zeros(100, np.float32), r"got float32 \[100\]"),
        (np.full((100, 4), np.nan, np.float32), "embedding 0 is not finite"),
    ],
)
def test_embeddings_that_cannot_be_cut_are_refused_in_one_sentence(points, message):
    with pytest.raises(ValueError, match=message):
        build_tree(points, HierarchyConfig(), extractor="")


@pytest.mark.parametrize("method", ["kmeans", "bisecting", "spectral"])
def test_duplicates_that_fill_a_level_but_not_the_next_are_refused(method):
    points = np.repeat(np.eye(4, dtype=np.float32), 30, axis=0)
    with pytest.raises(ValueError, match="level 2 needs 8 groups"):
        build_tree(points, HierarchyConfig(method=method), extractor="")


@pytest.mark.parametrize("groups", [(), (0, 4), (1, 4, 4), (1, 8, 4)])
def test_a_shape_that_does_not_grow_is_refused(groups):
    with pytest.raises(ValueError, match="groups must grow from level to level"):
        HierarchyConfig(groups=groups)


def test_a_setting_below_one_is_refused():
    with pytest.raises(ValueError, match="num_restarts must be at least 1, got 0"):
        HierarchyConfig(num_restarts=0)
