"""Bundles whose experts are adapters: the root once, and nothing that does not belong to it."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from expertree.errors import ArtefactError
from expertree.experts import AdapterConfig, ExpertJob, RecipeConfig, load_expert
from expertree.experts.adapter import adapter_shapes
from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.weights import read_card, save_expert
from expertree.restorer import open_bundle
from expertree.restorer.manifest import MANIFEST, describe
from expertree.storage import Storage


@pytest.fixture
def copy(adapter_bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(adapter_bundle_path, tmp_path / "copy"))


def rehash(path: Path, *names: str) -> None:
    """Make the manifest agree with changed files."""
    manifest = json.loads((path / MANIFEST).read_text())
    for name in names:
        manifest["files"][name] = dataclasses.asdict(describe((path / name).read_bytes()))
    (path / MANIFEST).write_text(json.dumps(manifest))


def test_the_root_is_stored_once_and_the_others_as_their_adapters(
    adapter_bundle_path: Path, adapter_parts: Any
) -> None:
    bundle = open_bundle(Storage.open(adapter_bundle_path))
    names = bundle.directory.list_files("safetensors")
    weights = [name for name in names if name.startswith("experts/")]
    assert weights == [
        "experts/000/expert.safetensors",
        *(f"experts/{node:03d}/adapter.safetensors" for node in adapter_parts.experts if node),
    ]
    for node, part in adapter_parts.experts.items():
        entry = bundle.entry(node)
        assert entry.adapter == (AdapterConfig(rank=2, train_norms=True) if node else None)
        assert [bundle.directory.read_bytes(name) for name in entry.files] == [
            part.read_bytes(Path(name).name) for name in entry.files
        ]
        assert entry.num_parameters == bundle.entry(0).num_parameters


def test_a_bundle_of_large_adapters_is_hardly_larger_than_its_root(
    parts: Any, tmp_path: Path
) -> None:
    backbone = NAFNetConfig(width=32, encoder=(1, 1, 1), middle=1, decoder=(1, 1, 1))
    job = ExpertJob(key="r", backbone=backbone, recipe=RecipeConfig(), num_samples=8, seed=0)
    root = Storage.open(tmp_path / "root")
    save_expert(root, build_backbone(backbone).state_dict(), job)
    adapter = dataclasses.replace(job, key="a", init=root.uri, adapter=AdapterConfig())
    zeros = {n: torch.zeros(s) for n, s in adapter_shapes(backbone, AdapterConfig()).items()}
    save_expert(Storage.open(tmp_path / "adapter"), zeros, adapter)
    experts = dict.fromkeys(parts.experts, Storage.open(tmp_path / "adapter")) | {0: root}
    directory = Storage.open(tmp_path / "bundle")
    dataclasses.replace(parts, experts=experts).write(directory)
    sizes = [
        len(directory.read_bytes(name))
        for name in directory.list_files("safetensors")
        if name.startswith("experts/")
    ]
    num_scalars = [read_card(root).num_parameters] + [
        sum(value.numel() for value in zeros.values())
    ] * (len(experts) - 1)
    for size, scalars in zip(sizes, num_scalars, strict=True):
        assert 4 * scalars < size < 4 * scalars + 20_000
    assert sizes[1] < sizes[0] / 8


def test_an_expert_comes_out_as_it_went_in(adapter_bundle_path: Path, adapter_parts: Any) -> None:
    bundle = open_bundle(Storage.open(adapter_bundle_path))
    for node, part in adapter_parts.experts.items():
        ours = bundle.load_expert(node).state_dict()
        theirs = load_expert(part, root=adapter_parts.experts[0]).state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_same_parts_give_the_same_bytes(
    adapter_bundle_path: Path, adapter_parts: Any, tmp_path: Path
) -> None:
    again, first = Storage.open(tmp_path / "again"), Storage.open(adapter_bundle_path)
    adapter_parts.write(again)
    assert again.list_files() == first.list_files()
    assert all(again.read_bytes(name) == first.read_bytes(name) for name in first.list_files())


def test_one_changed_bit_of_an_adapter_is_found_and_named(copy: Path) -> None:
    name = "experts/002/adapter.safetensors"
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(bytes(data))
    with pytest.raises(ArtefactError, match=name):
        open_bundle(Storage.open(copy))


def test_an_adapter_that_changes_after_opening_is_found_when_it_is_read(copy: Path) -> None:
    bundle = open_bundle(Storage.open(copy))
    path = copy / "experts" / "002" / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    for read in (bundle.load_expert, bundle.load_adapter):
        with pytest.raises(ArtefactError, match=r"experts/002/adapter\.safetensors"):
            read(2)


def test_an_adapter_of_another_shape_does_not_load_even_with_its_hash(copy: Path) -> None:
    folder, name = "experts/002", "experts/002/adapter.safetensors"
    tensors = safetensors.torch.load((copy / name).read_bytes())
    tensors["intro.lora_A"] = torch.zeros(7)
    (copy / name).write_bytes(safetensors.torch.save(tensors))
    card = json.loads((copy / folder / "expert.json").read_text())
    card["sha256"] = describe((copy / name).read_bytes()).sha256
    (copy / folder / "expert.json").write_text(json.dumps(card))
    rehash(copy, name, f"{folder}/expert.json")
    with pytest.raises(ArtefactError, match=rf"{name} has 'intro.lora_A' of shape \(7,\)"):
        open_bundle(Storage.open(copy))


def test_adapters_on_another_root_do_not_load_even_with_their_hashes(
    copy: Path, parts: Any
) -> None:
    for name in ("expert.json", "expert.safetensors"):
        (copy / "experts/000" / name).write_bytes(parts.experts[1].read_bytes(name))
        rehash(copy, f"experts/000/{name}")
    with pytest.raises(ArtefactError, match="is an adapter on expert expert-0"):
        open_bundle(Storage.open(copy))


def test_adapters_on_another_root_are_not_bundled(
    adapter_parts: Any, parts: Any, tmp_path: Path
) -> None:
    experts = adapter_parts.experts | {0: parts.experts[1]}
    with pytest.raises(ArtefactError, match="is an adapter on expert expert-0"):
        dataclasses.replace(adapter_parts, experts=experts).write(Storage.open(tmp_path / "b"))
    assert not (tmp_path / "b" / MANIFEST).exists()


def test_adapters_of_two_kinds_are_not_bundled(adapter_parts: Any, tmp_path: Path) -> None:
    card = read_card(adapter_parts.experts[1])
    job = ExpertJob(
        key="other",
        backbone=card.backbone,
        recipe=RecipeConfig(),
        num_samples=8,
        seed=0,
        init=adapter_parts.experts[0].uri,
        adapter=AdapterConfig(rank=3),
    )
    shapes = adapter_shapes(card.backbone, AdapterConfig(rank=3))
    save_expert(Storage.open(tmp_path / "o"), {n: torch.zeros(s) for n, s in shapes.items()}, job)
    experts = adapter_parts.experts | {1: Storage.open(tmp_path / "o")}
    with pytest.raises(ArtefactError, match="adapters of 2 kinds"):
        dataclasses.replace(adapter_parts, experts=experts).write(Storage.open(tmp_path / "b"))


def test_a_manifest_that_calls_an_adapter_otherwise_is_refused(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST).read_text())
    for entry in manifest["experts"]:
        if entry["adapter"] is not None:
            entry["adapter"]["rank"] = 9
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=r"expert\.json does not belong .*rank=9"):
        open_bundle(Storage.open(copy))


def test_adapters_and_whole_networks_may_be_mixed(
    adapter_parts: Any, parts: Any, tmp_path: Path
) -> None:
    experts = adapter_parts.experts | {1: parts.experts[1]}
    mixed = dataclasses.replace(adapter_parts, experts=experts)
    mixed.write(Storage.open(tmp_path / "mixed"))
    bundle = open_bundle(Storage.open(tmp_path / "mixed"))
    assert [e.node for e in bundle.manifest.experts if e.adapter is None] == [0, 1]
