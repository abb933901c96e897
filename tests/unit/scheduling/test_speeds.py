"""Which lane a task is best on, decided from numbers alone."""

from collections.abc import Callable

import pytest

from expertree.scheduling.speeds import (
    LaneSpeeds,
    Running,
    is_worth_swapping,
    pick,
    pick_to_move,
)


def test_a_lane_is_as_fast_as_it_said_last() -> None:
    speeds = LaneSpeeds()
    assert speeds.of("a", "net") is None
    speeds.note("a", "net", 10.0)
    speeds.note("a", "net", 12.0)
    assert speeds.of("a", "net") == 12.0


def test_a_kind_that_a_lane_has_not_had_is_reckoned_from_others_and_from_its_other_kinds() -> None:
    speeds = LaneSpeeds()
    for lane, kind, speed in (
        ("fast", "small", 40.0),
        ("slow", "small", 20.0),
        ("fast", "large", 8.0),
    ):
        speeds.note(lane, kind, speed)
    # Of the small kind, the slow lane does two thirds of the mean of 30.
    assert speeds.of("slow", "large") == pytest.approx(8.0 * 2 / 3)
    assert speeds.of("new", "small") == pytest.approx(30.0)
    assert speeds.of("slow", "never seen") is None
    speeds.forget("slow")
    assert speeds.of("slow", "small") == pytest.approx(40.0)


def seconds_of(table: dict[str, dict[str, float]]) -> Callable[[str, str], float | None]:
    return lambda lane, task: table[lane].get(task)


SLOW = {"slow": {"long": 300.0, "short": 30.0}, "fast": {"long": 100.0, "short": 10.0}}


def test_a_slow_lane_leaves_a_task_to_a_fast_one_that_is_free_in_a_moment() -> None:
    def picked(free_in_s: float, move_s: float) -> str | None:
        return pick(["long"], "slow", {"fast": free_in_s}, seconds_of(SLOW), move_s=move_s)

    assert picked(6.0, 20.0) is None
    # Until the fast one is free, it does more than moving the task then costs.
    assert picked(61.0, 20.0) == "long"
    # The fast one would be no sooner.
    assert picked(250.0, 1000.0) == "long"


def test_what_is_left_to_a_lane_keeps_it_busy_for_the_next() -> None:
    found = pick(["long", "short"], "slow", {"fast": 5.0}, seconds_of(SLOW), move_s=1000.0)
    assert found == "short"


def test_a_task_whose_time_nobody_knows_is_picked_as_ever() -> None:
    table = {"slow": {}, "fast": {"long": 1.0}}
    assert pick(["long"], "slow", {"fast": 0.0}, seconds_of(table), move_s=1.0) == "long"
    table = {"slow": {"long": 1000.0}, "fast": {}}
    assert pick(["long"], "slow", {"fast": 0.0}, seconds_of(table), move_s=1.0) == "long"
    assert pick([], "slow", {"fast": 0.0}, seconds_of(SLOW), move_s=1.0) is None


def test_an_idle_lane_takes_over_what_would_end_last_if_it_clearly_ends_it_sooner() -> None:
    running = [
        Running("same speed", left_s=900, here_s=900),
        Running("nearly done", left_s=25, here_s=9),
        Running("slow", left_s=300, here_s=100),
        Running("slow, and others wait for it", left_s=240, here_s=80, behind_s=500),
    ]
    assert pick_to_move(running, move_s=20) == "slow, and others wait for it"
    assert pick_to_move(running[:3], move_s=20) == "slow"
    assert pick_to_move(running[:2], move_s=20) is None
    assert pick_to_move([], move_s=20) is None


def test_each_move_makes_the_next_one_of_the_same_task_less_likely() -> None:
    def moves(num_moves: int, here_s: float) -> bool:
        one = Running("a", left_s=1000, here_s=here_s, num_moves=num_moves)
        return pick_to_move([one], move_s=20) == "a"

    assert [moves(number, 700) for number in range(4)] == [True, True, False, False]
    assert [moves(number, 333) for number in range(6)] == [True] * 6


def test_a_lane_prefers_the_long_chain_on_a_slow_lane_to_a_short_task_that_is_ready() -> None:
    chain = Running("chain", left_s=300, here_s=100, behind_s=400)
    short = Running("short", left_s=90, here_s=30)
    assert is_worth_swapping(short, chain, least_s=0, move_s=20)
    # With as much to do for everybody it does not matter which of the two ends first,
    assert not is_worth_swapping(short, chain, least_s=700, move_s=20)
    # and a ready task that is as long would be late in its place.
    assert not is_worth_swapping(Running("long", 900, 300), chain, least_s=0, move_s=20)
