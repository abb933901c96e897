"""What a grown build takes from a finished one, and what it would train; no Ray, no training."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from expertree.config import load, to_dict
from expertree.degradation.photographs import Photo
from expertree.errors import ArtefactError, ConfigError, PhotoError
from expertree.events import EventLog, read_events
from expertree.experts.backbones import build_backbone
from expertree.experts.weights import save_expert
from expertree.hierarchy import HierarchyConfig, build_tree, save_tree
from expertree.pipeline.dry_run import describe_plan
from expertree.pipeline.experts import ExpertPlan, Samples, plan_experts
from expertree.pipeline.grow import (
    check_photographs,
    describe_growth,
    grow_tree,
    growth_record,
    inherit,
    keep_experts,
    past_of,
)
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench, key_of
from expertree.pipeline.tables import LeafTable, leaf_directory, write_leaves, write_table
from expertree.storage import Storage

DIM = 8
CENTRES = 9.0 * np.random.default_rng(3).normal(size=(3, DIM))
ASIDE = 14.0 * np.eye(DIM)[3]
COUNT = 100
SECTIONS = {
    "hierarchy": {"groups": [1, 2, 3]},
    "extractor": {"embed_dim": DIM},
    "experts": {
        "num_samples": [320, 160, 160],
        "backbone": {"width": 4, "encoder": [1], "middle": 0, "decoder": [1]},
    },
}


def points_around(centres: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.repeat(centres, COUNT, axis=0)
    return (rows + rng.normal(size=rows.shape)).astype(np.float32)


def save_set(store: Storage, name: str, points: np.ndarray) -> tuple[Storage, Storage]:
    """Table and embeddings of a patch set."""
    ids = [f"train/{row:05d}" for row in range(len(points))]
    table, embeddings = store.sub("degrade", f"t-{name}"), store.sub("embed", f"e-{name}")
    rows = {"tasks": pa.array([["noise"]] * len(ids)), "caption": ["medium noise"] * len(ids)}
    write_table(table, "part-00000.parquet", pa.table({"id": ids, **rows}))
    table.commit({"photographs": [[f"{name}.png", f"sha-{name}"]]})
    column = pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), DIM)
    write_table(embeddings, "part-00000.parquet", pa.table({"id": ids, "embedding": column}))
    embeddings.commit({})
    return table, embeddings


def bench_on(folder: Path) -> Workbench:
    return Workbench(
        store=Storage.open(folder / "store"),
        events=EventLog(folder / "events.jsonl"),
        runner=LocalRunner(),
        on_stage=lambda *_: None,
    )


def store_expert(plan: ExpertPlan) -> None:
    save_expert(plan.result, build_backbone(plan.job.backbone).state_dict(), plan.job)
    plan.result.commit(dict(plan.spec))


def write_report(
    config: BuildConfig,
    plans: list[ExpertPlan],
    places: dict[str, Storage],
    **more: object,
) -> None:
    Storage.open(config.output).write_json(
        "report.json",
        {
            "config": to_dict(config),
            "stored": {name: place.uri for name, place in places.items()},
            "experts": [
                {"index": plan.node, "comparison": plan.comparison, "key": plan.key}
                for plan in plans
            ],
            **more,
        },
    )


@pytest.fixture
def old(tmp_path: Path) -> dict[int | str, str]:
    """A finished build in `out` with its store; the keys of its experts by role."""
    bench = bench_on(tmp_path)
    places = {"store": str(tmp_path / "store"), "output": str(tmp_path / "out")}
    config = load(BuildConfig, places | SECTIONS)
    points = points_around(CENTRES, seed=0)
    table, embeddings = save_set(bench.store, "old", points)
    tree, leaves = build_tree(points, config.hierarchy, extractor="x")
    result, extractor = bench.store.sub("tree", "old"), bench.store.sub("extractor", "x")
    save_tree(tree, result)
    ids = pa.array([f"train/{row:05d}" for row in range(len(points))])
    leaf_of = LeafTable(ids=ids, leaves=leaves)
    write_leaves(result, leaf_of)
    for place in (result, extractor):
        place.commit({})
    plans = plan_experts(
        bench,
        config,
        tree,
        Samples(
            leaf_of=leaf_of,
            table=table,
            shards=bench.store.sub("shard", "old"),
        ),
    )
    for plan in plans:
        store_expert(plan)
    stored = {"tree": result, "extractor": extractor}
    for name in ("train", "route"):
        stored |= {f"degrade/{name}": table, f"embed/{name}": embeddings}
    write_report(config, plans, stored)
    return {plan.role: plan.key for plan in plans}


def config_of(folder: Path, **sections: object) -> BuildConfig:
    plain = {
        "store": str(folder / "store"),
        "output": str(folder / "grown"),
        "grow": {"build": str(folder / "out"), "limits": {"min_samples": 40}},
        **sections,
    }
    return load(BuildConfig, plain)


def plan_grown(folder: Path, new: np.ndarray, name: str = "new", **sections: object):
    bench, config = bench_on(folder), inherit(config_of(folder, **sections))
    past = past_of(config)
    table, embeddings = save_set(bench.store, name, new)
    hierarchy, growth = grow_tree(bench, config, past, embeddings)
    shards = bench.store.sub("shard", name)
    for leaf in growth.leaves:
        shards.write_bytes(f"{leaf_directory(leaf)}/part-00000.parquet", b"")
    plans = plan_experts(
        bench,
        config,
        hierarchy.tree,
        Samples(
            leaf_of=hierarchy.leaf_of,
            table=table,
            shards=shards,
        ),
        kept=keep_experts(past, growth),
    )
    return SimpleNamespace(
        config=config,
        past=past,
        hierarchy=hierarchy,
        growth=growth,
        plans=plans,
        table=table,
        embeddings=embeddings,
    )


NEW = np.concatenate([CENTRES[:2], CENTRES[:1] + ASIDE])


def test_old_nodes_keep_their_experts_and_only_the_new_leaf_is_to_be_trained(
    tmp_path: Path, old: dict[int | str, str]
) -> None:
    grown = plan_grown(tmp_path, points_around(NEW, seed=1))
    (added,) = grown.growth.sibling_of
    keys = {plan.role: plan.key for plan in grown.plans}
    assert {grown.growth.nodes.get(role, role): key for role, key in old.items()} == {
        node: key for node, key in keys.items() if node != added
    }
    compared = ["one_network", "one_network_tree"]
    assert [plan.role for plan in grown.plans] == [*grown.hierarchy.tree.experts(), *compared]
    assert [plan.role for plan in grown.plans if not plan.result.is_done()] == [added]
    (new,) = (plan for plan in grown.plans if plan.node == added)
    beside = grown.growth.sibling_of[added]
    assert new.parent == keys[beside]
    assert new.job.init == next(p.result.uri for p in grown.plans if p.node == beside)
    assert new.files == (f"{leaf_directory(grown.growth.leaves[0])}/part-00000.parquet",)
    levels = grown.hierarchy.tree.levels_of_expert(added)
    assert new.job.num_samples == sum((320, 160, 160)[level] for level in levels)
    events = read_events(tmp_path / "events.jsonl")
    (said,) = (event["said"] for event in events if event["event"] == "tree_grown")
    assert said.startswith(f"One leaf was added: node {added} beside node {beside} (1")


def test_where_nothing_is_new_nothing_is_to_be_trained(
    tmp_path: Path, old: dict[int | str, str]
) -> None:
    grown = plan_grown(tmp_path, points_around(CENTRES, seed=1))
    assert {plan.role: plan.key for plan in grown.plans} == old
    assert all(plan.result.is_done() for plan in grown.plans)
    assert describe_growth(grown.growth).startswith("Assignment only")
    assert grown.hierarchy.result.read_bytes("tree.safetensors") == (
        grown.past.directory("tree").read_bytes("tree.safetensors")
    )


@pytest.mark.usefixtures("old")
def test_a_grown_build_can_be_grown_and_knows_all_that_came_before(tmp_path: Path) -> None:
    first = plan_grown(tmp_path, points_around(NEW, seed=1))
    for plan in first.plans:
        if not plan.result.is_done():
            store_expert(plan)
    stored = {"tree": first.hierarchy.result, "extractor": first.past.directory("extractor")}
    for name in ("train", "route"):
        stored |= {f"degrade/{name}": first.table, f"embed/{name}": first.embeddings}
    record = growth_record(first.config, first.past, first.growth)
    write_report(first.config, first.plans, stored, grown=record)
    again = {"output": str(tmp_path / "again"), "grow": {"build": str(tmp_path / "grown")}}
    newest = np.concatenate([NEW, CENTRES[1:2] + ASIDE])
    second = plan_grown(tmp_path, points_around(newest, seed=2), "newest", **again)
    assert [key_of(table) for table, _ in second.past.all_sets("train")] == ["t-old", "t-new"]
    assert len(second.growth.leaves) == 1
    assert {p.key for p in first.plans} < {p.key for p in second.plans}


def test_a_new_leaf_has_the_network_of_the_one_beside_it_whatever_is_usual_now(
    tmp_path: Path, old: dict[int | str, str]
) -> None:
    experts = {"num_samples": [80, 80, 80], "warm_start": False}
    grown = plan_grown(tmp_path, points_around(NEW, seed=1), experts=experts)
    (new,) = (plan for plan in grown.plans if plan.node in grown.growth.sibling_of)
    assert new.job.backbone.width == 4
    assert new.job.num_samples in (80, 160)
    assert new.job.init is None
    assert new.key not in old.values()


@pytest.mark.usefixtures("old")
def test_what_the_finished_build_decides_is_taken_from_it(tmp_path: Path) -> None:
    config = inherit(config_of(tmp_path, degradation={"num_train": 1}))
    assert config.hierarchy == HierarchyConfig(groups=(1, 2, 3))
    assert config.extractor.embed_dim == DIM
    assert config.experts.num_samples == (320, 160, 160)
    assert config.degradation.num_train == 1
    usual = BuildConfig()
    new = dataclasses.replace(config, grow=usual.grow, degradation=usual.degradation)
    assert inherit(new) is new


@pytest.mark.usefixtures("old")
@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"extractor": {"embed_dim": 16}}, "extractor: the tree of grow.build=.* other settings"),
        ({"hierarchy": {"metric": "cosine"}}, "hierarchy: the tree of grow.build=.* leave hier"),
        ({"output": "OUT"}, "is the folder of grow.build"),
        ({"store": "elsewhere"}, "store=elsewhere does not hold the experts .* give store="),
    ],
)
def test_what_does_not_fit_the_finished_build_is_refused(
    tmp_path: Path, sections: dict[str, object], message: str
) -> None:
    sections = {k: str(tmp_path / "out") if v == "OUT" else v for k, v in sections.items()}
    with pytest.raises(ConfigError, match=message):
        inherit(config_of(tmp_path, **sections))


def test_a_build_that_is_not_finished_is_refused(tmp_path: Path, old: dict[int | str, str]) -> None:
    with pytest.raises(ArtefactError, match=r"has no report\.json; give a finished build"):
        inherit(config_of(tmp_path, grow={"build": str(tmp_path / "nothing")}))
    Storage.open(tmp_path / "store").sub("expert", old[1]).delete("DONE.json")
    with pytest.raises(ArtefactError, match=f"{old[1]} is not in the store; run that build again"):
        inherit(config_of(tmp_path))


@pytest.mark.usefixtures("old")
def test_photographs_that_experts_were_trained_on_are_not_held_back(tmp_path: Path) -> None:
    photo = Photo(name="old.png", location="", sha256="sha-old", width_px=1, height_px=1)
    past = past_of(config_of(tmp_path))
    for part in ("train", "route", "val"):
        material = SimpleNamespace(clean_of=lambda wanted, own=part: [photo] * (wanted == own))
        if part == "train":
            check_photographs(past, material)
        else:
            with pytest.raises(PhotoError, match=r"trained on them \(old\.png\)"):
                check_photographs(past, material)


@pytest.mark.usefixtures("old")
def test_a_grown_build_is_compared_with_what_there_is_and_trains_nothing_new_for_it(
    tmp_path: Path,
) -> None:
    out = Storage.open(tmp_path / "out")
    report = out.read_json("report.json")
    kept = [e for e in report["experts"] if e["comparison"] != "one_network_tree"]
    out.write_json("report.json", report | {"experts": kept})
    grown = plan_grown(tmp_path, points_around(NEW, seed=1))
    assert [plan.role for plan in grown.plans if plan.node is None] == ["one_network"]


@pytest.mark.usefixtures("old")
def test_a_report_that_does_not_name_its_comparisons_is_of_an_older_version(tmp_path: Path) -> None:
    out = Storage.open(tmp_path / "out")
    report = out.read_json("report.json")
    nameless = [{"index": e["index"], "key": e["key"]} for e in report["experts"]]
    out.write_json("report.json", report | {"experts": nameless})
    with pytest.raises(ArtefactError, match="which networks its tree was compared with"):
        inherit(config_of(tmp_path))


@pytest.mark.usefixtures("old")
def test_a_dry_run_says_that_what_was_made_stays(tmp_path: Path) -> None:
    said = describe_plan(config_of(tmp_path))
    assert f"experts  those of {tmp_path / 'out'} stay as they are; one more, of about 160" in said
    assert "at least 40 new patches" in said
