"""Choices from logits: masks, forced levels and experts, chains."""

import dataclasses
import math

import pytest
import torch

from expertree.hierarchy import Tree
from expertree.routing import (
    Guide,
    Router,
    RouterOutput,
    RouterShape,
    Wish,
    choose,
    decide,
    level_of_confidence,
)


def output(leaf_logits: list[list[float]], level_logits: list[list[float]]) -> RouterOutput:
    unused = torch.zeros(len(leaf_logits), 16)
    return RouterOutput(
        degradation=unused,
        log_variance=unused,
        leaf_logits=torch.tensor(leaf_logits, dtype=torch.float32),
        level_logits=torch.tensor(level_logits, dtype=torch.float32),
    )


def test_the_expert_stands_where_the_level_meets_the_path_of_the_leaf(tree: Tree) -> None:
    routes = decide(
        output([[0, 3, 0], [5, 0, 0], [1, 0, 2]], [[0, 0, 1], [0, 2, 0], [9, 0, 0]]), tree
    )
    assert [(r.leaf, r.level, r.node) for r in routes] == [(1, 2, 4), (0, 1, 1), (2, 0, 0)]


def test_nodes_of_a_chain_share_the_expert_of_the_coarsest(tree: Tree) -> None:
    finest, middle = decide(output([[0, 0, 4], [0, 0, 4]], [[0, 0, 4], [0, 4, 0]]), tree)
    assert (finest.node, middle.node) == (5, 2)
    assert finest.expert == middle.expert == 2


def test_confidence_is_the_probability_of_all_choices_that_end_at_the_expert(tree: Tree) -> None:
    (route,) = decide(output([[0.0, 1.0, 2.0]], [[0.5, 0.0, 1.0]]), tree)
    leaf, level = route.leaf_probabilities, route.level_probabilities
    assert sum(leaf) == pytest.approx(1.0)
    assert sum(level) == pytest.approx(1.0)
    assert route.confidence == pytest.approx(leaf[2] * (level[1] + level[2]))


def test_masked_leaves_get_no_probability_and_the_others_share_it(tree: Tree) -> None:
    masked = output([[1.0, 9.0, 2.0]], [[0.0, 0.0, 1.0]])
    (route,) = decide(masked, tree, leaf_mask=[True, False, True])
    assert route.leaf == 2
    expected = torch.tensor([1.0, 2.0]).softmax(0).tolist()
    assert route.leaf_probabilities == pytest.approx((expected[0], 0.0, expected[1]))


def with_costs(costs: list[float]) -> RouterOutput:
    plain = output([[0.0, 2.0, 1.0]], [[1.0, 5.0, 2.0]])
    return dataclasses.replace(plain, costs=torch.tensor([costs]))


def test_the_cheapest_expert_is_taken_where_costs_are_predicted(tree: Tree) -> None:
    costs = [2.0, 1.5, 0.9, 0.4, 1.0, 0.9]
    (route,) = decide(with_costs(costs), tree)
    assert (route.node, route.expert, route.level, route.leaf) == (3, 3, 2, 0)
    assert route.confidence == pytest.approx(1 / (1 + math.exp(-0.5)))
    expected = torch.tensor([-2.0, -1.5, -0.4]).softmax(0).tolist()
    assert route.level_probabilities == pytest.approx(expected)
    (masked,) = decide(with_costs(costs), tree, leaf_mask=[False, True, True])
    assert (masked.node, masked.leaf) == (2, 2)
    (coarse,) = decide(with_costs(costs), tree, level=0)
    assert (coarse.node, coarse.leaf) == (0, 1)
    assert coarse.level_probabilities == (1.0, 0.0, 0.0)
    (asked,) = decide(with_costs(costs), tree, expert=4)
    assert asked.expert == 4
    (among,) = decide(with_costs(costs), tree, levels=[0, 1])
    assert (among.node, among.expert) == (2, 2)


CHEAPEST = 0.4
COSTS = [2.0, 1.5, 0.9, CHEAPEST, 1.0, 0.9]


def with_as_is(gain_db: float, margin_db: float = 0.1) -> RouterOutput:
    """Costs whose cheapest node, 3, is so much better than the input."""
    return dataclasses.replace(
        with_costs(COSTS),
        as_is_cost=torch.tensor([CHEAPEST + gain_db]),
        as_is_margin_db=margin_db,
    )


@pytest.mark.parametrize(
    ("gain_db", "expert"), [(-3.0, None), (0.0, None), (0.09, None), (0.11, 3), (3.0, 3)]
)
def test_an_expert_is_taken_only_if_it_beats_the_input_by_more_than_the_margin(
    tree: Tree, gain_db: float, expert: int | None
) -> None:
    (route,) = decide(with_as_is(gain_db), tree)
    assert route.expert == expert
    assert (route.node, route.level, route.leaf) == (3, 2, 0)
    assert route.gain_db == pytest.approx(gain_db, abs=1e-6)
    lead_db = 0.1 - gain_db if expert is None else min(0.5, gain_db - 0.1)
    assert route.confidence == pytest.approx(1 / (1 + math.exp(-lead_db)))
    assert route.confidence >= 0.5


