"""What a training's metrics say, and that the dashboard shows no others."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from expertree.orchestration import metrics
from expertree.scheduling.dispatcher import status_of
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage

ROOT = Path(__file__).parents[3]


class Sink:
    """A metric that keeps what it is told."""

    made: dict[str, "Sink"]

    def __init__(self, name: str, **_: Any) -> None:
        self.values: dict[str, float] = {}
        Sink.made[name] = self

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values[" ".join((tags or {}).values())] = value

    def inc(self, value: float, tags: dict[str, str] | None = None) -> None:
        name = " ".join((tags or {}).values())
        self.values[name] = self.values.get(name, 0.0) + value


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Sink]:
    Sink.made = {}
    monkeypatch.setattr(metrics.metrics, "Gauge", Sink)
    monkeypatch.setattr(metrics.metrics, "Counter", Sink)
    return Sink.made


def test_a_run_is_counted_as_it_stands(made: dict[str, Sink]) -> None:
    schedule = Schedule([TrainingTask(key=key, label=key, cost=100.0) for key in "abcd"])
    for lane in ("x", "y", "z"):
        schedule.lease(lane, 0.0)
    schedule.finish("x", "d", 1.0)
    for lane, key in (("y", "c"), ("z", "b")):
        progress = {"samples": 50, "samples_per_s": 5.0, "waited_share": 0.1}
        schedule.heartbeat(lane, key, 1.0, progress)
    training = metrics.TrainingMetrics()
    training.record(status_of(schedule))
    assert made["expertree_experts"].values == {"queued": 1, "running": 2, "done": 1, "failed": 0}
    assert made["expertree_training_samples_per_second"].values == {"": 10.0}
    assert made["expertree_training_waited_share"].values == {"": pytest.approx(0.1)}
    assert made["expertree_training_seconds_left"].values == {"": pytest.approx(40.0)}
    schedule.expire(1000.0)
    for _ in range(2):
        training.record(status_of(schedule))
    assert made["expertree_lease_losses"].values == {"": 2}


def test_a_lane_counts_the_bytes_since_it_last_did(made: dict[str, Sink], tmp_path: Path) -> None:
    lane = metrics.LaneMetrics("lane-0")
    lane.record()
    made["expertree_storage_bytes"].values.clear()
    Storage.open(tmp_path).write_bytes("a", b"12345")
    Storage.open(tmp_path).read_bytes("a")
    Storage.open(tmp_path).read_bytes("a")
    for _ in range(2):
        lane.record()
    assert made["expertree_storage_bytes"].values == {"lane-0 read": 10, "lane-0 written": 5}


def test_the_dashboard_shows_what_is_counted_and_all_of_it() -> None:
    panels = json.loads((ROOT / "serve" / "grafana_training.json").read_text())["panels"]
    expressions = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    shown = {
        name.removesuffix("_total") for name in re.findall(r"ray_(expertree_\w+)", expressions)
    }
    counted = set(re.findall(r'"(expertree_\w+)"', Path(metrics.__file__).read_text()))
    assert shown == counted


def test_metrics_are_ray_own() -> None:
    """They take what they are given; without a cluster nobody collects it."""
    begin = time.monotonic()
    metrics.TrainingMetrics().record(status_of(Schedule([])))
    metrics.lane_metrics("lane-0").record()
    assert metrics.lane_metrics("lane-0") is metrics.lane_metrics("lane-0")
    assert time.monotonic() - begin < 10.0
