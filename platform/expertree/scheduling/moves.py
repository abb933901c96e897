"""Who waits for which task: idle lanes that leave one to a faster lane, or take one over."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from expertree.scheduling.speeds import (
    LaneSpeeds,
    Running,
    is_worth_swapping,
    pick,
    pick_to_move,
)

MOVE_S = 20.0
"""Seconds that a move is reckoned to cost: until the lane hears of it, writes a checkpoint, and the
other one has opened the samples and is as fast as it was."""

_ASKS_WITHIN_S = 10.0
"""Seconds after its last question for a task for which a lane counts as waiting."""


_PATIENCE_S = 30.0
"""Seconds for which a lane leaves a ready task alone while it waits for another one."""


class Load(NamedTuple):
    """What is left of a task.

    Attributes:
        key: The task.
        kind: Kind of task; see `TrainingTask`.
        samples: Samples that are left.
        behind: Samples of the longest chain of tasks that wait for it.
        lane: The lane that it runs on; empty for none.
        samples_per_s: Speed that this lane has reported of it; 0 for none yet.
        num_moves: Times that it was moved for being slow.
    """

    key: str
    kind: str
    samples: float
    behind: float = 0.0
    lane: str = ""
    samples_per_s: float = 0.0
    num_moves: int = 0


class Moves:
    """The speeds of lanes, and the tasks that idle ones wait for other lanes to give back."""

    def __init__(self, move_s: float) -> None:
        """Know of no lane yet.

        Args:
            move_s: Seconds that moving a running task costs.
        """
        self._move_s = move_s
        self._speeds = LaneSpeeds()
        self._asked_s: dict[str, float] = {}
        self._wishes: dict[str, str] = {}
        self._swaps_since_s: dict[str, float] = {}

    def asks(self, lane: str, now: float) -> None:
        """Note that a lane is idle."""
        self._asked_s[lane] = now

    def begins(self, lane: str) -> None:
        """Note that a lane has got a task: it waits for no other."""
        self._asked_s.pop(lane, None)
        self._wishes.pop(lane, None)
        self._swaps_since_s.pop(lane, None)

    def note(self, lane: str, kind: str, samples_per_s: float) -> None:
        """Note the speed of a lane; that of tasks of no kind says nothing of others."""
        if kind and samples_per_s > 0:
            self._speeds.note(lane, kind, samples_per_s)

    def forget(self, lane: str) -> None:
        """Forget a lane whose name another process has now."""
        self._speeds.forget(lane)
        self.begins(lane)

    def wisher_of(self, key: str, now: float) -> str | None:
        """Return the lane that waits for a task, if it still asks."""
        waiting = (lane for lane, wish in self._wishes.items() if wish == key)
        return next((lane for lane in waiting if self._is_waiting(lane, now)), None)

    def pick(
        self, lane: str, ready: Iterable[Load], running: Sequence[Load], now: float
    ) -> str | None:
        """Pick a task for an idle lane where no others will come; see `speeds.pick`."""
        loads = {load.key: load for load in ready}
        idle = [own for own in self._asked_s if own != lane and self._is_waiting(own, now)]
        free_in_s = dict.fromkeys(idle, 0.0)
        for load in running:
            left_s = self._left_s(load)
            if left_s is not None:
                free_in_s[load.lane] = left_s
        return pick(
            loads,
            lane,
            free_in_s,
            lambda own, key: self._seconds(own, loads[key]),
            move_s=self._move_s,
        )

    def wish(self, lane: str, running: Iterable[Load], now: float) -> None:
        """Have an idle lane wait for a task that it would clearly end sooner, if there is one."""
        loads = {load.key: load for load in running}
        if self._wishes.get(lane) in loads:
            return
        self._wishes.pop(lane, None)
        found = list(self._movable(lane, loads.values(), now))
        best = pick_to_move(found, move_s=self._move_s)
        if best is not None:
            self._wishes[lane] = best

    def swap(
        self, lane: str, ready: Load, queued: Iterable[Load], running: Sequence[Load], now: float
    ) -> bool:
        """Have a lane wait for a running task in place of a ready one, where that helps.

        It does not wait for longer than `_PATIENCE_S`, and for the one that it began to wait for:
        the lane of that one may be giving it back.

        Args:
            lane: The idle lane.
            ready: The task that it would begin.
            queued: All tasks that do not run, ready or not.
            running: All tasks that run.
            now: Seconds of any clock.
        """
        here_s = self._seconds(lane, ready)
        since_s = self._swaps_since_s.setdefault(lane, now)
        if here_s is None or now - since_s > _PATIENCE_S:
            return False
        lanes = {load.key: load.lane for load in running}
        if self._wishes.get(lane) in lanes:
            return True
        least_s = self._least_s(lane, ready.kind, [*queued, *running], now)
        behind_s = here_s * ready.behind / max(ready.samples, 1e-9)
        found = []
        for one in self._movable(lane, running, now):
            there_s = self._seconds(lanes[one.key], ready)
            if there_s is not None:
                own = Running(ready.key, there_s, here_s, behind_s)
                if is_worth_swapping(own, one, least_s=least_s, move_s=self._move_s):
                    found.append(one)
        best = pick_to_move(found, move_s=self._move_s)
        if best is None:
            return False
        self._wishes[lane] = best
        return True

    def _least_s(self, lane: str, kind: str, loads: Sequence[Load], now: float) -> float:
        """Return the seconds that all work takes, shared out among all lanes by their speeds."""
        here_s = sum(self._seconds(lane, load) or 0.0 for load in loads)
        lanes = {load.lane for load in loads if load.lane}
        lanes |= {own for own in self._asked_s if self._is_waiting(own, now)}
        own = self._speeds.of(lane, kind)
        return here_s / sum((self._speeds.of(other, kind) or 0.0) / (own or 1.0) for other in lanes)

    def _movable(self, lane: str, running: Iterable[Load], now: float) -> Iterator[Running]:
        """Yield what runs at a known speed and no other lane waits for, as an idle lane sees it."""
        for load in running:
            left_s, here_s = self._left_s(load), self._seconds(lane, load)
            if left_s and here_s and self.wisher_of(load.key, now) in (None, lane):
                behind_s = here_s * load.behind / load.samples
                yield Running(load.key, left_s, here_s, behind_s, load.num_moves)

    def _is_waiting(self, lane: str, now: float) -> bool:
        return now - self._asked_s.get(lane, float("-inf")) <= _ASKS_WITHIN_S

    def _left_s(self, load: Load) -> float | None:
        """Return the seconds until a running task is done; None before its lane tells a speed."""
        return load.samples / load.samples_per_s if load.samples_per_s > 0 else None

    def _seconds(self, lane: str, load: Load) -> float | None:
        speed = self._speeds.of(lane, load.kind)
        return None if speed is None else load.samples / speed