@pytest.mark.parametrize(
    ("wish", "expert"),
    [
        ({"insist": True}, 3),
        ({"level": 2}, 3),
        ({"expert": 4}, 4),
        ({"leaf_mask": [False, True, True]}, 2),
    ],
)
def test_whoever_insists_or_names_something_gets_an_expert(
    tree: Tree, wish: dict[str, object], expert: int
) -> None:
    (route,) = decide(with_as_is(-3.0), tree, **wish)
    assert route.expert == expert
    assert route.gain_db is not None
    assert route.gain_db <= -3.0 + 1e-6


def test_levels_to_choose_among_leave_the_input_as_a_choice(tree: Tree) -> None:
    (route,) = decide(with_as_is(-3.0), tree, levels=[0, 1])
    assert (route.expert, route.node) == (None, 2)


def test_a_router_that_knows_no_cost_of_the_input_always_takes_an_expert(tree: Tree) -> None:
    by_gates = output([[0.0, 2.0, 1.0]], [[1.0, 5.0, 2.0]])
    for known in (by_gates, with_costs([9.0] * 6)):
        (route,) = decide(known, tree)
        assert route.expert is not None
        assert route.gain_db is None


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_forced_level_is_taken(tree: Tree, level: int) -> None:
    (route,) = decide(output([[0.0, 2.0, 1.0]], [[1.0, 5.0, 2.0]]), tree, level=level)
    assert route.level == level
    assert route.node == tree.node_at(1, level)
    assert route.level_probabilities[level] == 1.0


@pytest.mark.parametrize("expert", [0, 1, 2, 3, 4])
def test_a_forced_expert_is_taken_by_the_likeliest_way_to_it(tree: Tree, expert: int) -> None:
    (route,) = decide(output([[0.0, 2.0, 1.0]], [[1.0, 2.0, 5.0]]), tree, expert=expert)
    assert route.expert == expert
    assert route.leaf == max(tree.nodes[expert].leaves, key=lambda leaf: [0.0, 2.0, 1.0][leaf])
    assert route.level == max(tree.levels_of_expert(expert))
    assert route.confidence == pytest.approx(1.0)


def test_samples_of_a_batch_do_not_depend_on_each_other(tree: Tree) -> None:
    leaf, level = torch.randn(5, 3).tolist(), torch.randn(5, 3).tolist()
    together = decide(output(leaf, level), tree)
    assert together == [decide(output([a], [b]), tree)[0] for a, b in zip(leaf, level, strict=True)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 3}, "level 3 does not exist; the tree has levels 0 to 2"),
        ({"level": -1}, "level -1 does not exist"),
        ({"expert": 5}, "node 5 has no expert of its own"),
        ({"expert": 17}, "node 17 has no expert of its own"),
        ({"expert": 3, "level": 0}, "expert 3 does not serve level 0"),
        ({"leaf_mask": [True, True]}, "leaf_mask has shape"),
        ({"leaf_mask": [False] * 3}, "leaf_mask allows no leaf"),
        ({"leaf_mask": [True, False, False], "expert": 4}, "no leaf below expert 4"),
    ],
)
def test_impossible_choices_are_refused(
    tree: Tree, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decide(output([[0.0] * 3], [[0.0] * 3]), tree, **options)


def without_root(tree: Tree, num_levels: int, num_costs: int = 0) -> RouterOutput:
    shape = RouterShape(
        embed_dim=tree.embed_dim,
        num_leaves=tree.num_leaves,
        num_levels=num_levels,
        num_costs=num_costs,
        has_root=False,
    )
    with torch.inference_mode():
        found: RouterOutput = Router(shape).eval()(torch.randn(8, tree.embed_dim))
    return found


def test_without_a_root_nothing_is_routed_to_it_and_asking_for_it_is_refused(tree) -> None:
    output = without_root(tree, tree.num_levels)
    assert {route.level for route in decide(output, tree)} == {1}
    with pytest.raises(ValueError, match=r"level 0 is never chosen"):
        decide(output, tree, level=0)


@pytest.mark.parametrize(
    ("num_levels", "levels"), [(2, (1, 1, 1)), (3, (1, 1, 2)), (4, (1, 2, 3)), (5, (1, 3, 4))]
)
def test_a_confidence_is_a_level_that_a_tree_without_a_root_may_choose(
    tree: Tree, num_levels: int, levels: tuple[int, ...]
) -> None:
    allowed = without_root(tree, num_levels).levels()
    assert tuple(level_of_confidence(sure, allowed) for sure in (0, 1, 2)) == levels


@pytest.mark.parametrize("by_costs", [False, True])
def test_the_least_confidence_takes_the_coarsest_level_of_a_tree_without_a_root(
    tree: Tree, by_costs: bool
) -> None:
    output = without_root(tree, tree.num_levels, len(tree.nodes) if by_costs else 0)
    guide = Guide(names=("noise",), shares=((1.0,),) * tree.num_leaves)
    for confidence, level in ((0, 1), (1, 1), (2, 2)):
        routes = choose(output, tree, guide, Wish(confidence=confidence))
        assert {route.level for route in routes} == {level}
