"""Schedules played through on paper."""

import dataclasses
import random
import statistics

import pytest

from expertree.scheduling.moves import MOVE_S
from expertree.scheduling.simulation import Lanes, Simulated, simulate
from expertree.scheduling.tasks import TrainingTask

CHECKPOINT_EVERY_S = 120.0


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


def on(*speeds: float, minds: bool) -> Lanes:
    return Lanes(speeds=speeds, tell=True, move_s=MOVE_S) if minds else Lanes(speeds=speeds)


def play(tasks: list[TrainingTask], *speeds: float, minds: bool) -> Simulated:
    lanes = on(*speeds, minds=minds)
    return simulate(tasks, num_lanes=len(speeds), between_s=2.0, lanes=lanes)


def net(key: str, cost: float, *after: str) -> TrainingTask:
    return dataclasses.replace(task(key, cost, *after), kind="net")


def test_a_fast_lane_ends_what_a_slow_one_has_begun_and_no_work_is_done_twice() -> None:
    tasks = [net("a", 1000), net("b", 900)]
    found = play(tasks, 1.0, 1 / 3, minds=True)
    assert [(s.key, s.lane, s.is_done) for s in found.spans] == [
        ("a", 0, True),
        ("b", 1, False),
        ("b", 0, True),
    ]
    # 1000 s of the slow lane are 333 s of the fast one: 2 + 1000, 2 + 20 for the move, and the rest
    assert found.wall_s == pytest.approx(2 + 1000 + 22 + 900 - 1000 / 3)
    assert play(tasks, 1.0, 1 / 3, minds=False).wall_s == 2 + 2700


def test_lanes_of_one_speed_do_as_if_nobody_minded() -> None:
    rng = random.Random(0)
    tasks = [net(f"t{i}", rng.uniform(60, 600)) for i in range(20)]
    assert play(tasks, *[1.0] * 4, minds=True) == play(tasks, *[1.0] * 4, minds=False)


@pytest.mark.parametrize("seed", range(60))
def test_minding_speed_costs_at_most_the_time_between_two_checkpoints(seed: int) -> None:
    rng = random.Random(seed)
    speeds = [rng.choice([1 / 3, 0.5, 0.8, 1.0, 1.0, 1.0, 2.0]) for _ in range(rng.randint(2, 8))]
    tasks = [net(f"t{i}", rng.uniform(60, 3600)) for i in range(rng.randint(2, 30))]
    before, now = (play(tasks, *speeds, minds=minds).wall_s for minds in (False, True))
    assert now <= before + CHECKPOINT_EVERY_S


@pytest.mark.parametrize("seed", range(40))
def test_one_lane_at_a_third_of_the_speed_holds_nobody_up(seed: int) -> None:
    rng = random.Random(seed)
    others = rng.randint(1, 7)
    tasks = [net(f"t{i}", rng.uniform(300, 1500)) for i in range(4 * (others + 1))]
    found = play(tasks, 1 / 3, *[1.0] * others, minds=True)
    assert found.wall_s <= 1.15 * found.bound_s


def test_trees_on_unlike_lanes_take_less_time_in_the_mean() -> None:
    ratios = []
    for seed in range(60):
        rng = random.Random(seed)
        speeds = [rng.choice([1 / 3, 0.5, 1.0, 1.0]) for _ in range(rng.randint(2, 6))]
        below = range(1, rng.randint(4, 30))
        tasks = [net(f"t{i}", rng.uniform(300, 3600), f"t{(i - 1) // 3}") for i in below]
        tasks.append(net("t0", 3600))
        before, now = (play(tasks, *speeds, minds=minds).wall_s for minds in (False, True))
        ratios.append(now / before)
    assert statistics.fmean(ratios) < 0.92
    assert max(ratios) < 1.15


def test_as_many_speeds_as_lanes_are_wanted() -> None:
    with pytest.raises(ValueError, match="2 lanes need as many speeds, got 3"):
        simulate([], num_lanes=2, lanes=Lanes(speeds=(1.0, 1.0, 1.0)))
