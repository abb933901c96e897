"""Bundles: the same bytes for the same parts, and nothing opened that is not as it was written."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from expertree.embedding import ExtractorConfig, build_extractor, save_extractor
from expertree.errors import ArtefactError
from expertree.hierarchy import load_tree, save_tree
from expertree.restorer import open_bundle, read_outline
from expertree.restorer.manifest import MANIFEST, describe
from expertree.routing import Router, RouterShape, Wish, save_router
from expertree.storage import Storage


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))


def rewrite_manifest(path: Path, **changes: object) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(manifest | changes))


def rehash(path: Path, name: str) -> None:
    """Make the manifest agree with a changed file."""
    manifest = json.loads((path / MANIFEST).read_text())
    entry = describe((path / name).read_bytes())
    manifest["files"][name] = {"sha256": entry.sha256, "num_bytes": entry.num_bytes}
    (path / MANIFEST).write_text(json.dumps(manifest))


def test_a_bundle_is_json_and_safetensors_and_lists_every_file(bundle_path: Path) -> None:
    names = Storage.open(bundle_path).list_files()
    manifest = json.loads((bundle_path / MANIFEST).read_text())
    assert {Path(name).suffix for name in names} == {".json", ".safetensors"}
    assert sorted([*manifest["files"], MANIFEST]) == names


def test_the_same_parts_give_the_same_bytes(bundle_path: Path, parts: Any, tmp_path: Path) -> None:
    again = Storage.open(tmp_path / "again")
    parts.write(again)
    first = Storage.open(bundle_path)
    assert again.list_files() == first.list_files()
    for name in first.list_files():
        assert again.read_bytes(name) == first.read_bytes(name), name


def test_writing_over_a_bundle_leaves_nothing_of_the_old_one(copy: Path, parts: Any) -> None:
    (copy / "experts" / "099").mkdir()
    (copy / "experts" / "099" / "expert.json").write_text("{}")
    parts.write(Storage.open(copy))
    assert not (copy / "experts" / "099").exists()
    open_bundle(Storage.open(copy))


def test_parts_come_back_as_they_were(bundle_path: Path, parts: Any) -> None:
    bundle = open_bundle(Storage.open(bundle_path))
    assert tuple(entry.node for entry in bundle.manifest.experts) == bundle.tree.experts()
    for node, directory in parts.experts.items():
        weights = safetensors.torch.load(directory.read_bytes("expert.safetensors"))
        loaded = bundle.load_expert(node)
        assert not loaded.training
        assert all(torch.equal(loaded.state_dict()[name], weights[name]) for name in weights)
        num_parameters = sum(value.numel() for value in weights.values())
        assert bundle.entry(node).num_parameters == num_parameters
        assert bundle.entry(node).backbone == "nafnet"


def test_a_directory_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"is not a bundle.*manifest\.json"):
        open_bundle(Storage.open(tmp_path))


def test_one_changed_bit_anywhere_is_found_and_named(copy: Path) -> None:
    names = [name for name in Storage.open(copy).list_files() if name != MANIFEST]
    for name in names:
        before = (copy / name).read_bytes()
        middle = len(before) // 2
        changed = before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :]
        (copy / name).write_bytes(changed)
        with pytest.raises(ArtefactError, match=name):
            open_bundle(Storage.open(copy))
        (copy / name).write_bytes(before)
    open_bundle(Storage.open(copy))


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "router" / "router.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"router/router\.safetensors is missing"):
        open_bundle(Storage.open(copy))


def test_an_expert_that_changes_after_opening_is_found_when_it_is_read(copy: Path) -> None:
    bundle = open_bundle(Storage.open(copy))
    path = copy / "experts" / "000" / "expert.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match=r"experts/000/expert\.safetensors"):
        bundle.load_expert(0)


def test_an_expert_of_another_shape_does_not_load_even_with_its_hash(copy: Path) -> None:
    name = "experts/000/expert.safetensors"
    weights = safetensors.torch.load((copy / name).read_bytes())
    first = next(iter(weights))
    weights[first] = torch.zeros(7)
    (copy / name).write_bytes(safetensors.torch.save(weights))
    card = json.loads((copy / "experts/000/expert.json").read_text())
    card["sha256"] = describe((copy / name).read_bytes()).sha256
    (copy / "experts/000/expert.json").write_text(json.dumps(card))
    rehash(copy, name)
    rehash(copy, "experts/000/expert.json")
    with pytest.raises(ArtefactError, match=name):
        open_bundle(Storage.open(copy))


def test_a_router_for_another_tree_does_not_load_even_with_its_hash(copy: Path) -> None:
    router = Router(RouterShape(embed_dim=16, num_leaves=4, num_levels=3))
    save_router(router, Storage.open(copy / "router"))
    rehash(copy, "router/router.json")
    rehash(copy, "router/router.safetensors")
    with pytest.raises(ArtefactError, match="router/ does not belong"):
        open_bundle(Storage.open(copy))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "format 3, this program reads 4"),
        ({"experts": []}, "missing"),
        ({"surprise": 1}, "surprise"),
        ({"embed_dim": 17}, "does not belong"),
        ({"files": {"../x.json": {"sha256": "", "num_bytes": 0}}}, r"lists '\.\./x\.json'"),
        ({"files": {"/etc/x.json": {"sha256": "", "num_bytes": 0}}}, "lists '/etc"),
        ({"files": {"model.pt": {"sha256": "", "num_bytes": 0}}}, r"lists 'model\.pt'"),
        ({"files": {}}, "is not in"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused(
    copy: Path, changes: dict[str, object], message: str
) -> None:
    rewrite_manifest(copy, **changes)
    with pytest.raises(ArtefactError, match=message):
        open_bundle(Storage.open(copy))


def test_experts_that_are_not_the_trees_are_not_bundled(parts: Any, tmp_path: Path) -> None:
    fewer = dataclasses.replace(parts, experts={0: parts.experts[0]})
    with pytest.raises(ArtefactError, match="missing"):
        fewer.write(Storage.open(tmp_path / "bundle"))
    assert not (tmp_path / "bundle" / MANIFEST).exists()


@pytest.fixture
def other_extractor(tmp_path: Path) -> Storage:
    """One of another build: the same sizes, other weights."""
    directory = Storage.open(tmp_path / "other")
    config = ExtractorConfig(embed_dim=16, view_px=64)
    save_extractor(build_extractor(config, seed=7), directory)
    return directory


def test_an_extractor_and_a_tree_of_different_builds_are_not_bundled(
    parts: Any, other_extractor: Storage, tmp_path: Path
) -> None:
    mixed = dataclasses.replace(parts, extractor=other_extractor)
    with pytest.raises(ArtefactError, match="take both from one build"):
        mixed.write(Storage.open(tmp_path / "bundle"))
    assert not (tmp_path / "bundle" / MANIFEST).exists()


def test_an_extractor_of_another_build_does_not_load_even_with_its_hash(
    copy: Path, other_extractor: Storage
) -> None:
    for name in ("extractor.json", "extractor.safetensors"):
        (copy / "extractor" / name).write_bytes(other_extractor.read_bytes(name))
        rehash(copy, f"extractor/{name}")
    with pytest.raises(ArtefactError, match="extractor/ is not what the bundle's tree"):
        open_bundle(Storage.open(copy))


def test_a_bundle_whose_tree_names_the_stage_of_its_extractor_still_opens(copy: Path) -> None:
    folder = Storage.open(copy / "tree")
    save_tree(dataclasses.replace(load_tree(folder), extractor="f9ac63a5326735ab7477"), folder)
    for name in ("tree.json", "tree.safetensors"):
        rehash(copy, f"tree/{name}")
    open_bundle(Storage.open(copy))


def test_an_outline_is_read_and_checked_without_the_large_files(copy: Path) -> None:
    shutil.rmtree(copy / "extractor")
    for weights in (copy / "experts").rglob("*.safetensors"):
        weights.unlink()
    directory = Storage.open(copy)
    outline = read_outline(directory)
    outline.check_wish(Wish(level=1, instruction=("rain",)))
    for wish in (Wish(level=9), Wish(expert=99), Wish(instruction=("fog",)), Wish(confidence=3)):
        with pytest.raises(ValueError, match=r"9|99|fog|3"):
            outline.check_wish(wish)
    with pytest.raises(ArtefactError, match="missing"):
        open_bundle(directory)
    (copy / "tree" / "tree.json").write_bytes(b"{}")
    with pytest.raises(ArtefactError, match=r"tree\.json has sha256"):
        read_outline(directory)


def test_a_bundles_outline_is_the_one_that_is_read_alone(bundle_path: Path) -> None:
    whole = open_bundle(Storage.open(bundle_path)).outline
    alone = read_outline(Storage.open(bundle_path))
    assert (whole.manifest, whole.guide) == (alone.manifest, alone.guide)
