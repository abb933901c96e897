import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from expertree.cli.composing import compose
from expertree.config import load
from expertree.errors import ConfigError
from expertree.events import read_events
from expertree.pipeline.settings import BuildConfig
from expertree.tracking import RunIdentity, Tracker, TrackingConfig, open_tracker
from expertree.tracking.tracker import BACKENDS

IDENTITY = RunIdentity(name="a run", group="a search", config={"tree": {"groups": [1, 4]}})
PICTURE = np.full((4, 6, 3), 200, np.uint8)
PNG = cv2.imencode(".png", PICTURE)[1].tobytes()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tracker(backend: str, tmp_path: Path) -> Iterator[Tracker]:
    tracker = open_tracker(TrackingConfig(backend=backend), IDENTITY, tmp_path / "run")
    yield tracker
    tracker.finish()


def wandb_records(directory: Path, kind: str) -> list[dict]:
    (file,) = directory.glob("wandb/offline-run-*/*.wandb")
    from expertree.tracking.wandb import get_core_path  # noqa: PLC0415 - with W&B, a second

    # What `wandb leet inspect` calls, without importing W&B's command line for each run.
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json"]
    command += ["--run-file", str(file), str(file.parent.parent)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    return [record[kind] for record in records if record["type"] == kind]


def _row(item: dict) -> dict:
    """A line of W&B's history; it spreads a picture over keys such as `name._type`."""
    images = {k.removesuffix("._type"): "image" for k in item if k.endswith("._type")}
    own = {k: v for k, v in item.items() if not k.startswith(("_", *images))}
    return own | images


def history(backend: str, directory: Path) -> list[dict] | None:
    """Scalars and images of a finished run by step; None for the backend that keeps nothing."""
    if backend == "jsonl":
        events = read_events(directory / "metrics.jsonl")
        return [
            {
                "step": e["step"],
                **(e["values"] if e["event"] == "scalars" else {e["name"]: "image"}),
            }
            for e in events
            if e["event"] in {"scalars", "image"}
        ]
    if backend == "wandb":
        return [_row(record["item"]) for record in wandb_records(directory, "history")]
    return None


def pictures(backend: str, directory: Path) -> list[Path]:
    folder = {"jsonl": "images", "wandb": "wandb"}.get(backend, "nowhere")
    return sorted((directory / folder).rglob("*.png"))


def test_what_is_logged_can_be_read_back(backend: str, tracker: Tracker, tmp_path: Path) -> None:
    tracker.log(0, {"experts.loss": 0.25})
    tracker.log(5, {"experts.loss": np.float32(0.125), "router.alpha": 1})
    tracker.log(5, {"late": 2.0})
    tracker.image(5, "examples/noise", PNG)
    tracker.log(3, {"earlier": 1.0})
    tracker.finish()
    expected = [
        {"step": 0, "experts.loss": 0.25},
        {"step": 5, "experts.loss": 0.125, "router.alpha": 1.0},
        {"step": 5, "late": 2.0},
        {"step": 5, "examples/noise": "image"},
        {"step": 3, "earlier": 1.0},
    ]
    assert history(backend, tmp_path / "run") == (None if backend == "null" else expected)
    found = pictures(backend, tmp_path / "run")
    assert len(found) == (0 if backend == "null" else 1)
    assert all(np.array_equal(cv2.imread(str(path)), PICTURE) for path in found)


def test_a_loss_that_is_not_a_number_is_recorded(
    backend: str, tracker: Tracker, tmp_path: Path
) -> None:
    tracker.log(0, {"loss": math.nan})
    tracker.log(1, {"loss": math.inf})
    tracker.finish()
    rows = history(backend, tmp_path / "run")
    assert rows is None or [row["step"] for row in rows] == [0, 1]


def test_wrong_calls_are_refused_by_every_backend(tracker: Tracker) -> None:
    with pytest.raises(TypeError, match="scalar 'picture' is 'x'"):
        tracker.log(0, {"picture": "x"})
    with pytest.raises(TypeError, match="scalar 'flag' is True"):
        tracker.log(0, {"flag": True})
    with pytest.raises(ValueError, match="step -1 is negative"):
        tracker.log(-1, {"loss": 1.0})
    with pytest.raises(ValueError, match="image 'x' is not a PNG"):
        tracker.image(0, "x", b"GIF89a")
    tracker.finish()
    tracker.finish()
    with pytest.raises(ValueError, match="run 'a run' is finished"):
        tracker.log(1, {"loss": 1.0})


def test_wandb_is_offline_and_knows_each_of_two_runs_of_one_process(tmp_path: Path) -> None:
    config = TrackingConfig(backend="wandb")
    trackers = [
        open_tracker(config, identity, tmp_path / identity.name)
        for identity in (IDENTITY, RunIdentity(name="another"))
    ]
    for tracker in trackers:
        tracker.log(0, {"loss": 1.0})
    for tracker in trackers:
        tracker.finish()
    for name in ("a run", "another"):
        assert history("wandb", tmp_path / name) == [{"step": 0, "loss": 1.0}]
    run = wandb_records(tmp_path / "a run", "run")[0]
    assert run["display_name"] == "a run"
    assert run["run_group"] == "a search"
    assert run["project"] == "expertree"
    assert run["config"]["update"]["tree"] == {"groups": [1, 4]}


def test_jsonl_begins_with_the_runs_identity(tmp_path: Path) -> None:
    open_tracker(TrackingConfig(backend="jsonl"), IDENTITY, tmp_path).finish()
    first, last = read_events(tmp_path / "metrics.jsonl")
    assert (first["name"], first["group"]) == ("a run", "a search")
    assert first["config"] == {"tree": {"groups": [1, 4]}}
    assert last["event"] == "finished"


def test_the_package_is_imported_without_wandb() -> None:
    code = "import sys, expertree.tracking; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_backend_that_keeps_nothing_has_its_name_on_the_command_line_too() -> None:
    found = compose(BuildConfig, ["tracking.backend=null"], verb="build", config_name="build_tree")
    assert found == BuildConfig()
    assert load(TrackingConfig, {"backend": None}).backend == "null"


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"tracking\.backend is 'tensorboard'.*null, jsonl, wandb"
    ):
        TrackingConfig(backend="tensorboard")
