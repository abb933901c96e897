import dataclasses

import numpy as np
import pytest

from expertree.errors import GroupingError
from expertree.hierarchy import (
    GrowthLimits,
    HierarchyConfig,
    Tree,
    assign,
    build_tree,
    grow,
)
from expertree.hierarchy.grow import Growth, add_leaf, leaf_radii

DIM = 16
CENTRES = 6.0 * np.random.default_rng(7).normal(size=(5, DIM))
ASIDE = np.random.default_rng(8).normal(size=(5, DIM))
CENTRES = np.concatenate([CENTRES, CENTRES + 14 * ASIDE / np.linalg.norm(ASIDE, axis=1)[:, None]])
BESIDE = 5
"""Added to a cloud's number: a new cloud, 14 deviations away, with that one as the nearest."""
LIMITS = GrowthLimits(min_samples=40)


def clouds(*numbers: int, count: int = 150, spread: float = 1.0, seed: int = 0) -> np.ndarray:
    """Round clouds around the centres of these numbers, one after the other."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(CENTRES[list(numbers)], count, axis=0)
    return (centres + spread * rng.normal(size=centres.shape)).astype(np.float32)


def built(method: str = "kmeans", groups=(1, 2, 5), metric: str = "l2") -> tuple[Tree, np.ndarray]:
    known = clouds(0, 1, 2, 3, 4)
    config = HierarchyConfig(method=method, groups=groups, metric=metric)
    tree, _ = build_tree(known, config, extractor="x")
    return tree, known


def leaf_of(tree: Tree, number: int) -> int:
    """The leaf that most of a cloud goes to."""
    return int(np.bincount(assign(tree, clouds(number, seed=9))).argmax())


def check_that_the_old_stays(old: Tree, growth: Growth, known: np.ndarray) -> None:
    tree = growth.tree
    for node in old.nodes:
        now = growth.nodes[node.index]
        np.testing.assert_array_equal(tree.centroids[now], old.centroids[node.index])
        assert tree.nodes[now].level == node.level
        if node.parent is not None:
            assert tree.nodes[now].parent == growth.nodes[node.parent]
        assert tree.expert_of(now) == growth.nodes[old.expert_of(node.index)]
    assert {growth.nodes[e] for e in old.experts()} | set(growth.sibling_of) == set(tree.experts())
    before, after = growth.leaves_of(old)[assign(old, known)], assign(tree, known)
    changed = after[before != after]
    assert set(changed.tolist()) <= set(growth.leaves)
    assert len(changed) <= 0.05 * len(known)


@pytest.mark.parametrize("method", ["kmeans", "bisecting", "spectral"])
@pytest.mark.parametrize("metric", ["l2", "cosine", "angular"])
def test_a_new_cluster_gets_exactly_one_leaf_and_the_old_nodes_stay(method, metric):
    old, known = built(method, metric=metric)
    new = clouds(0, 3, BESIDE + 1, count=120, seed=1)
    growth = grow(old, known, new, LIMITS)
    assert len(growth.leaves) == len(growth.sibling_of) == 1
    assert growth.tree.num_leaves == old.num_leaves + 1
    check_that_the_old_stays(old, growth, known)
    leaves = assign(growth.tree, new)
    assert (leaves[240:] == growth.leaves[0]).mean() > 0.95
    assert (leaves[:240] != growth.leaves[0]).mean() > 0.95
    (first,) = growth.sibling_of
    count = growth.tree.nodes[first].num_samples
    assert count == (leaves == growth.leaves[0]).sum()
    assert growth.tree.nodes[0].num_samples == len(known) + count


@pytest.mark.parametrize("method", ["kmeans", "bisecting"])
def test_where_nothing_is_new_the_tree_is_the_same(method):
    old, known = built(method)
    growth = grow(old, known, clouds(0, 1, 2, 3, 4, count=1000, seed=1), LIMITS)
    assert growth.tree is old
    assert growth.nodes == {node.index: node.index for node in old.nodes}
    assert growth.leaves == ()


def test_too_few_new_samples_are_assigned_to_what_there_is():
    old, known = built()
    assert grow(old, known, clouds(BESIDE, count=39, seed=1), LIMITS).tree is old
    assert grow(old, known, clouds(BESIDE, count=60, seed=1), LIMITS).tree is not old


def test_two_new_clusters_get_two_leaves_even_where_one_leaf_had_them_both():
    old, known = built()
    far = 12.0 * CENTRES[0] / np.linalg.norm(CENTRES[0])
    side = np.zeros(DIM)
    side[np.abs(CENTRES[0]).argmin()] = 12.0
    rng = np.random.default_rng(5)
    ones, others = (
        (CENTRES[0] + far + way * side + rng.normal(size=(100, DIM))).astype(np.float32)
        for way in (1, -1)
    )
    assert len(set(assign(old, np.concatenate([ones, others])).tolist())) == 1
    growth = grow(old, known, np.concatenate([ones, others]), LIMITS)
    check_that_the_old_stays(old, growth, known)
    found = [set(assign(growth.tree, points).tolist()) for points in (ones, others)]
    assert sorted(found, key=min) == [{leaf} for leaf in sorted(growth.leaves)]


def test_a_leaf_that_reaches_further_to_one_side_gets_a_leaf_there():
    old, known = built()
    direction = (CENTRES[1] - CENTRES[0]) / np.linalg.norm(CENTRES[1] - CENTRES[0])
    away = (clouds(0, count=200, seed=2) - 7.0 * direction).astype(np.float32)
    growth = grow(old, known, np.concatenate([clouds(0, count=200, seed=3), away]), LIMITS)
    assert len(growth.leaves) == 1
    check_that_the_old_stays(old, growth, known)
    assert (assign(growth.tree, away) == growth.leaves[0]).mean() > 0.95


def test_a_leaf_that_is_wider_on_all_sides_stays_because_any_cut_would_take_old_samples():
    old, known = built()
    wide = clouds(0, count=600, spread=1.6, seed=2)
    leaf = leaf_of(old, 0)
    distances = np.linalg.norm(old.standardise(wide) - old.leaf_centroids[leaf], axis=1)
    assert (distances > leaf_radii(old, known, 0.99)[leaf]).sum() > LIMITS.min_samples
    assert grow(old, known, wide, LIMITS).tree is old


def chain_leaf(tree: Tree) -> int:
    """A leaf whose group was not cut on the level above."""
    (leaf,) = [node.leaves[0] for node in tree.nodes_of_level(1) if len(node.children) == 1]
    return leaf


@pytest.mark.parametrize("method", ["kmeans", "bisecting"])
def test_beside_a_chain_the_new_leaf_has_a_chain_of_its_own_and_no_expert_is_split(method):
    known = np.concatenate([clouds(0, 1), 8 * clouds(2)])
    config = HierarchyConfig(method=method, groups=(1, 2, 3))
    old, _ = build_tree(known, config, extractor="x")
    leaf = chain_leaf(old)
    points = known[assign(old, known) == leaf]
    step = 12.0 * points.std(axis=0) * np.sign(points.mean(axis=0))
    growth = grow(old, known, (points + step).astype(np.float32), LIMITS)
    assert growth.tree.groups == (1, 3, 4)
    check_that_the_old_stays(old, growth, known)
    (added,) = growth.sibling_of
    assert growth.tree.levels_of_expert(added) == (1, 2)
    assert growth.tree.levels_of_expert(growth.sibling_of[added]) == (1, 2)


def test_numbers_of_new_nodes_keep_children_beside_each_other():
    tree, _ = built(groups=(1, 2, 5))
    centroid = np.ones(DIM, np.float32)
    growth = add_leaf(tree, 0, centroid)
    again = growth.then(add_leaf(growth.tree, int(growth.leaves_of(tree)[0]), -centroid))
    for node in again.tree.nodes:
        assert list(np.diff(node.children)) == [1] * (len(node.children) - 1) or not node.children
    assert again.tree.groups == (1, 2, 7)
    assert [again.tree.centroids[n][0] for n in sorted(again.sibling_of)] == [1.0, -1.0]
    assert len(set(again.sibling_of.values())) == 1
    assert set(again.nodes.values()).isdisjoint(again.sibling_of)


def test_a_grown_tree_can_grow_again():
    old, known = built("bisecting")
    first = grow(old, known, clouds(BESIDE, seed=1), LIMITS)
    more = np.concatenate([known, clouds(BESIDE, seed=1)])
    second = grow(first.tree, more, clouds(BESIDE, BESIDE + 3, seed=2), LIMITS)
    assert second.tree.num_leaves == old.num_leaves + 2
    check_that_the_old_stays(first.tree, second, more)


def test_radii_are_the_quantile_of_each_leaf_and_infinite_without_samples():
    tree, known = built()
    leaf = leaf_of(tree, 0)
    radii = leaf_radii(tree, known, 0.9)
    distances = np.linalg.norm(tree.standardise(known) - tree.leaf_centroids[leaf], axis=1)
    assert (distances[assign(tree, known) == leaf] <= radii[leaf]).mean() == pytest.approx(
        0.9, abs=0.01
    )
    few = known[assign(tree, known) == leaf]
    assert np.isinf(np.delete(leaf_radii(tree, few, 0.9), leaf)).all()


def test_a_tree_of_one_group_cannot_grow():
    known = clouds(0)
    tree, _ = build_tree(known, HierarchyConfig(groups=(1,)), extractor="x")
    with pytest.raises(GroupingError, match="a tree of one group cannot grow"):
        grow(tree, known, known, LIMITS)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"quantile": 1.0}, r"quantile must lie in \(0, 1\), got 1.0"),
        ({"min_samples": 0}, "min_samples must be at least 1, got 0"),
        ({"max_moved": -0.1}, r"max_moved must lie in \[0, 1\), got -0.1"),
    ],
)
def test_limits_that_cannot_work_are_refused(limits, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LIMITS, **limits)
