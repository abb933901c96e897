"""Tables, gains and routing from scores, on numbers that can be checked by hand."""

import dataclasses

import numpy as np
import pytest

from expertree.evaluation import (
    Evaluated,
    Scores,
    gains_over_parent,
    routing,
    shift,
    summary,
    table,
)
from expertree.hierarchy import HierarchyConfig, Tree, build_tree
from expertree.routing import Route

TASKS = ("noise", "rain")


@pytest.fixture(scope="module")
def tree() -> Tree:
    """Root and two leaves."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(c, 0.1, (20, 4)) for c in (0.0, 5.0)]).astype(np.float32)
    return build_tree(points, HierarchyConfig(groups=(1, 2)), extractor="x")[0]


def scores(psnr: list[float]) -> Scores:
    values = np.array(psnr, dtype=np.float64)
    return Scores(l1=1 / values, psnr_rgb=values, psnr_y=values + 1, ssim=values / 100)


def route(leaf: int, level: int) -> Route:
    node = 0 if level == 0 else 1 + leaf
    return Route(
        node=node,
        expert=node,
        level=level,
        leaf=leaf,
        leaf_probabilities=(0.5, 0.5),
        level_probabilities=(0.5, 0.5),
        confidence=0.5,
    )


@pytest.fixture
def data() -> Evaluated:
    """Three single patches and a mixed one."""
    return Evaluated(
        tasks=[("noise",), ("noise",), ("rain",), ("noise", "rain")],
        degraded=scores([10, 10, 10, 10]),
        root=scores([20, 20, 20, 20]),
        experts={
            0: scores([19, 21, 19, 19]),
            1: scores([25, 20, 15, 22]),
            2: scores([15, 30, 30, 18]),
        },
        routes=[route(0, 1), route(0, 1), route(1, 1), route(0, 0)],
    )


def rows(made: dict[str, object]) -> dict[str, list[float]]:
    listed = made["rows"]
    assert isinstance(listed, list)
    return {row["method"]: row["psnr_rgb"] for row in listed}


def test_each_method_chooses_its_expert_patch_by_patch(tree: Tree, data: Evaluated) -> None:
    made = table(tree, data, kind="single", task_order=TASKS, given={"root": {"num_samples": 8}})
    assert made["columns"] == ["noise", "rain", "average"]
    assert rows(made) == {
        "degraded": [10, 10, 10],
        "root": [20, 20, 20],
        "tree root": [20, 19, 19.5],
        "finest level": [22.5, 30, 26.25],
        "routed": [22.5, 30, 26.25],
        "oracle": [23, 30, 26.5],
        "best of all": [27.5, 30, 28.75],
    }
    assert made["rows"][1]["num_samples"] == 8


def test_the_average_weighs_degradations_and_not_patches(tree: Tree, data: Evaluated) -> None:
    made = table(tree, data, kind="single", task_order=TASKS, given={})
    assert rows(made)["oracle"][-1] == (23 + 30) / 2


def test_mixed_patches_have_their_own_table(tree: Tree, data: Evaluated) -> None:
    made = table(tree, data, kind="mixed", task_order=TASKS, given={})
    assert made["columns"] == ["2 at once", "average"]
    assert rows(made)["routed"] == [19, 19]
    assert rows(made)["finest level"] == [22, 22]


def test_summary_takes_averages_and_gains_from_the_tables(tree: Tree, data: Evaluated) -> None:
    tables = [
        {"distribution": d, "kind": k, **table(tree, data, kind=k, task_order=TASKS, given={})}
        for d in ("in", "out")
        for k in ("single", "mixed")
    ]
    made = summary(tables)
    assert made["psnr_rgb"]["in"]["routed"] == 26.25
    assert made["gain_db"] == {"in": 6.25, "out": 6.25}
    assert made["mixed"]["gain_db"]["out"] == -1


def test_routing_counts_shares_and_what_the_level_lost(tree: Tree, data: Evaluated) -> None:
    made = routing(tree, data, task_order=TASKS)
    assert made["rows"] == ["noise", "rain", "mixed"]
    assert made["leaves"] == [[1, 0], [0, 1], [1, 0]]
    assert made["levels"] == [[0, 1], [0, 1], [1, 0]]
    assert made["agreement_with_oracle"] == 0.5
    assert made["lost_db"] == (0 + 1 + 0 + 3) / 4


def test_shift_follows_levels_and_psnr_from_point_to_point(tree: Tree, data: Evaluated) -> None:
    coarse = dataclasses.replace(data, routes=[route(0, 0)] * 4)
    curves = shift(tree, {0.0: data, 1.0: coarse})
    single = curves["single"]
    assert single["point"] == [0.0, 1.0]
    assert single["mean_level"] == [1.0, 0.0]
    assert single["best_mean_level"] == pytest.approx([2 / 3, 1 / 3])
    assert single["root"] == [20.0, 20.0]
    assert single["tree_root"] == pytest.approx([59 / 3, 59 / 3])
    assert single["finest"] == pytest.approx([25.0, 20.0])
    assert single["routed"] == pytest.approx([25.0, 59 / 3])
    assert single["oracle"] == pytest.approx([76 / 3, 65 / 3])
    assert curves["mixed"]["degraded"] == [10.0, 10.0]
    assert curves["mixed"]["routed"] == [19.0, 19.0]


def test_shift_without_points_or_without_mixed_patches_has_no_curve(
    tree: Tree, data: Evaluated
) -> None:
    assert shift(tree, {}) == {}
    singles = dataclasses.replace(data, tasks=[("noise",), ("noise",), ("rain",), ("rain",)])
    assert list(shift(tree, {0.0: singles})) == ["single"]


def test_a_gain_is_measured_on_the_nodes_own_patches(tree: Tree, data: Evaluated) -> None:
    made = gains_over_parent(tree, np.array([0, 0, 1, 1]), data.experts)
    assert made == {1: (6 - 1) / 2, 2: (11 - 1) / 2}


def test_a_node_without_patches_has_no_gain(tree: Tree, data: Evaluated) -> None:
    assert set(gains_over_parent(tree, np.array([0, 0, 0, 0]), data.experts)) == {1}
