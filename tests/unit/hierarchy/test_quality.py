import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from expertree.hierarchy import HierarchyConfig, build_tree, compositions, purity, silhouettes


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 25)
    points = (4 * rng.normal(size=(8, 16)))[labels] + 0.3 * rng.normal(size=(200, 16))
    points = points.astype(np.float32)
    tree, leaves = build_tree(points, HierarchyConfig(), extractor="")
    return tree, points, leaves, [f"task {label}" for label in labels]


def test_silhouette_is_scored_on_each_level_that_has_groups(blobs):
    tree, points, leaves, _ = blobs
    scores = silhouettes(tree, points, leaves)
    assert scores[0] is None
    assert scores[2] == pytest.approx(silhouette_score(tree.standardise(points), leaves))
    assert scores[2] > scores[1] > 0.2


def test_silhouette_of_a_sample_is_close_to_that_of_everything(blobs):
    tree, points, leaves, _ = blobs
    whole, sampled = (silhouettes(tree, points, leaves, max_samples=n)[2] for n in (1000, 120))
    assert sampled == pytest.approx(whole, abs=0.05)


def test_compositions_list_the_labels_of_a_node_most_frequent_first(blobs):
    tree, _, leaves, labels = blobs
    found = compositions(tree, leaves, labels)
    assert [c.node for c in found] == [node.index for node in tree.nodes]
    assert [c.num_samples for c in found] == [node.num_samples for node in tree.nodes]
    assert len(found[0].shares) == 8
    assert all(len(c.shares) == 1 and c.shares[0][1] == 1.0 for c in found[-8:])


def test_purity_counts_the_most_frequent_label_of_each_group(blobs):
    tree, _, leaves, labels = blobs
    assert purity(tree, leaves, labels) == pytest.approx((1 / 8, 4 / 8, 1.0))


def test_a_level_where_all_samples_share_a_group_has_no_silhouette(blobs):
    tree, points, leaves, _ = blobs
    same = leaves == leaves[0]
    assert silhouettes(tree, points[same], leaves[same]) == (None, None, None)
