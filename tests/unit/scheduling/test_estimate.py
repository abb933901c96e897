"""One estimate of the time left, from what the running trainings report."""

import dataclasses

import pytest

from expertree.scheduling.dispatcher import TrainingStatus, status_of
from expertree.scheduling.estimate import seconds_left
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.tasks import TrainingTask


def task(key: str, *after: str, cost: float = 100.0, kind: str = "") -> TrainingTask:
    return TrainingTask(key=key, label=key, cost=cost, after=after, kind=kind)


def status(schedule: Schedule, num_lanes: int) -> TrainingStatus:
    return dataclasses.replace(status_of(schedule), num_lanes=num_lanes)


def test_nothing_is_said_before_a_speed_is_known() -> None:
    schedule = Schedule([task("a"), task("b")])
    schedule.lease("lane", 0)
    assert seconds_left(status(schedule, 2)) is None
    schedule.heartbeat("lane", "b", 1, {"samples": 4, "samples_per_s": 0.0})
    assert seconds_left(status(schedule, 2)) is None


def test_what_is_left_is_shared_out_among_all_lanes_and_not_those_that_have_begun() -> None:
    schedule = Schedule([task(key) for key in "abcd"])
    schedule.lease("lane", 0)
    schedule.heartbeat("lane", "d", 1, {"samples": 60, "samples_per_s": 10.0})
    assert seconds_left(status(schedule, 1)) == pytest.approx(34.0)
    assert seconds_left(status(schedule, 2)) == pytest.approx(17.0)


def test_lanes_do_not_help_those_that_wait_for_each_other() -> None:
    schedule = Schedule([task("root"), task("group", "root"), task("leaf", "group")])
    schedule.lease("lane", 0)
    schedule.heartbeat("lane", "root", 1, {"samples": 50, "samples_per_s": 10.0})
    assert seconds_left(status(schedule, 8)) == pytest.approx(25.0)


def test_a_kind_goes_at_its_own_speed_as_soon_as_that_is_known() -> None:
    tasks = [task("big", kind="slow"), task("small", kind="fast"), task("other", kind="fast")]
    schedule = Schedule(tasks)
    for lane in "ab":
        schedule.lease(lane, 0)
    schedule.heartbeat("a", "small", 1, {"samples": 0, "samples_per_s": 20.0})
    schedule.heartbeat("b", "other", 1, {"samples": 0, "samples_per_s": 20.0})
    assert seconds_left(status(schedule, 1)) == pytest.approx(15.0)
    schedule.finish("a", "small", 2)
    schedule.lease("a", 3)
    schedule.heartbeat("a", "big", 4, {"samples": 0, "samples_per_s": 1.0})
    assert seconds_left(status(schedule, 1)) == pytest.approx(105.0)
