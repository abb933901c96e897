"""A paper's experiment on real pairs: laid out as the field's sets, built, bundled, measured.

`paper_5t` as it is in its YAML, with tiny networks and few samples, on cuts of the pictures in the
folder that EXPERTREE_DATA names. It has no films: blurred cuts of photographs stand in for GoPro.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from evaluated import check_patch_by_patch
from expertree.cli.composing import compose
from expertree.degradation.physics import blur, from_u8, motion_kernel, to_u8
from expertree.images.io import decode_photo_u8, encode_png
from expertree.orchestration.run import run_build
from expertree.pipeline.dry_run import describe_plan
from expertree.pipeline.patch_sets import trained_on
from expertree.pipeline.settings import BuildConfig
from expertree.restorer.on_dataset import EvaluateConfig, evaluate_bundle

SIDE_PX = 64
RESTORMER = (
    "{name: restormer, width: 4, encoder: [1, 1, 1], middle: 1, decoder: [1, 1, 1],"
    " heads: [1, 2, 2, 4], refinement: 1}"
)
RETINEXFORMER = "{name: retinexformer, width: 4, encoder: [1, 1], middle: 1}"
TINY = (
    "data.partial=true",
    "cluster.use_gpu=false",
    "cluster.runner=local",
    "degradation.patch_px=48",
    "degradation.num_train=96",
    "degradation.num_extractor=48",
    "degradation.num_route=48",
    "degradation.num_val_in=40",
    "degradation.num_val_out=6",
    "degradation.num_val_clean=4",
    "photographs.val_fraction=0.25",
    "photographs.route_fraction=0.25",
    "extractor.form=plain",
    "extractor.clip={name: '', pretrained: '', image_tower: test_resnet}",
    "extractor.view_px=32",
    "extractor.recipe.num_steps=12",
    "extractor.recipe.batch_size=16",
    "extractor.recipe.crop_px=32",
    "extractor.recipe.last_crop_px=32",
    "extractor.recipe.num_threads=1",
    "hierarchy.groups=[1,2,3]",
    f"experts.backbone={RESTORMER}",
    f"experts.rules=[{{degradation: low_light, min_share: 0.3, backbone: {RETINEXFORMER}}}]",
    "experts.samples_per_expert=16",
    "experts.recipe.patch_px=32",
    "router.num_epochs=2",
    "num_examples=1",
)

pytestmark = pytest.mark.timeout(1500)


def cut(path: Path) -> np.ndarray[Any, Any]:
    """The middle of a picture at a quarter of its size."""
    image = decode_photo_u8(path.read_bytes())
    small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    top, left = (small.shape[0] - SIDE_PX) // 2, (small.shape[1] - SIDE_PX) // 2
    return np.ascontiguousarray(small[top : top + SIDE_PX, left : left + SIDE_PX])


def save(path: Path, image: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


def files(folder: Path) -> list[Path]:
    found = sorted(folder.iterdir())
    assert found, folder
    return found


def lay_out_pairs(source: Path, sides: Sequence[str], target: Path, names: Sequence[str]) -> None:
    """Copy cuts of pairs into a set's own folders and names."""
    for number, path in enumerate(files(source / sides[0]), start=1):
        for side, name in zip(sides, names, strict=True):
            save(target / name.format(number), cut(source / side / path.name))


def lay_out_haze(source: Path, target: Path) -> None:
    """Two rooms with two hazy pictures each, and two pictures from outdoors."""
    for hazy in files(source / "its_indoor/hazy"):
        room = hazy.name.partition("_")[0]
        save(target / f"hazy/000{room}_{hazy.stem}.png", cut(hazy))
        save(target / f"clear/000{room}.png", cut(source / f"its_indoor/clear/{room}.png"))
    for number, hazy in enumerate(files(source / "ots_outdoor/hazy"), start=11):
        clear = next(p for p in files(source / "ots_outdoor/clear") if p.stem == hazy.stem)
        save(target / f"hazy/00{number}_0.8.png", cut(hazy))
        save(target / f"clear/00{number}.png", cut(clear))


