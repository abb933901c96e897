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


_TELLS_AFTER_S = 1.0
"""Seconds that a lane works until it tells its speed."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lanes:
    """The lanes of a simulation.

    Attributes:
        speeds: Seconds of a task's cost that each lane does in a second.
        tell: Whether lanes tell their speed, so that the schedule minds it.
        move_s: Seconds that moving a running task costs; None if none is moved.
    """

    speeds: tuple[float, ...]
    tell: bool = False
    move_s: float | None = None


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
    lanes: Lanes | None = None,
) -> Simulated:
    """Simulate the schedule of `tasks`, whose costs are seconds, on a number of lanes.

    Args:
        tasks: The tasks, as for `Schedule`.
        num_lanes: Number of lanes.
        between_s: Seconds that a lane needs before each task.
        repeated_s: Seconds of work lost with a lane: half of the time between two checkpoints.
        restart_s: Seconds until a lane that was taken away is back.
        preempt: Tells which attempts lose their lane, and when.
        lanes: How fast the lanes are; all alike by default.

    Raises:
        ValueError: If there is no lane, or not a speed for each.
        TrainingError: If tasks wait for each other in a circle.
    """
    if num_lanes < 1:
        raise ValueError(f"num_lanes must be at least 1, got {num_lanes}")
    lanes = lanes or Lanes(speeds=(1.0,) * num_lanes)
    if len(lanes.speeds) != num_lanes:
        raise ValueError(f"{num_lanes} lanes need as many speeds, got {len(lanes.speeds)}")
    play = _Play(tasks, lanes, between_s, repeated_s, restart_s, preempt)
    while play.advance():
        pass
    return Simulated(
        spans=tuple(sorted(play.spans, key=lambda span: (span.begin_s, span.lane))),
        wall_s=max((span.end_s for span in play.spans), default=0.0),
        bound_s=_bound_s(tasks, lanes.speeds),
    )


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class _Event:
    """The end of an attempt on a lane or, if `key` is None, the return of a lane or a look."""

    at_s: float
    number: int
    lane: int | None
    key: str | None = None
    left_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Run:
    """What a lane does: since when, from when on it gets further, and what was left then."""

    number: int
    key: str
    begin_s: float
    works_s: float
    left_s: float


class _Play:
    """The state of a simulation: its clock, its idle lanes and the events to come."""

    def __init__(
        self,
        tasks: Sequence[TrainingTask],
        lanes: Lanes,
        between_s: float,
        repeated_s: float,
        restart_s: float,
        preempt: OnPreemption,
    ) -> None:
        self._schedule = Schedule(
            tasks, lease_s=float("inf"), max_attempts=1_000_000, move_s=lanes.move_s
        )
        self._lanes = lanes
        self._costs = {task.key: task.cost for task in tasks}
        self._left_s = dict(self._costs)
        self._attempts = dict.fromkeys(self._left_s, 0)
        self._moved: set[str] = set()
        self._between_s, self._repeated_s, self._restart_s = between_s, repeated_s, restart_s
        self._preempt = preempt
        self._idle = list(range(len(lanes.speeds)))
        self._runs: dict[int, _Run] = {}
        self._events: list[_Event] = []
        self._numbers = itertools.count()
        self._now_s = 0.0
        self.spans: list[Span] = []

    def advance(self) -> bool:
        """Give ready tasks to idle lanes, and go to the next event; False if there is none."""
        self._tell_speeds()
        while self._lease() or self._give_back():
            pass
        if not self._events:
            return False
        event = heapq.heappop(self._events)
        self._now_s = event.at_s
        if event.lane is None:
            return True
        if event.key is None:
            self._idle.append(event.lane)
        elif event.lane in self._runs and self._runs[event.lane].number == event.number:
            self._end(event.lane, event.left_s)
        return True

    def _tell_speeds(self) -> None:
        if not self._lanes.tell:
            return
        for lane, run in self._runs.items():
            if self._now_s > run.works_s:
                speed = self._lanes.speeds[lane]
                samples = self._costs[run.key] - self._left_of(lane, run)
                progress = {"samples": samples, "samples_per_s": speed}
                self._schedule.heartbeat(str(lane), run.key, self._now_s, progress)

    def _lease(self) -> bool:
        """Give a ready task to the first idle lane that gets one."""
        for lane in self._idle:
            task = self._schedule.lease(str(lane), self._now_s)
            if task is not None:
                self._idle.remove(lane)
                self._begin(lane, task.key)
                return True
        return False

    def _give_back(self) -> bool:
        """End an attempt that another lane will go on with."""
        for lane, run in self._runs.items():
            if self._schedule.is_wanted(str(lane), run.key, self._now_s):
                self._moved.add(run.key)
                self._left_s[run.key] = self._left_of(lane, run)
                self._close(lane, is_done=False)
                self._schedule.release(str(lane), run.key, self._now_s)
                self._idle.append(lane)
                return True
        return False

    def _left_of(self, lane: int, run: _Run) -> float:
        worked_s = max(self._now_s - run.works_s, 0.0)
        return max(run.left_s - worked_s * self._lanes.speeds[lane], 0.0)

    def _begin(self, lane: int, key: str) -> None:
        self._attempts[key] += 1
        share = self._preempt(key, self._attempts[key])
        speed, rest_s = self._lanes.speeds[lane], self._left_s[key]
        works_s = rest_s if share is None else rest_s * share
        left_s = 0.0 if share is None else rest_s - works_s + min(self._repeated_s, works_s)
        from_s = self._now_s + self._between_s
        if key in self._moved:
            self._moved.discard(key)
            from_s += self._lanes.move_s or 0.0
        number = next(self._numbers)
        self._runs[lane] = _Run(number, key, self._now_s, from_s, rest_s)
        heapq.heappush(self._events, _Event(from_s + works_s / speed, number, lane, key, left_s))
        if self._lanes.tell:
            look_s = from_s + _TELLS_AFTER_S
            heapq.heappush(self._events, _Event(look_s, next(self._numbers), None))

    def _end(self, lane: int, left_s: float) -> None:
        key = self._close(lane, is_done=left_s == 0.0)
        if left_s == 0.0:
            self._schedule.finish(str(lane), key, self._now_s)
            self._idle.append(lane)
            return
        self._left_s[key] = left_s
        self._schedule.release(str(lane), key, self._now_s)
        back_s = self._now_s + self._restart_s
        heapq.heappush(self._events, _Event(back_s, next(self._numbers), lane))

    def _close(self, lane: int, *, is_done: bool) -> str:
        run = self._runs.pop(lane)
        self.spans.append(
            Span(
                key=run.key,
                lane=lane,
                begin_s=run.begin_s,
                end_s=self._now_s,
                is_done=is_done,
            )
        )
        return run.key


def bound_s(tasks: Sequence[TrainingTask], *, num_lanes: int) -> float:
    """Return the lower bound, in seconds, of any schedule of tasks whose costs are seconds."""
    return _bound_s(tasks, (1.0,) * num_lanes)


def _bound_s(tasks: Sequence[TrainingTask], speeds: Sequence[float]) -> float:
    return max(
        max(critical_path(tasks).values(), default=0.0) / max(speeds),
        sum(task.cost for task in tasks) / sum(speeds),
    )
