"""Tables and the headline from scores, on numbers that can be checked by hand."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from expertree.evaluation import Evaluated, average, summary, table
from expertree.hierarchy import Tree

TASKS = ("noise", "rain")


def rows(made: dict[str, Any], metric: str = "psnr_rgb") -> dict[str, list[float]]:
    return {row["method"]: row[metric] for row in made["rows"]}


def test_each_method_chooses_its_expert_patch_by_patch(tree: Tree, data: Evaluated) -> None:
    given = {"one_network": {"num_samples": 8}}
    made = table(tree, data, kind="single", task_order=TASKS, given=given)
    assert made["columns"] == ["noise", "rain", "average"]
    found = rows(made)
    assert found.pop("random_expert") == pytest.approx([130 / 6, 64 / 3, 21.5])
    assert found == {
        "input": [10, 10, 10],
        "classical": [15, 12, 13.5],
        "one_network": [20, 20, 20],
        "one_network_tree": [21, 21, 21],
        "root": [20, 19, 19.5],
        "finest_level": [22.5, 30, 26.25],
        "routed": [22.5, 30, 26.25],
        "best_level": [23, 30, 26.5],
        "best": [27.5, 30, 28.75],
    }
    assert made["rows"][2]["num_samples"] == 8


def test_the_average_weighs_degradations_and_not_patches(tree: Tree, data: Evaluated) -> None:
    made = table(tree, data, kind="single", task_order=TASKS, given={})
    assert rows(made)["best_level"][-1] == (23 + 30) / 2
    by_patch = np.array([1.0, 3.0, 10.0, 99.0])
    assert average(by_patch, data.tasks, task_order=TASKS) == (2 + 10) / 2


def test_mixed_patches_have_their_own_table(tree: Tree, data: Evaluated) -> None:
    made = table(tree, data, kind="mixed", task_order=TASKS, given={})
    assert made["columns"] == ["2 at once", "average"]
    assert rows(made)["routed"] == [19, 19]
    assert rows(made)["finest_level"] == [22, 22]


def test_the_share_of_harmed_patches_is_along_the_columns_too(tree: Tree, data: Evaluated) -> None:
    inputs = dataclasses.replace(data.inputs, psnr_rgb=np.array([24.0, 21.0, 15.05, 20.0]))
    changed = dataclasses.replace(data, inputs=inputs)
    made = rows(table(tree, changed, kind="single", task_order=TASKS, given={}), "harmed")
    assert made["input"] == [0, 0, 0]
    assert made["routed"] == [0.5, 0, 0.25]
    assert made["classical"] == [1, 1, 1]
    mixed = rows(table(tree, changed, kind="mixed", task_order=TASKS, given={}), "harmed")
    assert mixed["routed"] == [1, 1]


def test_quartiles_follow_the_inputs_quality_over_all_patches_of_the_table(
    tree: Tree, data: Evaluated
) -> None:
    four = dataclasses.replace(
        data,
        tasks=[("noise",), ("noise",), ("rain",), ("rain",)],
        inputs=dataclasses.replace(data.inputs, psnr_rgb=np.array([16.0, 12.0, 18.0, 14.0])),
    )
    made = table(tree, four, kind="single", task_order=TASKS, given={})
    assert made["quartile_bounds_db"] == [14, 16, 18]
    assert rows(made, "quartiles_db")["input"] == [12, 14, 16, 18]
    assert rows(made, "quartiles_db")["routed"] == [20, 19, 25, 30]


def test_fewer_patches_than_quartiles_have_none(tree: Tree, data: Evaluated) -> None:
    made = table(tree, data, kind="single", task_order=TASKS, given={})
    assert made["quartile_bounds_db"] == []
    assert rows(made, "quartiles_db")["routed"] == []


def test_clean_images_are_in_no_table(tree: Tree, data: Evaluated) -> None:
    clean = dataclasses.replace(data, tasks=[(), (), (), ()])
    for kind in ("single", "mixed"):
        made = table(tree, clean, kind=kind, task_order=TASKS, given={})
        assert made["columns"] == []
        assert rows(made)["routed"] == []


def tables_of(tree: Tree, data: Evaluated) -> list[dict[str, Any]]:
    return [
        {"distribution": d, "kind": k, **table(tree, data, kind=k, task_order=TASKS, given={})}
        for d in ("in", "out")
        for k in ("single", "mixed")
    ]


def test_summary_takes_averages_and_gains_from_the_tables(tree: Tree, data: Evaluated) -> None:
    made = summary(tables_of(tree, data))
    assert made["psnr_rgb"]["in"]["routed"] == 26.25
    assert made["gain_over"] == {"in": "one_network_tree", "out": "one_network_tree"}
    assert made["gain_db"] == {"in": 5.25, "out": 5.25}
    assert made["mixed"]["gain_db"]["out"] == -2
    assert made["harmed"]["in"]["routed"] == 0
    assert made["mixed"]["harmed"]["in"]["routed"] == 1


def test_a_gain_is_over_the_input_where_every_network_is_worse(tree: Tree, data: Evaluated) -> None:
    bad = {"one_network_tree": dataclasses.replace(data.inputs, psnr_rgb=np.full(4, 8.0))}
    made = summary(tables_of(tree, dataclasses.replace(data, comparisons=bad)))
    assert made["gain_over"]["in"] == "input"
    assert made["gain_db"]["in"] == 16.25
