"""The queue of training tasks, without Ray."""

import random

import pytest

from expertree.errors import TrainingError
from expertree.scheduling.budget import Budget
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.states import State
from expertree.scheduling.tasks import TrainingTask, critical_path


def task(key: str, cost: float = 1.0, after: tuple[str, ...] = ()) -> TrainingTask:
    return TrainingTask(key=key, label=key, cost=cost, after=after)


def states(schedule: Schedule) -> dict[str, State]:
    return {s.key: s.state for s in schedule.status()}


def test_the_longest_chain_goes_first() -> None:
    schedule = Schedule([task("leaf", 9, ("root",)), task("root", 2), task("alone", 10)])
    assert [schedule.lease(lane, 0) for lane in "abc"] == [
        task("root", 2),
        task("alone", 10),
        None,
    ]


def test_what_goes_first_comes_before_longer_tasks() -> None:
    short = TrainingTask(key="short", label="short", cost=0.0, is_urgent=True)
    schedule = Schedule([task("long", 10), short])
    assert schedule.lease("a", 0) == short
    assert schedule.lease("b", 0) == task("long", 10)


def test_a_task_waits_for_what_it_starts_from() -> None:
    schedule = Schedule([task("root"), task("leaf", after=("root",))])
    assert schedule.lease("a", 0) == task("root")
    assert schedule.lease("b", 0) is None
    schedule.finish("a", "root", 1)
    assert schedule.lease("b", 1) == task("leaf", after=("root",))


def test_a_dependency_outside_the_group_counts_as_done() -> None:
    assert Schedule([task("leaf", after=("elsewhere",))]).lease("a", 0) is not None


def test_a_silent_lane_loses_its_task_to_the_next_one_that_asks() -> None:
    schedule = Schedule([task("root")], lease_s=30)
    schedule.lease("a", 0)
    assert schedule.heartbeat("a", "root", 29, {"samples": 8})
    assert schedule.lease("b", 58) is None
    assert schedule.lease("b", 60) == task("root")
    assert not schedule.heartbeat("a", "root", 61, {})
    assert [(h.lane, h.outcome) for h in schedule.history] == [("a", "lost"), ("b", None)]


def test_a_restarted_lane_gets_its_own_task_again() -> None:
    schedule = Schedule([task("x", 1), task("y", 2)])
    assert schedule.lease("a", 0) == task("y", 2)
    assert schedule.lease("a", 5) == task("y", 2)
    assert schedule.status()[1].attempts == 2


def test_a_task_fails_for_good_after_its_attempts_and_takes_its_heirs_along() -> None:
    schedule = Schedule(
        [task("root"), task("mid", after=("root",)), task("leaf", after=("mid",)), task("other")],
        max_attempts=2,
    )
    for now in (0, 100):
        assert schedule.lease("a", now) == task("root")
        schedule.fail("a", "root", now, "boom", retry=True)
    assert states(schedule) == {
        "root": State.FAILED,
        "mid": State.FAILED,
        "leaf": State.FAILED,
        "other": State.QUEUED,
    }
    assert schedule.status()[0].error == "boom"
    assert schedule.status()[1].error == "root, which it starts from, failed"


def test_what_failed_is_tried_again_later_and_later_and_others_meanwhile() -> None:
    schedule = Schedule([task("root", 9), task("other")], max_attempts=3)
    assert schedule.lease("a", 0) == task("root", 9)
    schedule.fail("a", "root", 0, "503", retry=True)
    assert schedule.lease("a", 0) == task("other")
    schedule.finish("a", "other", 1)
    assert schedule.lease("a", 9) is None
    assert schedule.lease("a", 10) == task("root", 9)
    schedule.fail("a", "root", 11, "503", retry=True)
    assert schedule.lease("a", 70) is None
    assert not schedule.finished
    assert schedule.lease("a", 71) == task("root", 9)
    schedule.fail("a", "root", 72, "503", retry=True)
    assert states(schedule)["root"] is State.FAILED


def test_hiccups_of_a_training_that_goes_on_in_between_are_not_counted() -> None:
    schedule = Schedule([task("long", 100)], max_attempts=2)
    for number in range(1, 8):
        assert schedule.lease("a", 1000 * number) is not None
        schedule.heartbeat("a", "long", 1000 * number, {"samples": 10 * number})
        schedule.fail("a", "long", 1000 * number, "503", retry=True)
    assert states(schedule) == {"long": State.QUEUED}
    # From here on it comes no further.
    for number in range(8, 10):
        assert schedule.lease("a", 1000 * number) is not None
        schedule.heartbeat("a", "long", 1000 * number, {"samples": 70})
        schedule.fail("a", "long", 1000 * number, "503", retry=True)
    assert states(schedule) == {"long": State.FAILED}


