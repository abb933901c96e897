from pathlib import Path

import numpy as np
import pytest

from expertree.config import load
from expertree.events import EventLog
from expertree.hierarchy import AdaptiveConfig, HierarchyConfig, build_tree
from expertree.orchestration.expert_stages import plan_experts
from expertree.orchestration.settings import BuildConfig
from expertree.orchestration.stages import Workbench
from expertree.storage import Storage


def make_bench(folder: Path) -> Workbench:
    return Workbench(
        store=Storage.open(folder / "store"),
        events=EventLog(folder / "events.jsonl"),
        cluster=BuildConfig().cluster,
        on_stage=lambda *_: None,
    )


def plan(folder: Path, hierarchy: HierarchyConfig, points: np.ndarray):
    tree, leaves = build_tree(points, hierarchy, extractor="x")
    bench = make_bench(folder)
    samples = [9600, 3200, 1600][: len(hierarchy.groups)]
    config = load(BuildConfig, {"hierarchy": hierarchy, "experts": {"num_samples": samples}})
    plans = plan_experts(
        bench,
        config,
        tree,
        leaf_of={f"train/{row:04d}": int(leaf) for row, leaf in enumerate(leaves)},
        table=bench.store.sub("degrade", "t"),
        shards=bench.store.sub("shard", "s"),
    )
    return tree, {p.node: p for p in plans}


def make_blobs(count: int, spread: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    points = np.repeat(5 * rng.normal(size=(count, 8)), 40, axis=0)
    return (points + spread * rng.normal(size=points.shape)).astype(np.float32)


@pytest.mark.parametrize("method", ["kmeans", "bisecting", "adaptive"])
def test_every_path_sees_the_same_number_of_samples(tmp_path: Path, method: str) -> None:
    config = HierarchyConfig(
        method=method, groups=(1, 4, 6), adaptive=AdaptiveConfig(min_samples=20)
    )
    tree, plans = plan(tmp_path, config, make_blobs(4 if method == "adaptive" else 6, 0.1))
    assert tree.num_levels == (2 if method == "adaptive" else 3)
    for leaf in range(tree.num_leaves):
        experts = {tree.expert_of(node) for node in tree.path(leaf)}
        assert sum(plans[expert].job.num_samples for expert in experts) == 14400
    assert plans[None].job.num_samples == 14400


def test_shapes_of_bisecting_train_a_shared_group_on_the_same_samples(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    hashes: dict[tuple[int, ...], set[str]] = {}
    for groups in ((1, 4), (1, 8), (1, 4, 8)):
        config = HierarchyConfig(method="bisecting", groups=groups)
        _, plans = plan(tmp_path, config, points)
        hashes[groups] = {p.spec["samples"] for p in plans.values()}
    assert hashes[1, 4, 8] == hashes[1, 4] | hashes[1, 8]
