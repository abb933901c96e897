"""What a recorder makes of the reports of stages."""

import time
from pathlib import Path

import pytest

from expertree.events import EventLog, read_events
from expertree.pipeline.recorder import Recorder, recorded
from expertree.storage import Storage


def test_a_stage_that_begins_once_more_is_timed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    recorder = Recorder("a run", EventLog(tmp_path / "events.jsonl"), ("score",))

    def took_s(*reports: tuple[float, str, int]) -> float:
        for seconds, state, num_done in reports:
            now[0] += seconds
            recorder.on_stage("score", state, num_done, 10)
        (stage,) = recorder.snapshot().stages
        return stage.elapsed_s

    assert took_s((0.0, "running", 0), (30.0, "running", 2), (40.0, "done", 10)) == 70.0
    assert took_s((500.0, "running", 0), (15.0, "running", 4)) == 15.0
    (stage,) = recorder.snapshot().stages
    assert (stage.first_done, stage.first_s) == (4, 15.0)


def test_events_hold_no_keys(tmp_path: Path) -> None:
    store = "s3://ID:SECRET@bucket/store"
    output = Storage.open(tmp_path)

    def build() -> None:
        with recorded(output, "build", "a run", config={"store": store}):
            raise RuntimeError(f"{store} is not there")

    with pytest.raises(RuntimeError):
        build()
    assert b"SECRET" not in output.read_bytes("events.jsonl")
    assert read_events(tmp_path / "events.jsonl")[0]["config"] == {"store": "s3://bucket/store"}
