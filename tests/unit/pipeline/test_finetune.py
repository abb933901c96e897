"""A bundle that is trained further: what stays to the byte, what changes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expertree import Restorer
from expertree.config import load
from expertree.errors import ArtefactError, ConfigError
from expertree.orchestration.run import run_build
from expertree.pipeline.dry_run import describe_plan
from expertree.pipeline.finetune import settle
from expertree.pipeline.settings import BuildConfig
from expertree.restorer import Manifest, open_bundle
from expertree.restorer.compact import write_compact
from expertree.restorer.manifest import read_manifest
from expertree.routing import Wish
from expertree.storage import Storage
from small_builds import SMALL

FURTHER = {key: value for key, value in SMALL.items() if key not in ("extractor", "hierarchy")}
RECIPE: dict[str, Any] = {"recipe": {"patch_px": 32}}
FURTHER["experts"] = RECIPE


def config(folder: Path, output: str, store: str, **sections: Any) -> BuildConfig:
    places = {"output": f"{folder}/{output}", "store": f"{folder}/{store}"}
    return load(BuildConfig, {**places, "cluster": {"runner": "local"}, **sections})


def further(folder: Path, output: str = "out", **sections: Any) -> BuildConfig:
    bundle = {"bundle": f"{folder}/photo"}
    finetune = bundle | sections.pop("finetune", {"num_samples": 8})
    return config(folder, output, "other_store", finetune=finetune, **{**FURTHER, **sections})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compact bundle in `photo`, all that is left of the build that made it."""
    folder = tmp_path_factory.mktemp("finetune")
    assert run_build(config(folder, "first", "store", **SMALL)) == 0
    bundle = open_bundle(Storage.open(folder / "first" / "bundle"))
    write_compact(bundle, Storage.open(folder / "photo"))
    (folder / "store").rename(folder / "gone")
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    """The report of a build that trains one node further, and no other."""
    rules = [{"nodes": [2], "num_samples": 12}]
    experts = RECIPE | {"rules": rules}
    assert run_build(further(folder, experts=experts, finetune={"num_samples": 0})) == 0
    found: dict[str, Any] = json.loads((folder / "out" / "report.json").read_text())
    return found


def hashes(manifest: Manifest, node: int) -> set[str]:
    return {manifest.files[name].sha256 for name in manifest.experts[node].files}


def manifests(folder: Path, output: str = "out") -> tuple[Manifest, Manifest]:
    return tuple(  # type: ignore[return-value]
        read_manifest(Storage.open(folder / name)) for name in ("photo", f"{output}/bundle")
    )


def trained(report: dict[str, Any]) -> set[int]:
    return {one["index"] for one in report["experts"] if one["start"] == "the bundle's weights"}


def test_only_what_is_wanted_is_trained_and_the_rest_stays_to_the_byte(
    folder: Path, report: dict[str, Any]
) -> None:
    assert trained(report) == {2}
    before, after = manifests(folder)
    for node in range(3):
        same = hashes(before, node) == hashes(after, node)
        assert same == (node != 2)
    assert report["finetuned"]["said"].startswith("1 of 3 experts were trained further (node 2)")
    assert "trained further" in (folder / "out" / "report.html").read_text()


def test_tree_and_extractor_stay_what_they_were(folder: Path, report: dict[str, Any]) -> None:
    before = open_bundle(Storage.open(folder / "photo"))
    after = open_bundle(Storage.open(folder / "out" / "bundle"))
    assert report["tree"]["groups"] == list(before.tree.groups)
    assert np.array_equal(before.tree.centroids, after.tree.centroids)
    ours, theirs = before.extractor.state_dict(), after.extractor.state_dict()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_second_start_trains_nothing(folder: Path, report: dict[str, Any]) -> None:
    del report
    rules = [{"nodes": [2], "num_samples": 12}]
    experts = RECIPE | {"rules": rules}
    done = {p: p.stat().st_mtime_ns for p in (folder / "other_store").rglob("DONE.json")}
    assert run_build(further(folder, experts=experts, finetune={"num_samples": 0})) == 0
    again = {p: p.stat().st_mtime_ns for p in (folder / "other_store").rglob("DONE.json")}
    assert done == again


def test_an_expert_goes_on_from_its_own_weights(folder: Path) -> None:
    """One step at a rate of nothing leaves each expert as it was in the bundle."""
    still = {"patch_px": 32, "learning_rate": 1e-12, "matrix_learning_rate": 1e-12}
    wanted = further(folder, "still", experts={"recipe": still}, finetune={"num_samples": 4})
    assert run_build(wanted) == 0
    one, other = (
        Restorer.load(str(folder / name), engine="torch") for name in ("photo", "still/bundle")
    )
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    for node in range(3):
        found = [own.restore(image, Wish(expert=node)).image for own in (one, other)]
        assert np.abs(found[0].astype(int) - found[1].astype(int)).max() <= 1
    report = json.loads((folder / "still" / "report.json").read_text())
    assert report["finetuned"]["said"] == "3 of 3 experts were trained further."


def test_what_was_trained_further_can_be_grown(folder: Path, report: dict[str, Any]) -> None:
    del report
    shape = {"hierarchy": SMALL["hierarchy"], "experts": RECIPE | {"num_samples": [4, 4]}}
    out = {"build": f"{folder}/out"}
    grown = config(folder, "grown", "other_store", grow=out, **FURTHER | shape)
    assert run_build(grown) == 0


