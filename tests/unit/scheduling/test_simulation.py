"""Schedules played through on paper."""

import pytest

from expertree.scheduling.simulation import simulate
from expertree.scheduling.tasks import TrainingTask


def task(key: str, cost: float, *after: str) -> TrainingTask:
    return TrainingTask(key=key, label=key, cost=cost, after=after)


def test_tasks_run_side_by_side_longest_first() -> None:
    found = simulate([task("a", 3), task("b", 2), task("c", 1)], num_lanes=2)
    assert [(s.key, s.lane, s.begin_s, s.end_s) for s in found.spans] == [
        ("a", 0, 0, 3),
        ("b", 1, 0, 2),
        ("c", 1, 2, 3),
    ]
    assert (found.wall_s, found.bound_s) == (3, 3)


def test_a_child_waits_for_its_parent() -> None:
    tasks = [task("root", 2), task("left", 1, "root"), task("right", 4, "root")]
    found = simulate(tasks, num_lanes=3)
    assert {s.key: s.begin_s for s in found.spans} == {"root": 0, "left": 2, "right": 2}
    assert (found.wall_s, found.bound_s) == (6, 6)


def test_time_between_tasks_counts_but_not_in_the_bound() -> None:
    found = simulate([task("a", 3), task("b", 3)], num_lanes=1, between_s=0.5)
    assert (found.wall_s, found.bound_s) == (7, 6)


def test_a_lane_that_is_taken_away_costs_its_restart_and_what_is_repeated() -> None:
    found = simulate(
        [task("a", 10)],
        num_lanes=1,
        repeated_s=1,
        restart_s=2,
        preempt=lambda _, attempt: 0.4 if attempt == 1 else None,
    )
    first, second = found.spans
    assert (first.end_s, first.is_done) == (4, False)
    assert (second.begin_s, second.end_s, second.is_done) == (6, 13, True)


def test_another_lane_takes_what_one_has_lost() -> None:
    found = simulate(
        [task("a", 10), task("b", 1)],
        num_lanes=2,
        restart_s=100,
        preempt=lambda key, attempt: 0.5 if (key, attempt) == ("a", 1) else None,
    )
    assert found.wall_s == 10
    assert [(s.key, s.lane) for s in found.spans] == [("a", 0), ("b", 1), ("a", 1)]


def test_nothing_to_do_takes_no_time_and_no_lane_is_refused() -> None:
    assert simulate([], num_lanes=2).wall_s == 0
    with pytest.raises(ValueError, match="num_lanes must be at least 1, got 0"):
        simulate([], num_lanes=0)
