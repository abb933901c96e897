"""An expert's training as a tracker records it."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from expertree.degradation.recipe import Recipe
from expertree.errors import ConfigError, TrainingError
from expertree.events import read_events
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.losses import LOSSES
from expertree.images.io import encode_png
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.follow_training import TrackedRun, tracking_folder
from expertree.pipeline.tables import write_table
from expertree.storage import Storage
from expertree.tracking import RunIdentity, TrackingConfig
from expertree.training.workers import ALONE

SIDE_PX = 16


@pytest.fixture
def work(tmp_path: Path) -> ExpertWork:
    rng = np.random.default_rng(0)
    images = [
        encode_png(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)) for _ in "abc"
    ]
    rows = [
        {
            "id": f"train/{n}",
            "kind": "single",
            "tasks": ["noise"],
            "caption": "medium noise",
            "recipe": Recipe(
                tasks=("noise",), parameters={"noise": {"sigma": 15.0}}, seed=n
            ).to_json(),
            "lq": png,
            "gt": png,
        }
        for n, png in enumerate(images)
    ]
    shards = Storage.open(tmp_path / "shards")
    write_table(shards, "part.parquet", pa.Table.from_pylist(rows))
    recipe = RecipeConfig(batch_size=2, patch_px=SIDE_PX, checkpoint_every_samples=8)
    network = NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,))
    return ExpertWork(
        job=ExpertJob(key="e", backbone=network, recipe=recipe, num_samples=40, seed=0),
        shards=shards,
        files=("part.parquet",),
        directory=Storage.open(tmp_path / "expert"),
        spec={},
        device="cpu",
        tracked=TrackedRun(
            config=TrackingConfig(backend="jsonl", images_every_samples=16),
            identity=RunIdentity(name="root", id="e", group="tree-t", config={"a": 1}),
            directory=str(tmp_path / "tracking"),
        ),
    )


def test_a_run_has_scalars_pictures_and_an_end(work: ExpertWork, tmp_path: Path) -> None:
    told = []
    work.run(told.append, ALONE)
    events = read_events(tmp_path / "tracking" / "metrics.jsonl")
    assert events[0] | {"t": 0} == {
        "t": 0,
        "event": "run",
        "name": "root",
        "group": "tree-t",
        "sweep": "",
        "config": {"a": 1},
    }
    scalars = [event for event in events if event["event"] == "scalars"]
    last = scalars[-2]
    assert last["step"] == 40 == told[-1]["samples"]
    assert set(last["values"]) == {"loss", "learning_rate", "samples_per_s", "waited_share"}
    assert scalars[-1]["values"]["cost.seconds"] > 0
    pictures = [event for event in events if event["event"] == "image"]
    assert [picture["step"] for picture in pictures] == [16, 32]
    shown = cv2.imread(str(tmp_path / "tracking" / pictures[0]["path"]))
    assert shown.shape == (3 * SIDE_PX, 3 * SIDE_PX, 3)
    assert events[-1]["event"] == "finished"


def test_tracking_changes_no_weights(work: ExpertWork, tmp_path: Path) -> None:
    work.run(lambda _: None, ALONE)
    plain = dataclasses.replace(work, tracked=None, directory=Storage.open(tmp_path / "plain"))
    plain.run(lambda _: None, ALONE)
    name = "expert.safetensors"
    assert plain.directory.read_bytes(name) == work.directory.read_bytes(name)


def test_a_training_that_fails_ends_its_run_too(
    work: ExpertWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOSSES, "psnr", lambda restored, clean: (restored - clean).sum() * np.nan)
    with pytest.raises(TrainingError, match="not finite"):
        work.run(lambda _: None, ALONE)
    last = read_events(tmp_path / "tracking" / "metrics.jsonl")[-1]
    assert last["event"] == "finished"
    assert last["error"].startswith("TrainingError: ")


def test_runs_are_kept_in_a_folder() -> None:
    assert tracking_folder(TrackingConfig(), "s3://bucket/out") is None
    jsonl = TrackingConfig(backend="jsonl")
    assert tracking_folder(jsonl, "/data/out") == "/data/out/tracking"
    elsewhere = dataclasses.replace(jsonl, directory="/shared/runs")
    assert tracking_folder(elsewhere, "s3://bucket/out") == "/shared/runs"
    with pytest.raises(ConfigError, match=r"tracking\.directory: .* s3://bucket/out/tracking"):
        tracking_folder(jsonl, "s3://id:key@bucket/out")


def test_what_is_done_already_has_no_run(work: ExpertWork) -> None:
    work.directory.commit({})
    work.run(lambda _: None, ALONE)
    assert work.tracked is not None
    assert not Path(work.tracked.directory).exists()
