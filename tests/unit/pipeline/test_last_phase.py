"""What names an expert that has the last of its network's phases alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from expertree.config import load
from expertree.events import EventLog
from expertree.hierarchy import HierarchyConfig, build_tree
from expertree.pipeline.experts import ExpertPlan, Samples, plan_experts
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench
from expertree.pipeline.tables import LeafTable
from expertree.storage import Storage


def plan(folder: Path, **experts: object) -> list[ExpertPlan]:
    """The experts of a tree of three nodes, the root's first."""
    hierarchy = HierarchyConfig(groups=(1, 2))
    points = np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
    tree, leaves = build_tree(points, hierarchy, extractor="x")
    store = Storage.open(folder / "store")
    bench = Workbench(
        store=store,
        events=EventLog(folder / "events.jsonl"),
        runner=LocalRunner(),
        on_stage=lambda *_: None,
    )
    given = {"num_samples": [400, 200], "comparisons": [], **experts}
    samples = Samples(
        leaf_of=LeafTable(ids=pa.array([f"{n:04d}" for n in range(80)]), leaves=leaves),
        table=store.sub("degrade", "t"),
        shards=store.sub("shard", "s"),
        extractor=store.sub("extractor", "x"),
    )
    config = load(BuildConfig, {"hierarchy": hierarchy, "experts": given})
    return plan_experts(bench, config, tree, samples)


@pytest.mark.parametrize("name", ["airnet_small", "lora_ir_small", "sler_ir_small"])
def test_children_of_networks_with_phases_are_named_by_the_one_that_they_have(
    tmp_path: Path, name: str
) -> None:
    backbone: dict[str, object] = {"name": name}
    if name != "airnet_small":
        backbone["embed_dim"] = BuildConfig().extractor.embed_dim
    warm = plan(tmp_path, backbone=backbone)
    assert [one.spec.get("phases") for one in warm] == [None, "last", "last"]
    assert warm[0].kind != warm[1].kind == warm[2].kind
    cold = plan(tmp_path, backbone=backbone, warm_start=False)
    assert not any("phases" in one.spec for one in cold)


def test_other_children_keep_their_names(tmp_path: Path) -> None:
    for more in ({}, {"adapter": {"rank": 2}}):
        assert not any("phases" in one.spec for one in plan(tmp_path, **more))