def lay_out_films(photographs: Sequence[Path], target: Path) -> None:
    for film, path in enumerate(photographs):
        sharp = cut(path)
        for frame, angle_deg in enumerate((10.0, 70.0)):
            shown = np.roll(sharp, frame, axis=0)
            kernel = motion_kernel(size_px=9, angle_deg=angle_deg)
            name = f"GOPR{film:04d}_11_00-{frame:06d}.png"
            save(target / "input" / name, to_u8(blur(from_u8(shown), kernel=kernel)))
            save(target / "target" / name, shown)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets of `paper_5t`, small, in their own layouts."""
    given = os.environ.get("EXPERTREE_DATA")
    if not given:
        pytest.skip("EXPERTREE_DATA names no folder of pictures")
    data, root = Path(given), tmp_path_factory.mktemp("sets")
    rain = ("input/rain-{:03d}.png", "target/norain-{:03d}.png")
    for split, own in (("train", "train"), ("test", "val")):
        lay_out_pairs(data / "derain" / own, ("input", "target"), root / "Rain100L" / split, rain)
    light = ("low/{}.png", "high/{}.png")
    lay_out_pairs(data / "lowlight/train", ("low", "normal"), root / "LOL/our485", light)
    lay_out_haze(data / "dehaze", root / "RESIDE/OTS")
    photographs = files(data / "clean/train")
    lay_out_films(photographs[:4], root / "GoPro/train")
    for number, path in enumerate(photographs[4:10]):
        save(root / "BSD400" / f"{number}.png", cut(path))
    for number, path in enumerate(photographs[10:16]):
        save(root / "WED/pristine_images" / f"{number:05d}.png", cut(path))
    return root


@pytest.fixture(scope="module")
def built(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildConfig:
    """The build, with the same share of each source: by its counts, haze would have no patch."""
    folder = tmp_path_factory.mktemp("paper")
    places = [f"data.root={sets}", f"store={folder}/store", f"output={folder}/out"]
    config = compose(
        BuildConfig,
        ["experiment=paper_5t", *places, *TINY],
        verb="build",
        config_name="build_tree",
    )
    assert config is not None
    sources = tuple(dataclasses.replace(one, repeats=None) for one in config.data.sources)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=sources))
    assert run_build(config) == 0
    return config


def report_of(config: BuildConfig) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(Path(config.output, "report.json").read_text())
    return report


def test_tables_figures_and_examples_treat_pairs_and_synthesis_alike(built: BuildConfig) -> None:
    report = report_of(built)
    table = next(t for t in report["tables"] if (t["distribution"], t["kind"]) == ("in", "single"))
    assert set(table["columns"]) == {
        *("noise", "rain", "haze", "motion_blur", "low_light", "average")
    }
    routed = next(row for row in table["rows"] if row["method"] == "routed")
    assert len(routed["psnr_rgb"]) == 6
    assert all(np.isfinite(routed["psnr_rgb"]))
    labels = {example["id"].rpartition("(")[2].partition("-")[0] for example in report["examples"]}
    assert labels == {"in", "out", "rain100l", "reside", "gopro", "lol_v1"}
    assert set(report["classical"]) == set(table["columns"]) - {"average"}
    assert len([one for one in report["experts"] if one["index"] is not None]) >= 4


def test_no_scene_of_validation_was_trained_on(built: BuildConfig) -> None:
    stored = report_of(built)["stored"]
    clean = {
        name: trained_on(
            json.loads(Path(stored[f"degrade/{name}"], "DONE.json").read_text())["spec"]
        )
        for name in ("train", "route", "val_in")
    }
    assert all(clean.values())
    assert clean["train"] < clean["route"]
    assert not clean["route"] & clean["val_in"]


def test_pairs_are_stored_as_they_are_and_the_extractor_saw_degrees_alone(
    built: BuildConfig,
) -> None:
    stored = report_of(built)["stored"]

    def kinds(name: str) -> set[str]:
        folder = Path(stored[f"degrade/{name}"])
        tables = [pq.read_table(path, columns=["kind"]) for path in folder.glob("*.parquet")]
        return {kind for table in tables for kind in table["kind"].to_pylist()}

    assert kinds("train") == {"single", "pair"}
    assert "pair" in kinds("val_in")
    assert "pair" not in kinds("extractor") | kinds("val_out") | kinds("val_clean")


@pytest.mark.parametrize("split", ["val_in", "val_out"])
def test_the_bundle_restores_each_patch_as_the_evaluation_said(
    built: BuildConfig, split: str
) -> None:
    check_patch_by_patch(Path(built.output), split)


def test_the_bundle_is_measured_on_the_sets_own_test_pictures(
    built: BuildConfig, sets: Path
) -> None:
    asked = EvaluateConfig(
        bundle=f"{built.output}/bundle",
        dataset="rain100l",
        root=str(sets / "Rain100L"),
        split="test",
        partial=True,
    )
    summary = evaluate_bundle(asked, lambda *_: None)
    assert summary["groups"]["rain"]["num_images"] == len(files(sets / "Rain100L/test/input"))
    assert np.isfinite(summary["groups"]["rain"]["restored"]["psnr"])


def test_a_second_build_would_make_nothing(built: BuildConfig) -> None:
    assert "nothing but the report" in describe_plan(built)