def test_an_attempt_that_got_further_is_not_counted_when_its_machine_is_lost() -> None:
    schedule = Schedule([task("long", 100)], lease_s=10, max_attempts=2)
    for number in range(1, 8):
        assert schedule.lease("a", 100 * number) is not None
        schedule.heartbeat("a", "long", 100 * number + 5, {"samples": 10 * number})
    assert states(schedule) == {"long": State.RUNNING}
    # From here on it dies where it died before.
    schedule.lease("a", 1000)
    schedule.heartbeat("a", "long", 1001, {"samples": 70})
    assert schedule.lease("a", 1100) is not None
    schedule.heartbeat("a", "long", 1101, {"samples": 70})
    assert schedule.lease("a", 1200) is None
    assert states(schedule) == {"long": State.FAILED}


def test_a_task_that_is_given_back_goes_to_the_next_lane_and_is_not_counted() -> None:
    schedule = Schedule([task("root")], max_attempts=1)
    for now, lane in enumerate("abc"):
        assert schedule.lease(lane, now) == task("root")
        schedule.release(lane, "root", now + 0.5)
    assert schedule.lease("d", 9) == task("root")
    schedule.release("a", "root", 10)
    assert states(schedule) == {"root": State.RUNNING}
    assert [h.outcome for h in schedule.history] == ["moved", "moved", "moved", None]


def budget(hours: float, **rates: float) -> Budget:
    return Budget(device_hours=hours, devices_per_lane=2, rates=rates)


def dear(key: str, samples: float, after: tuple[str, ...] = ()) -> TrainingTask:
    return TrainingTask(key=key, label=key, cost=samples, after=after, kind="net")


def test_what_would_pass_the_budget_is_not_begun_and_what_runs_is_finished() -> None:
    # Half an hour of a lane of two devices; a sample takes a second.
    tasks = [dear("root", 1000), dear("mid", 600, ("root",)), dear("leaf", 300, ("mid",))]
    schedule = Schedule(tasks, lease_s=1e9, budget=budget(1.0, net=1.0))
    assert schedule.lease("a", 0) == tasks[0]
    schedule.finish("a", "root", 1000)
    assert schedule.lease("a", 1000) == tasks[1]
    schedule.finish("a", "mid", 1600)
    assert schedule.lease("a", 1600) is None
    assert schedule.finished
    error = schedule.status()[2].error
    assert error is not None
    assert "max_device_hours=1 is not enough: 0.889 are spent" in error
    assert "needs about 0.167" in error


def test_a_smaller_task_may_still_fit_while_another_runs() -> None:
    tasks = [dear("big", 1500), dear("middle", 400), dear("small", 200)]
    schedule = Schedule(tasks, lease_s=1e9, budget=budget(1.0, net=1.0))
    assert schedule.lease("a", 0) == tasks[0]
    assert schedule.lease("b", 0) == tasks[2]
    assert schedule.lease("c", 0) is None
    assert states(schedule)["middle"] is State.QUEUED
    # The big one is faster than was thought, so there is room after all.
    schedule.finish("a", "big", 700)
    schedule.finish("b", "small", 700)
    assert schedule.lease("c", 700) == tasks[1]


def test_a_task_of_unknown_cost_begins_alone_and_shows_it_within_a_minute() -> None:
    tasks = [dear("root", 1000), dear("other", 900)]
    schedule = Schedule(tasks, lease_s=1e9, budget=budget(1.0))
    assert schedule.lease("a", 0) == tasks[0]
    assert schedule.lease("b", 0) is None
    assert schedule.heartbeat("a", "root", 10, {"samples": 10})
    assert schedule.heartbeat("a", "root", 80, {"samples": 150})
    assert schedule.lease("b", 80) == tasks[1]


def test_a_task_that_turns_out_too_dear_is_stopped() -> None:
    schedule = Schedule([dear("root", 9000)], lease_s=1e9, budget=budget(1.0))
    schedule.lease("a", 0)
    assert schedule.heartbeat("a", "root", 10, {"samples": 10})
    assert not schedule.heartbeat("a", "root", 80, {"samples": 80})
    assert schedule.finished
    assert "max_device_hours" in str(schedule.status()[0].error)


def test_an_error_that_a_retry_cannot_help_fails_at_once() -> None:
    schedule = Schedule([task("root")])
    schedule.lease("a", 0)
    schedule.fail("a", "root", 1, "NaN", retry=False)
    assert schedule.finished


