"""What each way of choosing takes, patch by patch."""

import dataclasses

import numpy as np
import pytest

from expertree.evaluation import (
    AS_IS,
    METHODS,
    Evaluated,
    choices,
    chosen_scores,
    is_as_is,
    methods,
)
from expertree.hierarchy import Tree


def test_rows_come_in_the_order_of_the_methods(tree: Tree, data: Evaluated) -> None:
    assert list(methods(tree, data)) == list(METHODS)


def test_what_was_not_measured_has_no_row(tree: Tree, data: Evaluated) -> None:
    bare = dataclasses.replace(data, comparisons={}, classical=None)
    found = set(METHODS) - set(methods(tree, bare))
    assert found == {"classical", "one_network", "one_network_tree"}


def test_each_choice_takes_its_node(tree: Tree, data: Evaluated) -> None:
    made = {name: nodes.tolist() for name, nodes in choices(tree, data).items()}
    assert made == {
        "root": [0, 0, 0, 0],
        "finest_level": [1, 1, 2, 1],
        "routed": [1, 1, 2, 0],
        "best_level": [1, 0, 2, 1],
        "best": [1, 2, 2, 1],
    }


def test_the_input_may_be_the_best_of_all(tree: Tree, data: Evaluated) -> None:
    good = dataclasses.replace(data.inputs, psnr_rgb=np.array([10.0, 40.0, 30.0, 10.0]))
    made = choices(tree, dataclasses.replace(data, inputs=good))
    assert made["best"].tolist() == [1, AS_IS, 2, 1]


def test_no_expert_means_that_the_picture_was_left_as_it_is() -> None:
    assert is_as_is(None)
    assert not is_as_is(0)


def test_a_picture_that_is_left_as_it_is_has_the_inputs_scores(
    tree: Tree, left_alone: Evaluated
) -> None:
    assert left_alone.nodes.tolist() == [1, 1, AS_IS, 0]
    routed = methods(tree, left_alone)["routed"]
    assert routed.scores.psnr_rgb.tolist() == [25, 20, 10, 19]
    assert routed.scores.ssim[2] == left_alone.inputs.ssim[2]
    assert routed.harmed.tolist() == [0, 0, 0, 1]
    made = chosen_scores(tree, left_alone, np.array([AS_IS] * 4))
    assert made.l1.tolist() == left_alone.inputs.l1.tolist()


def test_harm_begins_a_tenth_of_a_decibel_below_the_input(tree: Tree, data: Evaluated) -> None:
    assert methods(tree, data)["classical"].harmed.tolist() == [0, 0, 0, 0]
    assert methods(tree, data)["finest_level"].harmed.tolist() == [0, 0, 0, 0]
    assert methods(tree, data)["root"].harmed.tolist() == [0, 0, 0, 1]


def test_a_random_expert_is_the_mean_of_all_in_scores_and_in_harm(
    tree: Tree, data: Evaluated
) -> None:
    made = methods(tree, data)["random_expert"]
    assert made.scores.psnr_rgb == pytest.approx([59 / 3, 71 / 3, 64 / 3, 59 / 3])
    assert made.harmed == pytest.approx([0, 0, 0, 2 / 3])
