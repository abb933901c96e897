"""A simulation of the schedule: which lane trains which task when, without a cluster."""

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Sequence

from expertree.scheduling.schedule import Schedule
from expertree.scheduling.tasks import TrainingTask, critical_path

OnPreemption = Callable[[str, int], float | None]
"""Takes a task's key and the number of its attempt. Returns the share of the task's remaining work
after which its lane is taken away, or None if it is not."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One attempt at a task; its times are seconds since the beginning."""

    key: str
    lane: int
    begin_s: float
    end_s: float
    is_done: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """The result of a simulation.

    Attributes:
        spans: All attempts, sorted by their beginning.
        wall_s: Seconds until the last task is done.
        bound_s: Lower bound of `wall_s`: the longest chain, or all tasks shared out evenly.
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
    """Simulate the schedule of `tasks`, whose costs are seconds, on a number of lanes.

    Args:
        tasks: The tasks, as for `Schedule`.
        num_lanes: Number of lanes.
        between_s: Seconds that a lane needs before each task.
        repeated_s: Seconds of work lost with a lane: half of the time between two checkpoints.
        restart_s: Seconds until a lane that was taken away is back.
        preempt: Tells which attempts lose their lane, and when.

    Raises:
        ValueError: If there is no lane.
        TrainingError: If tasks wait for each other in a circle.
    """
    if num_lanes < 1:
        raise ValueError(f"num_lanes must be at least 1, got {num_lanes}")
    play = _Play(tasks, num_lanes, between_s, repeated_s, restart_s, preempt)
    while play.advance():
        pass
    return Simulated(
        spans=tuple(sorted(play.spans, key=lambda span: (span.begin_s, span.lane))),
        wall_s=max((span.end_s for span in play.spans), default=0.0),
        bound_s=bound_s(tasks, num_lanes=num_lanes),
    )


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class _Event:
    """The end of an attempt on a lane or, if `key` is None, the return of a lane."""

    at_s: float
    number: int
    lane: int
    key: str | None = None
    left_s: float = 0.0
    begin_s: float = 0.0


class _Play:
    """The state of a simulation: its clock, its idle lanes and the events to come."""

    def __init__(
        self,
        tasks: Sequence[TrainingTask],
        num_lanes: int,
        between_s: float,
        repeated_s: float,
        restart_s: float,
        preempt: OnPreemption,
    ) -> None:
        self._schedule = Schedule(tasks, lease_s=float("inf"), max_attempts=1_000_000)
        self._left_s = {task.key: task.cost for task in tasks}
        self._attempts = dict.fromkeys(self._left_s, 0)
        self._between_s, self._repeated_s, self._restart_s = between_s, repeated_s, restart_s
        self._preempt = preempt
        self._idle = list(range(num_lanes))
        self._events: list[_Event] = []
        self._numbers = itertools.count()
        self._now_s = 0.0
        self.spans: list[Span] = []

    def advance(self) -> bool:
        """Give ready tasks to idle lanes, and go to the next event; False if there is none."""
        while self._idle and (task := self._schedule.lease(str(self._idle[0]), self._now_s)):
            self._begin(self._idle.pop(0), task.key)
        if not self._events:
            return False
        event = heapq.heappop(self._events)
        self._now_s = event.at_s
        if event.key is None:
            self._idle.append(event.lane)
        else:
            self._end(event, event.key)
        return True

    def _begin(self, lane: int, key: str) -> None:
        self._attempts[key] += 1
        share = self._preempt(key, self._attempts[key])
        rest_s = self._left_s[key]
        works_s = rest_s if share is None else rest_s * share
        left_s = 0.0 if share is None else rest_s - works_s + min(self._repeated_s, works_s)
        at_s = self._now_s + self._between_s + works_s
        heapq.heappush(
            self._events, _Event(at_s, next(self._numbers), lane, key, left_s, self._now_s)
        )

    def _end(self, event: _Event, key: str) -> None:
        is_done = event.left_s == 0.0
        self.spans.append(
            Span(
                key=key,
                lane=event.lane,
                begin_s=event.begin_s,
                end_s=event.at_s,
                is_done=is_done,
            )
        )
        lane = str(event.lane)
        if is_done:
            self._schedule.finish(lane, key, event.at_s)
            self._idle.append(event.lane)
            return
        self._left_s[key] = event.left_s
        self._schedule.release(lane, key, event.at_s)
        back_s = event.at_s + self._restart_s
        heapq.heappush(self._events, _Event(back_s, next(self._numbers), event.lane))


def bound_s(tasks: Sequence[TrainingTask], *, num_lanes: int) -> float:
    """Return the lower bound, in seconds, of any schedule of tasks whose costs are seconds."""
    return max(
        max(critical_path(tasks).values(), default=0.0),
        sum(task.cost for task in tasks) / num_lanes,
    )
