"""Two jobs on one store at the same time train no expert twice; one takes over what the other left.

The jobs are two processes: one stands still in the middle of an expert until it is killed, the
other is this one.
"""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import training_job
from expertree import owners
from expertree.scheduling import schedule
from expertree.storage import Storage
from expertree.training import loop
from lane_work import write_patches

pytestmark = pytest.mark.timeout(600)  # where the machine is busy; the other imports torch


def trace(folder: Path) -> list[tuple[str, str, int]]:
    lines = (folder / "trace").read_text().splitlines()
    return [(who, key, int(samples)) for who, key, samples in map(str.split, lines)]


def is_done(folder: Path, key: str) -> bool:
    return (folder / "store" / "expert" / key / "DONE.json").exists()


def test_each_expert_is_trained_once_and_what_a_killed_job_left_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "BEAT_S", 0.2)
    monkeypatch.setattr(schedule, "_HELD_S", 0.2)
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_REPORTS", 0.0)
    write_patches(Storage.open(tmp_path / "shards"))
    first = subprocess.Popen(
        [sys.executable, training_job.__file__, "first", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    try:
        assert first.stdout.readline() == "stands still\n"
        second = threading.Thread(target=training_job.run_job, args=("second", tmp_path))
        second.start()
        while not (is_done(tmp_path, "a") and is_done(tmp_path, "b")):
            time.sleep(0.05)
        time.sleep(0.5)  # more than one look at who holds it
        assert second.is_alive()  # it waits for what the first one holds
        assert [key for _, key, _ in trace(tmp_path)] == ["c", "b", "a"]
        first.send_signal(signal.SIGKILL)
        first.wait()
        second.join()
    finally:
        first.kill()
        first.communicate()
    assert all(is_done(tmp_path, key) for key in training_job.EXPERTS)
    assert [(who, key) for who, key, _ in trace(tmp_path)] == [
        ("first", "c"),
        ("second", "b"),
        ("second", "a"),
        ("second", "c"),
    ]
    assert trace(tmp_path)[-1][2] > 4  # from the checkpoint of the first, and not anew