def test_a_late_finish_of_a_lost_task_still_counts() -> None:
    schedule = Schedule([task("root")], lease_s=1)
    schedule.lease("a", 0)
    schedule.expire(5)
    schedule.finish("a", "root", 6)
    assert schedule.finished
    assert schedule.lease("b", 7) is None


def test_circles_are_an_error() -> None:
    with pytest.raises(TrainingError, match="wait for each other"):
        critical_path([task("a", after=("b",)), task("b", after=("a",))])


@pytest.mark.parametrize("seed", range(20))
def test_whatever_dies_everything_is_trained_once_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    tasks = [task("n0", 5)] + [
        task(f"n{i}", rng.uniform(1, 9), (f"n{rng.randrange(i)}",)) for i in range(1, 13)
    ]
    schedule = Schedule(tasks, lease_s=3, max_attempts=100)
    holds: dict[str, TrainingTask] = {}
    finished: list[str] = []
    for now in range(1000):
        lane = rng.choice("abc")
        if lane in holds:
            held = holds.pop(lane)
            alive = schedule.heartbeat(lane, held.key, now, {})
            if rng.random() < 0.7 and alive:
                schedule.finish(lane, held.key, now)
                finished.append(held.key)
        elif (given := schedule.lease(lane, now)) is not None:
            assert all(key in finished for key in given.after)
            holds[lane] = given
        if schedule.finished:
            break
    assert sorted(finished) == sorted(t.key for t in tasks)


def test_tasks_come_in_while_lanes_run_and_failed_ones_are_tried_anew() -> None:
    schedule = Schedule([task("first")], max_attempts=1)
    assert schedule.lease("lane", 0.0) is not None
    schedule.add([task("first"), task("second", after=("first",))])
    assert schedule.lease("other", 0.0) is None
    schedule.fail("lane", "first", 1.0, "broken", retry=True)
    assert {t.key: t.state.value for t in schedule.status()} == {
        "first": "failed",
        "second": "failed",
    }
    schedule.add([task("first"), task("second", after=("first",))])
    again = schedule.lease("lane", 2.0)
    assert again is not None
    assert again.key == "first"
    schedule.finish("lane", "first", 3.0)
    following = schedule.lease("lane", 3.0)
    assert following is not None
    assert following.key == "second"


def test_only_what_no_lane_has_begun_is_withdrawn() -> None:
    schedule = Schedule([task("running"), task("queued")])
    running = schedule.lease("lane", 0.0)
    assert running is not None
    rest = {"running", "queued"} - {running.key}
    assert schedule.withdraw(["running", "queued", "unknown"]) == list(rest)
    schedule.finish("lane", running.key, 1.0)
    assert schedule.finished


def test_a_lane_whose_lost_task_was_withdrawn_is_told_to_stop_and_breaks_nothing() -> None:
    schedule = Schedule([task("root")], lease_s=1)
    assert schedule.lease("lane", 0.0) is not None
    schedule.expire(5.0)
    assert schedule.withdraw(["root"]) == ["root"]
    assert not schedule.heartbeat("lane", "root", 6.0, {"samples": 8})
    schedule.release("lane", "root", 6.0)
    schedule.fail("lane", "root", 6.0, "boom", retry=True)
    schedule.finish("lane", "root", 6.0)
    assert schedule.status() == []
    # Whoever wants it anew gets it anew; what is stored is found by the lane.
    schedule.add([task("root")])
    assert schedule.lease("lane", 7.0) == task("root")


def reported(
    schedule: Schedule, lane: str, key: str, now: float, done: float, speed: float
) -> bool:
    progress = {"samples": done, "samples_per_s": speed}
    return schedule.heartbeat(lane, key, now, progress)


def two_lanes() -> Schedule:
    """A slow lane and one ten times as fast, in the middle of a long task each."""
    tasks = [dear("a", 1000), dear("b", 1000)]
    schedule = Schedule(tasks, lease_s=100, move_s=20)
    assert schedule.lease("slow", 0) == tasks[1]
    assert schedule.lease("fast", 0) == tasks[0]
    assert reported(schedule, "slow", "b", 90, 90, 1.0)
    assert reported(schedule, "fast", "a", 90, 900, 10.0)
    return schedule


