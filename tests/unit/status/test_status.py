"""How a run stands is read from its files alone: running, done, failed, killed, silent."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from expertree.cli.main import main
from expertree.errors import ArtefactError, TakenOverError, TrainingError
from expertree.owners import Keeper, Owner
from expertree.pipeline import recorder as recording
from expertree.pipeline.recorder import recorded
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.stages import Workbench
from expertree.process import Process
from expertree.scheduling.dispatcher import status_of
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.tasks import TrainingTask
from expertree.status import PROGRESS, RunState, read_status, status_text
from expertree.storage import Storage


def planned(recorder: recording.Recorder, *keys: str) -> None:
    for key in keys:
        recorder.events.emit("expert_planned", label=f"expert {key}", key=key)


def begin_experts(recorder: recording.Recorder) -> Schedule:
    """A run in its fifth stage: one expert is done, one runs, one waits, one was in the store."""
    recorder.on_stage("degrade", "running", 0, 0)
    recorder.events.emit("stage_started", stage="degrade", cached=False)
    recorder.events.emit("stage_done", stage="degrade", seconds=12.0, cached=False)
    recorder.on_stage("degrade", "done", 0, 0)
    planned(recorder, "a", "b", "c", "d")
    recorder.events.emit("stage_started", stage="experts", cached=False)
    schedule = Schedule(
        [TrainingTask(key=key, label=f"expert {key}", cost=100.0) for key in "abc"], max_attempts=1
    )
    schedule.lease("lane-0", time.time())
    schedule.finish("lane-0", "c", time.time())
    schedule.lease("lane-1", time.time())
    schedule.heartbeat("lane-1", "b", time.time(), {"samples": 40, "samples_per_s": 10.0})
    recorder.on_status(status_of(schedule))
    return schedule


def test_a_running_build_says_what_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "EVERY_S", 0.05)
    with recorded(Storage.open(tmp_path), "build", "My tree") as recorder:
        begin_experts(recorder)
        time.sleep(0.3)
        status = read_status(Storage.open(tmp_path))
        capsys.readouterr()
        assert main(["status", str(tmp_path), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
    assert status.state is RunState.RUNNING
    assert status.samples_per_s == 10.0
    assert status.left_s == pytest.approx(16.0)  # 60 + 100 samples, one lane
    assert said["num_experts"] == {
        "queued": 1,
        "running": 1,
        "done": 1,
        "cached": 0,
        "failed": 0,
        "stored": 1,
    }
    assert [stage["state"] for stage in said["stages"] if stage["name"] == "degrade"] == ["done"]
    assert said["process"]["pid"] == os.getpid()
    text = status_text(status)
    for words in (
        "My tree: running for 0:0",
        "about 0:16 left of experts",
        "degrade   done in 0:12",
        "to come: extractor, embed, tree, shard, classical, score, router, window, bundle, eval",
        "1 queued, 1 running, 1 done, 1 found in the store, 10.0 samples a second",
        "expert b, on lane-1, 40 of 100 samples",
        "last     expert_started (expert b), 0 s ago; last sign of life 0 s ago",
    ):
        assert words in text


def test_a_build_that_is_done_says_where_its_results_are(tmp_path: Path) -> None:
    output = Storage.open(tmp_path)
    with recorded(output, "build", "My tree") as recorder:
        begin_experts(recorder)
        output.write_bytes("report.html", b"")
        output.write_bytes("bundle/manifest.json", b"{}")
    status = read_status(output)
    assert status.state is RunState.DONE
    assert status.results == {
        "report": f"{tmp_path}/report.html",
        "bundle": f"{tmp_path}/bundle",
    }
    assert status.left_s is None
    assert status.samples_per_s == 0.0
    assert "My tree: done in 0:0" in status_text(status)


def test_a_build_that_failed_says_why(tmp_path: Path) -> None:
    output = Storage.open(tmp_path)

    def build() -> None:
        with recorded(output, "build", "My tree") as recorder:
            schedule = begin_experts(recorder)
            schedule.fail("lane-1", "b", time.time(), "the loss is NaN", retry=False)
            recorder.on_status(status_of(schedule))
            raise TrainingError("not trained: expert b; expert b: the loss is NaN")

    with pytest.raises(TrainingError):
        build()
    status = read_status(output)
    assert status.state is RunState.FAILED
    assert status.reason == "not trained: expert b; expert b: the loss is NaN"
    assert status.errors == ("expert b, attempt 1: the loss is NaN",)
    assert "failed after 0:0" in status_text(status)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_start_that_was_taken_over_leaves_the_record_to_the_later_one(
    tmp_path: Path, scheme: str
) -> None:
    output = Storage.open(f"{scheme}{tmp_path}")
    first, second = (
        Keeper(
            Owner(
                name="mine",
                start=f"start-{number}",
                number=number,
                process=Process.here(),
                what="the tree",
                signs=output.sub("owners"),
            )
        )
        for number in (1, 2)
    )

    def begin_later(later: contextlib.ExitStack) -> None:
        """Begin as a build does, be taken over in the middle of a stage, and see it."""
        with recorded(output, "build", "My tree", check=first.check) as recorder:
            bench = Workbench(
                store=output,
                events=recorder.events,
                runner=LocalRunner(),
                on_stage=recorder.on_stage,
            )
            with bench.timed("degrade", cached=False) as on_done:
                later.enter_context(recorded(output, "build", "My tree"))
                second.give_sign()
                first.give_sign()
                on_done(1, 2)

    with contextlib.ExitStack() as later:
        with pytest.raises(TakenOverError):
            begin_later(later)
        status = read_status(output)
        assert (status.state, status.num_starts, status.errors) == (RunState.RUNNING, 2, ())
        assert output.read_json(PROGRESS)["ended"] is False
    assert read_status(output).state is RunState.DONE


KILLED = """
import sys, time
from expertree.pipeline.recorder import recorded
from expertree.storage import Storage
with recorded(Storage.open(sys.argv[1]), "build", "My tree") as recorder:
    recorder.events.emit("stage_started", stage="degrade", cached=False)
    print("begun", flush=True)
    time.sleep(60)
