"""Which experts there are, and what names them."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from expertree.config import load
from expertree.embedding import ExtractorConfig, build_extractor, look, save_extractor
from expertree.errors import ConfigError
from expertree.events import EventLog, read_events
from expertree.experts import AdapterConfig, ExpertJob, RecipeConfig
from expertree.experts.adapter import adapter_shapes
from expertree.experts.backbones import backbone_config, build_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.weights import save_expert
from expertree.hierarchy import AdaptiveConfig, HierarchyConfig, assign, build_tree
from expertree.pipeline.experts import Samples, own_experts, plan_experts
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.score import open_expert
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench
from expertree.pipeline.tables import LeafTable, write_table
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage


def make_bench(folder: Path) -> Workbench:
    return Workbench(
        store=Storage.open(folder / "store"),
        events=EventLog(folder / "events.jsonl"),
        runner=LocalRunner(),
        on_stage=lambda *_: None,
    )


def leaf_table(leaves: np.ndarray) -> LeafTable:
    ids = [f"train/{row:04d}" for row in range(len(leaves))]
    return LeafTable(ids=pa.array(ids), leaves=leaves)


def plan(
    folder: Path,
    hierarchy: HierarchyConfig,
    points: np.ndarray,
    *,
    extractor: str | None = None,
    **experts: object,
):
    tree, leaves = build_tree(points, hierarchy, extractor="x")
    bench = make_bench(folder)
    samples = [9600, 3200, 1600][: len(hierarchy.groups)]
    experts = {"num_samples": samples, **experts}
    config = load(BuildConfig, {"hierarchy": hierarchy, "experts": experts})
    plans = plan_experts(
        bench,
        config,
        tree,
        Samples(
            leaf_of=leaf_table(leaves),
            table=bench.store.sub("degrade", "t"),
            shards=bench.store.sub("shard", "s"),
            extractor=bench.store.sub("extractor", extractor) if extractor else None,
        ),
    )
    return tree, {p.role: p for p in plans}


def make_blobs(count: int, spread: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    points = np.repeat(5 * rng.normal(size=(count, 8)), 40, axis=0)
    return (points + spread * rng.normal(size=points.shape)).astype(np.float32)


@pytest.mark.parametrize("method", ["kmeans", "bisecting", "adaptive"])
def test_every_path_sees_the_same_number_of_samples(tmp_path: Path, method: str) -> None:
    config = HierarchyConfig(
        method=method,
        groups=(1, 4, 6),
        metric="l2",  # of so few dimensions and blobs, angles are no measure
        adaptive=AdaptiveConfig(min_samples=20),
    )
    tree, plans = plan(tmp_path, config, make_blobs(4 if method == "adaptive" else 6, 0.1))
    assert tree.num_levels == (2 if method == "adaptive" else 3)
    for leaf in range(tree.num_leaves):
        experts = {tree.expert_of(node) for node in tree.path(leaf)}
        assert sum(plans[expert].job.num_samples for expert in experts) == 14400
    assert plans["one_network"].job.num_samples == 14400
    whole = sum(plans[expert].job.num_samples for expert in tree.experts())
    assert plans["one_network_tree"].job.num_samples == whole


def test_shapes_of_bisecting_train_a_shared_group_on_the_same_samples(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    hashes: dict[tuple[int, ...], set[str]] = {}
    for groups in ((1, 4), (1, 8), (1, 4, 8)):
        config = HierarchyConfig(method="bisecting", groups=groups)
        _, plans = plan(tmp_path, config, points)
        hashes[groups] = {p.spec["samples"] for p in plans.values()}
    assert hashes[1, 4, 8] == hashes[1, 4] | hashes[1, 8]


def test_samples_are_named_by_their_ids_in_order(tmp_path: Path) -> None:
    """As they were when ids were joined to one text: stored experts keep their keys."""
    points = make_blobs(2, 0.1)
    tree, leaves = build_tree(points, HierarchyConfig(groups=(1, 2)), extractor="x")
    _, plans = plan(tmp_path, HierarchyConfig(groups=(1, 2)), points)
    for node in range(3):
        inside = np.isin(leaves, tree.nodes[node].leaves)
        ids = [f"train/{row:04d}" for row in np.flatnonzero(inside)]
        expected = hashlib.sha256("\n".join(["t", *ids]).encode()).hexdigest()
        assert plans[node].spec["samples"] == expected
    assert plans["one_network"].spec["samples"] == plans[0].spec["samples"]


def test_a_network_that_is_told_of_images_is_named_by_who_tells_it(tmp_path: Path) -> None:
    shape, points = HierarchyConfig(groups=(1, 2)), make_blobs(2, 0.1)
    names = {"SLER-IR": "sler_ir_small", "LoRA-IR": "lora_ir_small"}
    rows: list[object] = [{"name": own, "backbone": {"name": size}} for own, size in names.items()]
    rows.append({"name": "one", "batch_size": 16})
    keys = set()
    for extractor in ("a", "b"):
        _, plans = plan(tmp_path, shape, points, extractor=extractor, comparisons=rows)
        told = plans["SLER-IR"]
        assert told.spec["extractor"] == extractor
        assert told.job.extractor == str(tmp_path / "store" / "extractor" / extractor)
        assert (plans[0].spec.get("extractor"), plans[0].job.extractor) == (None, None)
        assert [plans[role].job.recipe.batch_size for role in ("one", 0)] == [16, 4]
        keys.add(told.key)
        assert [plans[role].spec.get("version") for role in ("LoRA-IR", 0)] == [4, None]
    assert len(keys) == 2
    with pytest.raises(ConfigError, match="sler_ir is told of images by an extractor; there is no"):
        plan(tmp_path, shape, points, comparisons=rows)


def test_a_network_that_takes_embeddings_of_another_length_is_refused() -> None:
    backbone = {"name": "sler_ir_small", "embed_dim": 256}
    with pytest.raises(ConfigError, match=r"length 256, but extractor.embed_dim=512; give its"):
        load(BuildConfig, {"experts": {"backbone": backbone}})


def test_an_expert_that_is_told_of_images_opens_with_its_extractor(tmp_path: Path) -> None:
    store = Storage.open(tmp_path)
    config = ExtractorConfig(embed_dim=16, view_px=32)
    extractor = build_extractor(config)
    save_extractor(extractor, store.sub("extractor", "x"))
    backbone = backbone_config("sler_ir_small", width=4, embed_dim=16, prior_width=8)
    network = build_backbone(backbone)
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.2)
    job = ExpertJob(
        key="e",
        backbone=backbone,
        recipe=RecipeConfig(),
        num_samples=8,
        seed=0,
        extractor=store.sub("extractor", "x").uri,
    )
    save_expert(store.sub("expert", "e"), network.state_dict(), job)
    image = torch.rand(1, 3, 40, 40)
    with torch.inference_mode():
        seen = look(extractor, image, backbone.seen)
        expected = network.eval()(image, seen)
        assert torch.equal(open_expert(store.sub("expert", "e"))(image), expected)


def save_weights(path: Path, seed: int, **sizes: int) -> None:
    torch.manual_seed(seed)
    torch.save(build_backbone(NAFNetConfig(**sizes)).state_dict(), path)


def test_an_expert_is_named_by_what_the_file_holds_that_it_starts_from(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("other", 2)):
        save_weights(tmp_path / f"{name}.pth", seed)
    shutil.copy(tmp_path / "one.pth", tmp_path / "same.pth")
    shape, points = HierarchyConfig(groups=(1, 2)), make_blobs(2, 0.1)
    keys = {}
    for init in (None, "one", "same", "other"):
        path = None if init is None else str(tmp_path / f"{init}.pth")
        _, plans = plan(tmp_path, shape, points, init=path)
        keys[init] = {node: p.key for node, p in plans.items()}
        assert plans[0].spec.get("published") == plans["one_network"].spec.get("published")
        assert "published" not in plans[1].spec
    assert keys["one"] == keys["same"]
    for node in keys["one"]:
        assert len({keys[init][node] for init in (None, "one", "other")}) == 3


def test_without_a_warm_start_every_expert_starts_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(tmp_path / "a.pth", 0)
    shape, points = HierarchyConfig(groups=(1, 2)), make_blobs(2, 0.1)
    read: list[str] = []
    read_bytes = Storage.read_bytes

    def counted(storage: Storage, name: str) -> bytes:
        read.append(name)
        return read_bytes(storage, name)

    monkeypatch.setattr(Storage, "read_bytes", counted)
    _, plans = plan(tmp_path, shape, points, init=str(tmp_path / "a.pth"), warm_start=False)
    assert read == ["a.pth"]  # and not once for each expert
    assert len({p.spec["published"] for p in plans.values()}) == 1
    assert all(p.job.published and p.job.init is None for p in plans.values())


def test_rules_read_what_each_node_is_made_of(tmp_path: Path) -> None:
    points = make_blobs(2, 0.1)
    table = Storage.open(tmp_path / "store").sub("degrade", "t")
    dark = {0: ["low_light"], 1: ["noise", "haze"]}
    rows = [{"id": f"train/{row:04d}", "tasks": dark[row // 40]} for row in range(len(points))]
    write_table(table, "part-0.parquet", pa.Table.from_pylist(rows[::-1]))
    rule = {"degradation": "low_light", "backbone": {"name": "retinexformer"}}
    tree, plans = plan(tmp_path, HierarchyConfig(groups=(1, 2)), points, rules=[rule])
    (leaf,) = {int(leaf) for leaf in assign(tree, points[:40])}
    node = tree.node_at(leaf, 1)
    names = {n: p.job.backbone.name for n, p in plans.items()}
    alone = dict.fromkeys(("one_network", "one_network_tree"), names[0])
    assert names == {0: names[0], node: "retinexformer", 3 - node: "nafnet", **alone}
    assert names[0] == "retinexformer"
    assert plans[node].parent == plans[0].key
    assert plans[3 - node].parent is None
    planned = [e for e in read_events(tmp_path / "events.jsonl") if e["event"] == "expert_planned"]
    starts = {event["label"]: event["start"] for event in planned}
    assert starts["root"] == "random weights"
    assert starts[plans[3 - node].label].endswith("its parent is another network (retinexformer)")


def test_an_adapter_has_as_many_samples_behind_it_as_an_expert_that_starts_from_its_parent(
    tmp_path: Path,
) -> None:
    shape, points = HierarchyConfig(groups=(1, 4, 6)), make_blobs(6, 0.1)
    tree, whole = plan(tmp_path, shape, points)
    _, adapters = plan(tmp_path, shape, points, adapter={})
    for node in tree.experts():
        above = tree.parent_expert(node)
        behind = 0
        while above is not None:
            behind += whole[above].job.num_samples
            above = tree.parent_expert(above)
        if node != 0:
            before = adapters[0].job.num_samples
            assert before + adapters[node].job.num_samples == (behind + whole[node].job.num_samples)


def test_adapters_wait_for_the_root_alone_and_name_it(tmp_path: Path) -> None:
    _, plans = plan(tmp_path, HierarchyConfig(groups=(1, 2, 4)), make_blobs(4, 0.1), adapter={})
    root = plans[0]
    for node, made in plans.items():
        if node in {0, "one_network", "one_network_tree"}:
            assert (made.job.adapter, made.parent) == (None, None)
            assert made.network == "nafnet"
        else:
            assert made.job.adapter == AdapterConfig()
            assert (made.parent, made.job.init) == (root.key, root.result.uri)
            assert made.spec["parent"] == root.key
            assert made.network == "nafnet, adapter of rank 8"


def test_an_adapter_is_named_by_its_settings_and_a_whole_expert_as_without_adapters(
    tmp_path: Path,
) -> None:
    shape, points = HierarchyConfig(groups=(1, 2)), make_blobs(2, 0.1)
    plans = {
        rank: plan(tmp_path, shape, points, adapter=None if rank is None else {"rank": rank})[1]
        for rank in (None, 4, 8)
    }
    keys = {rank: {node: p.key for node, p in made.items()} for rank, made in plans.items()}
    assert len({made[1] for made in keys.values()}) == 3
    assert len({(made[0], made["one_network"]) for made in keys.values()}) == 1
    assert all("adapter" not in p.spec for p in plans[None].values())
    assert plans[4][1].spec["adapter"] == {"rank": 4, "alpha": 16, "train_norms": False}


def test_a_stored_adapter_is_opened_with_its_root_out_of_the_same_store(tmp_path: Path) -> None:
    store, backbone = Storage.open(tmp_path), NAFNetConfig(width=8)
    root = ExpertJob(key="r", backbone=backbone, recipe=RecipeConfig(), num_samples=8, seed=0)
    torch.manual_seed(0)
    weights = build_backbone(backbone).state_dict()
    save_expert(store.sub("expert", "r"), weights, root)
    init = store.sub("expert", "r").uri
    adapter = dataclasses.replace(root, key="a", init=init, adapter=AdapterConfig())
    shapes = adapter_shapes(backbone, AdapterConfig()).items()
    zeros = {name: torch.zeros(shape) for name, shape in shapes}
    save_expert(store.sub("expert", "a"), zeros, adapter)
    for key in ("r", "a"):
        opened = open_expert(store.sub("expert", key)).state_dict()
        assert torch.equal(opened["intro.weight"], weights["intro.weight"])
    assert not opened["encoders.0.0.conv2.weight"].any()


@pytest.mark.parametrize(
    ("comparisons", "names"),
    [
        (None, ["one_network", "one_network_tree"]),
        ([{"name": "PromptIR", "num_samples": 9, "backbone": {"name": "promptir"}}], ["PromptIR"]),
        ([], []),
    ],
)
def test_the_configuration_says_what_the_tree_is_compared_with(
    tmp_path: Path, comparisons: list[object] | None, names: list[str]
) -> None:
    shape, points = HierarchyConfig(groups=(1, 2)), make_blobs(2, 0.1)
    told = {} if comparisons is None else {"comparisons": comparisons}
    tree, plans = plan(tmp_path, shape, points, **told)
    assert list(plans) == [*tree.experts(), *names]
    assert [plans[name].comparison for name in names] == names
    assert [plans[name].node for name in names] == [None] * len(names)
    assert list(own_experts(list(plans.values()))) == list(tree.experts())


def test_the_network_with_the_samples_of_the_whole_tree_is_trained_first(tmp_path: Path) -> None:
    tree, plans = plan(tmp_path, HierarchyConfig(groups=(1, 2, 4)), make_blobs(4, 0.1))
    tasks = [
        TrainingTask(
            key=made.key,
            label=made.label,
            cost=made.job.num_samples,
            after=(made.parent,) if made.parent is not None else (),
        )
        for made in plans.values()
    ]
    schedule = Schedule(tasks)
    first, second = schedule.lease("a", 0), schedule.lease("b", 0)
    assert first is not None
    assert second is not None
    assert first.label == "one network, samples of the whole tree"
    assert second.label in {"root", "one network, samples of a path"}
    assert first.cost == sum(plans[node].job.num_samples for node in tree.experts())


def test_a_comparison_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="comparisons must have different names"):
        load(BuildConfig, {"experts": {"comparisons": [{"name": "a"}, {"name": "a"}]}})


TABLE_8 = ((1,), (2,), (4,), (8,), (16,), (1, 8), (4, 8), (1, 4, 8), (1, 4, 8, 16))


@pytest.mark.parametrize("start", [{"warm_start": False}, {"start_from": "root"}])
def test_the_nine_shapes_of_table_8_share_31_experts(tmp_path: Path, start: dict) -> None:
    points = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    keys: set[str] = set()
    num_chosen = 0
    for groups in TABLE_8:
        shape = HierarchyConfig(method="bisecting", groups=groups)
        tree, plans = plan(tmp_path, shape, points, samples_per_expert=800, **start)
        assert tree.groups == shape.cut_groups
        chosen = [n for n in tree.experts() if n != 0 or shape.has_root]
        keys |= {plans[node].key for node in chosen}
        num_chosen += len(chosen)
    # A group that lasts a level uncut is one expert there, and fewer are distinct.
    assert num_chosen <= 94
    assert 16 < len(keys) <= 31
    assert num_chosen >= 2.5 * len(keys)


def test_one_number_of_samples_for_all_is_also_that_of_the_network_to_compare_with(
    tmp_path: Path,
) -> None:
    shape, points = HierarchyConfig(groups=(1, 2)), make_blobs(2, 0.1)
    _, alone = plan(tmp_path, shape, points, samples_per_expert=800, warm_start=False)
    assert alone["one_network"].key == alone[0].key
    _, from_root = plan(tmp_path, shape, points, samples_per_expert=800, start_from="root")
    assert from_root["one_network"].job.num_samples == 1600
    assert from_root[1].parent == from_root[0].key


def test_an_expert_reads_the_shards_of_a_finer_tree_that_make_up_its_group(tmp_path: Path) -> None:
    points = make_blobs(2, 0.1)
    tree, leaves = build_tree(points, HierarchyConfig(groups=(1, 2)), extractor="x")
    bench = make_bench(tmp_path)
    shards = bench.store.sub("shard", "s")
    for leaf in range(4):
        shards.write_bytes(f"leaf={leaf:03d}/part-00000.parquet", b"")
    config = load(
        BuildConfig, {"hierarchy": {"groups": [1, 2]}, "experts": {"num_samples": [8, 8]}}
    )
    plans = plan_experts(
        bench,
        config,
        tree,
        Samples(
            leaf_of=leaf_table(leaves),
            table=bench.store.sub("degrade", "t"),
            shards=shards,
            shard_leaves={0: [1, 3], 1: [0, 2]},
        ),
    )
    files = {plan.role: {name[:8] for name in plan.files} for plan in plans}
    assert files[1] == {"leaf=001", "leaf=003"}
    assert files[0] == {f"leaf={leaf:03d}" for leaf in range(4)}
