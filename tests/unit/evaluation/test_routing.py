"""Where patches were sent and what that cost, on numbers that can be checked by hand."""

import dataclasses

import numpy as np
import pytest

from expertree.evaluation import Evaluated, clean_images, gains_over_parent, routing, shift
from expertree.hierarchy import Tree

TASKS = ("noise", "rain")


def coarse(data: Evaluated) -> Evaluated:
    """The same patches, all of them sent to the root."""
    routes = [dataclasses.replace(one, node=0, expert=0, level=0, leaf=0) for one in data.routes]
    return dataclasses.replace(data, routes=routes)


def test_routing_counts_shares_and_what_the_level_lost(tree: Tree, data: Evaluated) -> None:
    made = routing(tree, data, task_order=TASKS)
    assert made["rows"] == ["noise", "rain", "mixed"]
    assert made["leaves"] == [[1, 0], [0, 1], [1, 0]]
    assert made["levels"] == [[0, 1], [0, 1], [1, 0]]
    assert made["as_is"] == [0, 0, 0]
    assert made["mean_level"] == [1, 1, 0]
    assert made["agreement_with_best_level"] == 0.5
    assert made["lost_db"] == (0 + 1 + 0 + 3) / 4


def test_what_is_left_as_it_is_is_in_no_leaf_and_on_no_level(
    tree: Tree, left_alone: Evaluated
) -> None:
    made = routing(tree, left_alone, task_order=TASKS)
    assert made["as_is"] == [0, 1, 0]
    assert made["share_as_is"] == 0.25
    assert made["leaves"][1] == made["levels"][1] == [0, 0]
    assert made["mean_level"] == [1, None, 0]
    assert made["lost_db"] == (0 + 1 + 20 + 3) / 4
    for row, share in enumerate(made["as_is"]):
        assert share + sum(made["levels"][row]) == share + sum(made["leaves"][row]) == 1


def test_shift_follows_levels_and_psnr_from_point_to_point(tree: Tree, data: Evaluated) -> None:
    curves = shift(tree, {0.0: data, 1.0: coarse(data)})
    single = curves["single"]
    assert single["point"] == [0.0, 1.0]
    assert single["mean_level"] == [1.0, 0.0]
    assert single["best_mean_level"] == pytest.approx([2 / 3, 1 / 3])
    assert single["one_network"] == [20.0, 20.0]
    assert single["one_network_tree"] == [21.0, 21.0]
    assert single["root"] == pytest.approx([59 / 3, 59 / 3])
    assert single["finest_level"] == pytest.approx([25.0, 20.0])
    assert single["routed"] == pytest.approx([25.0, 59 / 3])
    assert single["best_level"] == pytest.approx([76 / 3, 65 / 3])
    assert curves["mixed"]["input"] == [20.0, 20.0]
    assert curves["mixed"]["routed"] == [19.0, 19.0]


def test_the_mean_level_of_shift_leaves_out_what_was_left(
    tree: Tree, left_alone: Evaluated
) -> None:
    none = dataclasses.replace(
        left_alone,
        routes=[dataclasses.replace(route, expert=None) for route in left_alone.routes],
    )
    curves = shift(tree, {0.0: left_alone, 1.0: none})
    assert curves["single"]["mean_level"] == [1.0, None]
    assert curves["single"]["routed"] == pytest.approx([55 / 3, 10.0])


def test_shift_without_points_or_without_mixed_patches_has_no_curve(
    tree: Tree, data: Evaluated
) -> None:
    assert shift(tree, {}) == {}
    singles = dataclasses.replace(data, tasks=[("noise",), ("noise",), ("rain",), ()])
    assert list(shift(tree, {0.0: singles})) == ["single"]


def test_clean_images_are_counted_and_what_was_done_to_them_is_measured(
    tree: Tree, left_alone: Evaluated
) -> None:
    assert clean_images(tree, left_alone) == {
        "num": 4,
        "left_as_is": 0.25,
        "least_psnr_db": 19,
        "mean_changed_db": pytest.approx((25 + 20 + 19) / 3),
    }


def test_clean_images_that_are_all_left_have_nothing_to_measure(
    tree: Tree, data: Evaluated
) -> None:
    routes = [dataclasses.replace(route, expert=None) for route in data.routes]
    made = clean_images(tree, dataclasses.replace(data, routes=routes))
    assert made == {"num": 4, "left_as_is": 1, "least_psnr_db": None, "mean_changed_db": None}


def test_a_gain_is_measured_on_the_nodes_own_patches(tree: Tree, data: Evaluated) -> None:
    made = gains_over_parent(tree, np.array([0, 0, 1, 1]), data.experts)
    assert made == {1: (6 - 1) / 2, 2: (11 - 1) / 2}


def test_a_node_without_patches_has_no_gain(tree: Tree, data: Evaluated) -> None:
    assert set(gains_over_parent(tree, np.array([0, 0, 0, 0]), data.experts)) == {1}
