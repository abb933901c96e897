"""The schedule played through on paper: who trains what when, without a cluster."""

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Sequence

from expertree.orchestration.schedule import Schedule, TrainingTask, critical_path

OnPreemption = Callable[[str, int], float | None]
"""For a task's key and the number of its attempt: the share of what is left of it after which its
lane is taken away, or None if it is not."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One attempt; seconds since the beginning."""

    key: str
    lane: int
    begin_s: float
    end_s: float
    is_done: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """What a schedule would give.

    Attributes:
        spans: All attempts, by their beginning.
        wall_s: Until the last task is done.
        bound_s: No schedule is shorter: the longest chain, or all tasks shared out evenly.
    """

    spans: tuple[Span, ...]
    wall_s: float
    bound_s: float


def simulate(
    tasks: Sequence[TrainingTask],
    *,
    num_lanes: int,
    between_s: float = 0.0,
    repeated_s: float = 0.0,
    restart_s: float = 0.0,
    preempt: OnPreemption = lambda _key, _attempt: None,
) -> Simulated:
    """Play the schedule of `tasks`, whose costs are seconds, on some lanes.

    Args:
        tasks: As for `Schedule`.
        num_lanes: Lanes.
        between_s: What a lane needs before each task.
        repeated_s: Work that is lost with a lane: half of the time between two checkpoints.
        restart_s: Until a lane that was taken away is there again.
        preempt: Which attempts lose their lane, and when.

    Raises:
        ValueError: If there is no lane.
        TrainingError: If tasks wait for each other in a circle.
    """
    if num_lanes < 1:
        raise ValueError(f"num_lanes must be at least 1, got {num_lanes}")
    never = float("inf")
    schedule = Schedule(tasks, lease_s=never, max_attempts=1_000_000)
    left = {task.key: task.cost for task in tasks}
    attempts = dict.fromkeys(left, 0)
    order = itertools.count()
    # Events: when, a number that keeps equal times in order, lane, task, what is left, its begin.
    ends: list[tuple[float, int, int, str | None, float, float]] = []
    idle, now = list(range(num_lanes)), 0.0
    spans: list[Span] = []
    while True:
        for lane in list(idle):
            task = schedule.lease(str(lane), now)
            if task is None:
                break
            idle.remove(lane)
            attempts[task.key] += 1
            share = preempt(task.key, attempts[task.key])
            rest_s = left[task.key]
            works_s = rest_s if share is None else rest_s * share
            after_s = 0.0 if share is None else rest_s - works_s + min(repeated_s, works_s)
            end = now + between_s + works_s
            heapq.heappush(ends, (end, next(order), lane, task.key, after_s, now))
        if not ends:
            break
        now, _, lane, key, after_s, begin = heapq.heappop(ends)
        if key is None:
            idle.append(lane)
            continue
        is_done = after_s == 0.0
        spans.append(Span(key=key, lane=lane, begin_s=begin, end_s=now, is_done=is_done))
        if is_done:
            schedule.finish(str(lane), key, now)
            idle.append(lane)
        else:
            left[key] = after_s
            schedule.fail(str(lane), key, now, "preempted", retry=True)
            heapq.heappush(ends, (now + restart_s, next(order), lane, None, 0.0, now))
    return Simulated(
        spans=tuple(sorted(spans, key=lambda span: (span.begin_s, span.lane))),
        wall_s=max((span.end_s for span in spans), default=0.0),
        bound_s=bound_s(tasks, num_lanes=num_lanes),
    )


def bound_s(tasks: Sequence[TrainingTask], *, num_lanes: int) -> float:
    """No schedule of tasks, whose costs are seconds, is shorter than this."""
    return max(
        max(critical_path(tasks).values(), default=0.0),
        sum(task.cost for task in tasks) / num_lanes,
    )