def test_an_idle_lane_gets_what_a_slow_one_gives_back_and_nobody_else_does() -> None:
    schedule = two_lanes()
    assert not schedule.is_wanted("slow", "b", 99)
    schedule.finish("fast", "a", 100)
    assert schedule.lease("fast", 100) is None
    assert schedule.is_wanted("slow", "b", 101)
    assert not schedule.is_wanted("other", "b", 101)
    schedule.release("slow", "b", 102)
    assert schedule.lease("slow", 103) is None, "it is meant for the fast one"
    given = schedule.lease("fast", 103)
    assert given is not None
    assert given.key == "b"
    # The slow one is idle now, and no help.
    assert reported(schedule, "fast", "b", 120, 300, 10.0)
    assert schedule.lease("slow", 121) is None
    assert not schedule.is_wanted("fast", "b", 121)
    schedule.finish("fast", "b", 200)
    assert schedule.finished
    assert [h.outcome for h in schedule.history] == ["moved", "done", "done"]


def test_a_task_is_not_kept_for_a_lane_that_asks_no_more() -> None:
    schedule = two_lanes()
    schedule.finish("fast", "a", 100)
    assert schedule.lease("fast", 100) is None
    assert schedule.is_wanted("slow", "b", 109)
    assert not schedule.is_wanted("slow", "b", 111)
    schedule.release("slow", "b", 111)
    given = schedule.lease("slow", 112)
    assert given is not None
    assert given.key == "b"


def test_a_task_that_is_done_before_it_is_given_back_is_done() -> None:
    schedule = two_lanes()
    schedule.finish("fast", "a", 100)
    assert schedule.lease("fast", 100) is None
    schedule.finish("slow", "b", 101)
    assert schedule.finished
    schedule.release("slow", "b", 102)
    assert schedule.lease("fast", 102) is None
    assert schedule.finished


def test_a_lane_waits_for_a_long_chain_for_half_a_minute_and_then_takes_what_is_ready() -> None:
    tasks = [dear("chain", 1000), dear("end", 3000, ("chain",)), dear("x", 100), dear("y", 100)]
    schedule = Schedule(tasks, lease_s=100, move_s=20)
    assert schedule.lease("slow", 0) == tasks[0]
    assert schedule.lease("fast", 0) == tasks[3]
    assert reported(schedule, "slow", "chain", 9, 9, 1.0)
    assert reported(schedule, "fast", "y", 9, 90, 10.0)
    schedule.finish("fast", "y", 10)
    assert schedule.lease("fast", 10) is None, "the chain is more urgent than x"
    assert schedule.is_wanted("slow", "chain", 10)
    assert schedule.lease("fast", 39) is None
    assert schedule.lease("fast", 41) == tasks[2]
    assert not schedule.is_wanted("slow", "chain", 42)


def test_where_lanes_cannot_give_back_speed_is_not_minded() -> None:
    schedule = Schedule([dear("a", 1000), dear("b", 1000)], lease_s=1e9)
    schedule.lease("slow", 0)
    schedule.lease("fast", 0)
    reported(schedule, "slow", "b", 90, 90, 1.0)
    reported(schedule, "fast", "a", 90, 900, 10.0)
    schedule.finish("fast", "a", 100)
    assert schedule.lease("fast", 100) is None
    assert not schedule.is_wanted("slow", "b", 100)


def test_a_new_process_of_a_lanes_name_is_not_reckoned_as_slow() -> None:
    schedule = two_lanes()
    schedule.forget_speed("fast")
    schedule.finish("fast", "a", 100)
    assert schedule.lease("fast", 100) is None
    assert not schedule.is_wanted("slow", "b", 100), "nothing is known of it yet"


def test_only_one_lane_gives_back_for_an_idle_one_however_the_others_speeds_jump() -> None:
    tasks = [dear("a", 1000), dear("b", 1000), dear("end-a", 3000, ("a",))]
    tasks += [dear("end-b", 3000, ("b",)), dear("x", 100), dear("y", 100)]
    schedule = Schedule(tasks, lease_s=100, move_s=20)
    assert [getattr(schedule.lease(lane, 0), "key", None) for lane in ("s", "t", "fast")] == [
        *("b", "a", "y"),
    ]
    reported(schedule, "s", "b", 9, 9, 1.0)
    reported(schedule, "t", "a", 9, 10, 1.0)
    reported(schedule, "fast", "y", 9, 90, 10.0)
    schedule.finish("fast", "y", 10)
    assert schedule.lease("fast", 10) is None
    assert schedule.is_wanted("s", "b", 10)
    reported(schedule, "s", "b", 12, 12, 1.1)
    assert schedule.lease("fast", 12) is None
    assert [schedule.is_wanted("s", "b", 12), schedule.is_wanted("t", "a", 12)] == [True, False]