def test_a_dry_run_makes_nothing_and_says_what_there_would_be(folder: Path) -> None:
    bundle = {"bundle": f"{folder}/photo", "num_samples": 8}
    said = describe_plan(config(folder, "dry", "dry_store", finetune=bundle, **FURTHER))
    assert f"experts  the 3 of {folder}/photo, 8 samples further each" in said
    assert not list((folder / "dry_store").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"hierarchy": {"groups": [1, 5]}}, "hierarchy is decided by finetune.bundle"),
        ({"extractor": {"embed_dim": 64}}, "extractor is decided by"),
        ({"experts": RECIPE | {"backbone": {"width": 8}}}, r"experts.backbone is decided by"),
        ({"experts": RECIPE | {"samples_per_expert": 8}}, "give finetune.num_samples"),
        ({"experts": RECIPE | {"adapter": {"rank": 2}}}, r"experts.adapter is decided by"),
        (
            {"experts": RECIPE | {"rules": [{"nodes": [1], "init": "a.pth"}]}},
            "not another backbone or init",
        ),
        (
            {"experts": RECIPE | {"rules": [{"nodes": [9], "num_samples": 8}]}},
            r"names nodes \[9\]; the tree has nodes 0 to 2",
        ),
        ({"experts": RECIPE | {"start_from": "root"}}, "those of finetune.bundle go on"),
    ],
)
def test_what_the_bundle_decides_is_refused(
    folder: Path, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        settle(further(folder, **sections))


def test_the_output_that_the_bundle_lies_in_is_refused(
    folder: Path, report: dict[str, Any]
) -> None:
    del report
    (folder / "other_name").symlink_to(folder / "out")
    for name in ("out", "other_name"):
        bundle = {"bundle": f"{folder}/{name}/bundle", "num_samples": 8}
        with pytest.raises(ConfigError, match=r"has finetune.bundle in it, which"):
            settle(further(folder, finetune=bundle))


def test_an_expert_that_goes_on_sees_other_samples_than_before(
    folder: Path, report: dict[str, Any]
) -> None:
    del report
    made = [
        json.loads(p.read_text())["spec"]
        for p in (folder / "other_store/expert").rglob("DONE.json")
    ]
    gone = [json.loads(p.read_text())["spec"] for p in (folder / "gone/expert").rglob("DONE.json")]
    assert {spec["seed"] for spec in gone} == {0}
    drawn = {spec["parent"]: spec["seed"] for spec in made if spec.get("parent") is not None}
    assert len(set(drawn.values())) == len(drawn) > 0
    assert 0 not in drawn.values()


def test_a_leaf_without_images_keeps_its_expert_and_what_instructions_know_of_it(
    folder: Path,
) -> None:
    alone = {"mixed_fraction": 0.0, "chooser_mixed_fraction": 0.0, "tasks": ["noise"]}
    few = FURTHER["degradation"] | alone | {"num_train": 1}
    assert run_build(further(folder, "few", degradation=few)) == 0
    before, after = (open_bundle(Storage.open(folder / name)) for name in ("photo", "few/bundle"))
    one, other = (own.manifest for own in (before, after))
    assert sum(hashes(one, node) == hashes(other, node) for node in (1, 2)) == 1
    assert set(after.guide.names) >= set(before.guide.names) >= {"noise", "blur"}
    assert np.array_equal(after.guide.leaf_mask(["blur"]), before.guide.leaf_mask(["blur"]))
    again = {"bundle": f"{folder}/few/bundle", "num_samples": 0}
    assert run_build(further(folder, "fewer", degradation=few, finetune=again)) == 0
    last = open_bundle(Storage.open(folder / "fewer" / "bundle")).guide
    assert np.array_equal(last.leaf_mask(["blur"]), before.guide.leaf_mask(["blur"]))


def test_what_else_the_bundle_says_is_taken_from_it(folder: Path) -> None:
    most = settle(further(folder, hierarchy={"fit_samples": 500})).hierarchy
    assert (most.groups, most.fit_samples) == ((1, 2), 500)
    large = {"recipe": {"patch_px": 32, "batch_size": 6000}, "num_samples": [6000, 6000]}
    settled = settle(further(folder, experts=large, finetune={"num_samples": 0}))
    assert settled.experts.num_samples == (6000, 6000)
    assert (
        run_build(config(folder, "rootless", "store", **SMALL | {"hierarchy": {"groups": [2]}}))
        == 0
    )
    rootless = {"bundle": f"{folder}/rootless/bundle"}
    assert settle(further(folder, finetune=rootless)).hierarchy.groups == (2,)


def test_a_build_begins_with_one_thing() -> None:
    with pytest.raises(ConfigError, match=r"finetune.num_samples is of finetune.bundle"):
        settle(load(BuildConfig, {"finetune": {"num_samples": 8}}))
    with pytest.raises(ConfigError, match=r"grow.build and finetune.bundle both say"):
        load(BuildConfig, {"grow": {"build": "a"}, "finetune": {"bundle": "b"}})
    with pytest.raises(ConfigError, match="a new one needs samples"):
        load(BuildConfig, {"experts": {"rules": [{"nodes": [1], "num_samples": 0}]}})
    with pytest.raises(ConfigError, match=r"0 or at least one batch \(4\), got 3"):
        load(BuildConfig, {"finetune": {"bundle": "b", "num_samples": 3}})
    with pytest.raises(ConfigError, match="num_samples must be at least 0, got -1"):
        load(BuildConfig, {"finetune": {"num_samples": -1}})


def test_a_folder_without_a_bundle_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    wanted = config(tmp_path, "out", "store", finetune={"bundle": f"{tmp_path}/none"}, **FURTHER)
    with pytest.raises(ArtefactError, match=r"none.* is not a bundle"):
        run_build(wanted)
    assert not (tmp_path / "store").exists()
