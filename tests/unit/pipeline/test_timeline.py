"""The timeline from the event log of several starts."""

from typing import Any

from expertree.pipeline.timeline import time_of_work, timeline


def started(t: float, key: str, lane: str, number: int = 1) -> dict[str, Any]:
    fields = {"key": key, "label": key, "lane": lane, "node": "n", "number": number, "start": t}
    return {"t": t, "event": "expert_started", **fields, "end": None, "outcome": None}


def ended(t: float, key: str, outcome: str, number: int = 1) -> dict[str, Any]:
    fields = {"key": key, "number": number, "end": t, "outcome": outcome}
    return {"t": t, "event": "expert_ended", **fields}


def test_spans_count_from_the_first_attempt() -> None:
    events = [
        {"t": 90.0, "event": "build_started"},
        started(100.0, "root", "lane-0"),
        ended(110.0, "root", "done"),
        started(110.0, "leaf", "lane-1"),
        ended(115.0, "leaf", "failed"),
    ]
    spans = list(timeline(events))
    assert [(s["expert"], s["start_s"], s["end_s"], s["outcome"]) for s in spans] == [
        ("root", 0.0, 10.0, "done"),
        ("leaf", 10.0, 15.0, "failed"),
    ]


def test_an_attempt_that_died_with_its_job_ends_at_the_jobs_last_sign_of_life() -> None:
    events = [
        {"t": 90.0, "event": "build_started"},
        started(100.0, "root", "lane-0"),
        {"t": 130.0, "event": "stage_done"},
        {"t": 500.0, "event": "build_started"},
        started(510.0, "root", "lane-0"),
        ended(520.0, "root", "done"),
    ]
    spans = list(timeline(events))
    assert [(s["start_s"], s["end_s"], s["outcome"]) for s in spans] == [
        (0.0, 30.0, "killed"),
        (410.0, 420.0, "done"),
    ]


def test_a_build_that_trained_nothing_has_no_timeline() -> None:
    assert list(timeline([{"t": 1.0, "event": "build_started"}])) == []


def test_the_time_of_work_leaves_out_what_was_found() -> None:
    def done(seconds: float, *, cached: bool) -> dict[str, Any]:
        return {"t": 1.0, "event": "stage_done", "seconds": seconds, "cached": cached}

    events = [done(5.0, cached=False), done(0.1, cached=True), done(2.0, cached=False)]
    assert time_of_work(events) == 7.0
