"""A whole build in one process: the stages, the bundle and the report without a cluster."""

import json
from pathlib import Path

import numpy as np
import pytest

from evaluated import check_patch_by_patch
from expertree import Restorer
from expertree.config import load
from expertree.events import read_events
from expertree.orchestration.run import run_build
from expertree.pipeline.settings import BuildConfig
from expertree.routing import Wish
from small_builds import SMALL


def config(folder: Path) -> BuildConfig:
    places = {"output": f"{folder}/out", "store": f"{folder}/store"}
    return load(BuildConfig, {**SMALL, **places, "cluster": {"runner": "local"}})


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    assert run_build(config(folder)) == 0
    return folder


def test_a_build_in_one_process_starts_no_cluster_and_ends_with_a_report(build: Path) -> None:
    assert "cluster_starting" not in {
        event["event"] for event in read_events(build / "out" / "events.jsonl")
    }
    report = json.loads((build / "out" / "report.json").read_text())
    assert report["cost"]["num_experts"] == 3
    assert {"one_network", "one_network_tree"} <= set(report["summary"]["psnr_rgb"]["in"])
    assert (build / "out" / "report.html").exists()


@pytest.mark.parametrize("split", ["val_in", "val_out"])
def test_the_bundle_restores_each_patch_as_the_evaluation_said(build: Path, split: str) -> None:
    check_patch_by_patch(build / "out", split)


def test_its_bundle_restores_an_image(build: Path) -> None:
    restorer = Restorer.load(str(build / "out" / "bundle"))
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    restoration = restorer.restore(image, Wish(insist=True))
    assert restoration.image.shape == image.shape
    assert restoration.route.expert in {0, 1, 2}


def test_a_second_build_finds_everything(build: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (build / "store").rglob("DONE.json")}
    assert run_build(config(build)) == 0
    after = {path: path.stat().st_mtime_ns for path in (build / "store").rglob("DONE.json")}
    assert after == before
