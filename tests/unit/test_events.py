import json
import os
import pickle
import threading
from pathlib import Path

import pytest

from expertree.events import EventLog, read_events


def test_events_come_back_in_order_with_their_time(tmp_path: Path) -> None:
    times = iter([10.0, 11.5])
    log = EventLog(tmp_path / "deep" / "events.jsonl", clock=lambda: next(times))
    log.emit("stage_started", stage="data")
    log.emit("stage_done", stage="data", num_rows=3, name="café")
    assert read_events(log.path) == [
        {"t": 10.0, "event": "stage_started", "stage": "data"},
        {"t": 11.5, "event": "stage_done", "stage": "data", "num_rows": 3, "name": "café"},
    ]


def test_names_of_files_that_are_no_text_come_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    log = EventLog(tmp_path / "events.jsonl")
    log.emit("image", name=name)
    assert [event["name"] for event in read_events(log.path)] == [name]


def test_a_log_that_is_there_is_continued(tmp_path: Path) -> None:
    EventLog(tmp_path / "e.jsonl").emit("first")
    EventLog(tmp_path / "e.jsonl").emit("second")
    assert [e["event"] for e in read_events(tmp_path / "e.jsonl")] == ["first", "second"]


def test_a_line_torn_by_a_kill_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    EventLog(path).emit("first")
    with path.open("ab") as file:
        file.write(b'{"t": 1, "event": "to')
    assert [e["event"] for e in read_events(path)] == ["first"]
    EventLog(path).emit("after the restart")
    assert [e["event"] for e in read_events(path)] == ["first", "after the restart"]


def test_no_file_means_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "missing.jsonl") == []


def test_writers_in_parallel_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"

    def write(writer: int) -> None:
        log = EventLog(path)
        for index in range(50):
            log.emit("tick", writer=writer, index=index, padding="x" * 500)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_events(path)) == 200
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_log_survives_pickling(tmp_path: Path) -> None:
    log = pickle.loads(pickle.dumps(EventLog(tmp_path / "e.jsonl")))
    log.emit("from a worker")
    assert len(read_events(tmp_path / "e.jsonl")) == 1


@pytest.mark.parametrize("name", ["t", "event"])
def test_a_field_may_not_replace_the_logs_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"field named '{name}'"):
        EventLog(tmp_path / "e.jsonl").emit("x", **{name: 1})
