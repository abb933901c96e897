"""A search's record as runs."""

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from expertree.errors import ArtefactError
from expertree.events import read_events
from expertree.search.followed import TrackedSearch, sweep_identity
from expertree.search.record import Search
from expertree.search.tree_picture import tree_png
from expertree.tracking import TrackingConfig, open_sweep

EXAMPLE = Path(__file__).parents[1] / "search" / "example_search.json"
ENDED = ("completed", "stopped", "failed")


@pytest.fixture
def record() -> Search:
    return json.loads(EXAMPLE.read_text())


def follow(record: Search, folder: Path, backend: str = "jsonl") -> TrackedSearch:
    identity = sweep_identity(record, {"router.alpha": {"min": 0.01, "max": 1.0}})
    return TrackedSearch(open_sweep(TrackingConfig(backend=backend), identity, folder))


def trials(record: Search, *statuses: str) -> list[Any]:
    return [trial for trial in record["trials"] if trial["status"] in statuses]


def events_of(folder: Path, number: int) -> list[dict[str, Any]]:
    return read_events(folder / f"trial-{number:04d}" / "metrics.jsonl")


def test_each_trial_that_ended_is_a_finished_run_with_flat_keys(
    record: Search, tmp_path: Path
) -> None:
    follow(record, tmp_path).close(record)
    groups = set()
    for trial in trials(record, *ENDED):
        events = events_of(tmp_path, trial["number"])
        groups.add(events[0]["group"])
        assert events[0]["name"] == f"{trial['number']:03d} {trial['shape']}"
        assert trial["parameters"].items() <= events[0]["config"].items()
        assert not any(isinstance(v, dict | list) for v in events[0]["config"].values())
        rungs = [e for e in events if e["event"] == "scalars" and "psnr.in" in e["values"]]
        assert [e["values"]["psnr.in"] for e in rungs] == [
            reached["objectives"]["psnr_in"] for reached in trial["reached"]
        ]
        assert events[-1]["event"] == "finished"
        assert events[-1]["error"] == (trial["reason"] if trial["status"] == "failed" else "")
    assert len(groups) == 1


def test_a_search_is_followed_while_it_goes_on(record: Search, tmp_path: Path) -> None:
    trial = next(t for t in trials(record, "completed") if len(t["reached"]) > 1)
    now = copy.deepcopy(record)
    now["trials"] = [copy.deepcopy(trial)]
    now["trials"][0].update(status="running", reached=[], objectives=None, end_s=None)
    tracked = follow(now, tmp_path)
    tracked.update(now)
    assert [e["event"] for e in events_of(tmp_path, trial["number"])] == ["run", "scalars", "image"]
    now["trials"][0]["reached"] = trial["reached"][:1]
    tracked.update(now)
    tracked.update(now)
    assert len(events_of(tmp_path, trial["number"])) == 4
    now["trials"] = [trial]
    tracked.close(now)
    values = [e["values"] for e in events_of(tmp_path, trial["number"]) if e["event"] == "scalars"]
    assert [v["rung.fraction"] for v in values if "rung.fraction" in v] == [
        reached["fraction"] for reached in trial["reached"]
    ]
    assert values[-1]["trial.completed"] == 1.0


def test_a_search_that_is_gone_on_with_writes_only_what_is_not_whole(
    record: Search, tmp_path: Path
) -> None:
    follow(record, tmp_path).close(record)
    whole, cut, *_ = (trial["number"] for trial in trials(record, *ENDED))
    before = events_of(tmp_path, whole)
    file = tmp_path / f"trial-{cut:04d}" / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    follow(record, tmp_path).close(record)
    assert events_of(tmp_path, whole) == before
    assert len(events_of(tmp_path, cut)) == 2 * len(lines) - 1


def test_a_run_file_that_is_missing_in_the_end_is_said(record: Search, tmp_path: Path) -> None:
    tracked = follow(record, tmp_path)
    tracked.update(record)
    first, *_ = trials(record, *ENDED)
    (tmp_path / f"trial-{first['number']:04d}" / "metrics.jsonl").unlink()
    with pytest.raises(ArtefactError, match=rf"1 of \d+ trials .*: {first['number']}; the same"):
        tracked.close(record)


def test_a_tree_is_drawn_with_a_row_for_each_level(record: Search) -> None:
    deepest = max(record["trials"], key=lambda trial: len(trial["tree"]))
    levels = 1 + max(node["level"] for node in deepest["tree"])
    picture = cv2.imdecode(np.frombuffer(tree_png(deepest["tree"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] == levels * 66 + 16
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > levels
