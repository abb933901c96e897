"""Which expert serves each node."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from expertree.evaluation import Scores
from expertree.hierarchy import HierarchyConfig, Tree, build_tree
from expertree.pipeline.routers import _record, serving_nodes, serving_plans
from expertree.pipeline.tables import write_table
from expertree.routing import RouterConfig
from expertree.storage import Storage

CENTRES = np.array([[-9, -2], [-9, 2], [9, -2], [9, 2]], dtype=np.float32)


@pytest.fixture
def tree() -> Tree:
    """Root, two groups, and the two halves of each."""
    rng = np.random.default_rng(0)
    points = np.repeat(CENTRES, 20, axis=0) + 0.1 * rng.normal(size=(80, 2))
    return build_tree(points.astype(np.float32), HierarchyConfig(groups=(1, 2, 4)), extractor="x")[
        0
    ]


def test_whoever_gains_serves_its_own_node(tree: Tree) -> None:
    gains = dict.fromkeys(range(1, 7), 0.5)
    assert serving_nodes(tree, gains) == {node: node for node in range(7)}


def test_whoever_loses_gives_way_to_who_serves_the_parent(tree: Tree) -> None:
    gains = dict.fromkeys(range(1, 7), 0.5)
    leaf = tree.nodes[1].children[0]
    assert serving_nodes(tree, gains | {leaf: -0.1})[leaf] == 1
    found = serving_nodes(tree, gains | {leaf: -0.1, 1: -0.2})
    assert (found[1], found[leaf]) == (0, 0)
    assert found[tree.nodes[1].children[1]] == tree.nodes[1].children[1]


def test_an_expert_without_patches_to_judge_it_stays(tree: Tree) -> None:
    assert serving_nodes(tree, {}) == {node: node for node in range(7)}


def test_all_sets_that_routers_learn_from_are_judged_by(tree: Tree, tmp_path: Path) -> None:
    leaf = tree.nodes[1].children[0]
    plans: Any = [SimpleNamespace(node=node, key=f"e{node}") for node in range(7)]
    embeddings, scores = {}, {}
    # On the patches of this build the leaf's expert loses a little, on earlier ones it gains more.
    for name, gain in (("route", -1.0), ("route, earlier 0", 3.0)):
        embeddings[name] = Storage.open(tmp_path / name)
        column = pa.FixedSizeListArray.from_arrays(pa.array(CENTRES.ravel()), 2)
        table = pa.table({"id": ["0", "1", "2", "3"], "embedding": column})
        write_table(embeddings[name], "part-00000.parquet", table)
        for plan in plans:
            psnr = 20.0 + (gain if plan.node == leaf else 0.0)
            values = {field.name: np.full(4, psnr) for field in dataclasses.fields(Scores)}
            scores[plan.key, name] = Storage.open(tmp_path / f"{plan.key} {name}")
            write_table(scores[plan.key, name], "scores.parquet", pa.table(values))

    def serving(*names: str) -> int:
        chosen = {name: embeddings[name] for name in names}
        found = serving_plans(tree, plans, embeddings=chosen, scores=scores, prune=True)
        return int(found[leaf].node or 0)

    assert serving("route") == 1
    assert serving(*embeddings) == leaf


def test_routers_of_before_keep_their_keys() -> None:
    assert "identical_db" not in _record(RouterConfig())
    assert _record(RouterConfig(identical_db=45.0))["identical_db"] == 45.0