"""


def test_a_killed_build_is_told_from_one_that_lives_at_once(tmp_path: Path) -> None:
    output = Storage.open(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "begun\n"
    assert read_status(output).state is RunState.RUNNING
    process.send_signal(signal.SIGKILL)
    process.wait()
    status = read_status(output)
    assert status.state is RunState.KILLED
    assert "degrade   cut off after" in status_text(status)
    with recorded(output, "build", "My tree"):
        status = read_status(output)
        assert (status.state, status.num_starts) == (RunState.RUNNING, 2)


def test_a_run_of_another_machine_is_judged_by_its_last_sign_of_life(tmp_path: Path) -> None:
    output = Storage.open(tmp_path)
    with recorded(output, "build", "My tree"):
        pass
    events = (tmp_path / "events.jsonl").read_text().splitlines()
    (tmp_path / "events.jsonl").write_text(events[0] + "\n")
    record = output.read_json(PROGRESS)
    record["process"] |= {"machine": "another", "host": "far"}
    output.write_json(PROGRESS, record)
    assert read_status(output).state is RunState.RUNNING
    for name in (PROGRESS, "events.jsonl"):
        os.utime(tmp_path / name, (time.time() - 300,) * 2)
    status = read_status(output)
    assert status.state is RunState.SILENT
    assert status_text(status).startswith("My tree: no sign of life for 5:00")
    assert "process" in status_text(status)


def test_a_build_of_before_has_events_alone(tmp_path: Path) -> None:
    events = [
        {"t": 90.0, "event": "build_started", "config": {"title": "Old"}},
        {"t": 91.0, "event": "stage_started", "stage": "experts", "cached": False},
        {
            "t": 92.0,
            "event": "expert_started",
            "key": "a",
            "label": "root",
            "lane": "lane-0",
            "node": "n",
            "number": 1,
            "start": 92.0,
            "end": None,
            "outcome": None,
        },
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    os.utime(tmp_path / "events.jsonl", (150.0, 150.0))
    status = read_status(Storage.open(tmp_path))
    assert (status.title, status.state) == ("Old", RunState.SILENT)
    assert [expert.lane for expert in status.experts] == ["lane-0"]
    assert status.ran_s == 60.0


def search_record(**trial: Any) -> dict[str, Any]:
    trials = [{"status": "completed"}, {"status": "running"}, {"status": "running"}]
    experts = [
        {"label": "root", "samples": 80, "num_samples": 80, "in_store": False},
        {"label": "a", "samples": 20, "num_samples": 80, "in_store": False},
        {"label": "b", "samples": 80, "num_samples": 80, "in_store": True},
    ]
    return {"title": "A search", "status": "running", "trials": trials, "experts": experts, **trial}


def test_a_search_says_how_its_trials_stand(tmp_path: Path) -> None:
    output = Storage.open(tmp_path)
    with recorded(output, "search", "A search") as recorder:
        recorder.events.emit("stage_started", stage="trials", cached=False)
        output.write_json("search.json", search_record())
        status = read_status(output)
    assert (status.kind, status.state) == ("search", RunState.RUNNING)
    text = status_text(status)
    assert "trials    running for" in text
    assert "trials   1 completed, 2 running" in text
    assert "experts  1 queued, 1 done" in text


def test_a_folder_without_a_run_is_an_error_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArtefactError, match="holds no run"):
        read_status(Storage.open(tmp_path))
    assert main(["status", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
