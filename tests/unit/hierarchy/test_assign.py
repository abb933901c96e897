import numpy as np
import pytest

from expertree.hierarchy import HierarchyConfig, Tree, assign, build_tree, nearest
from expertree.hierarchy import assign as assign_function


def slow_assign(tree: Tree, embeddings: np.ndarray) -> list[int]:
    """One sample and one level at a time, distances in double precision."""
    leaves = []
    for point in tree.standardise(embeddings).astype(np.float64):
        node = tree.nodes[0]
        while node.children:
            distances = [np.sum((point - tree.centroids[c]) ** 2) for c in node.children]
            node = tree.nodes[node.children[int(np.argmin(distances))]]
        leaves.append(node.leaves[0])
    return leaves


@pytest.mark.parametrize("metric", ["l2", "cosine", "angular"])
@pytest.mark.parametrize("num_queries", [1, 19, 500])
def test_assignment_equals_brute_force(metric, num_queries):
    rng = np.random.default_rng(0)
    config = HierarchyConfig(groups=(1, 3, 7, 10), metric=metric)
    tree, _ = build_tree(rng.normal(size=(800, 24)).astype(np.float32), config, extractor="")
    queries = (1.5 * rng.normal(size=(num_queries, 24))).astype(np.float32)
    assert assign(tree, queries).tolist() == slow_assign(tree, queries)


def test_nearest_gives_index_and_squared_distance():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(300, 12)).astype(np.float32)
    centroids = rng.normal(size=(9, 12)).astype(np.float32)
    table = ((points[:, None].astype(np.float64) - centroids[None]) ** 2).sum(-1)
    indices, distances = nearest(points, centroids)
    np.testing.assert_array_equal(indices, table.argmin(1))
    np.testing.assert_allclose(distances, table.min(1), rtol=1e-4, atol=1e-4)


def test_chunks_do_not_change_the_result(monkeypatch):
    points = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    tree, leaves = build_tree(points, HierarchyConfig(), extractor="")
    monkeypatch.setitem(assign_function.__globals__, "CHUNK_ROWS", 7)
    np.testing.assert_array_equal(assign(tree, points), leaves)


def test_no_embeddings_have_no_leaves():
    points = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    tree, _ = build_tree(points, HierarchyConfig(), extractor="")
    assert assign(tree, points[:0]).shape == (0,)


def test_an_embedding_that_is_not_finite_is_refused():
    points = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    tree, _ = build_tree(points, HierarchyConfig(), extractor="")
    points[5, 2] = np.inf
    with pytest.raises(ValueError, match="embedding 5 is not finite"):
        assign(tree, points)
