"""Which lane a task is best on where lanes differ in speed: decisions from values to values."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

_CLEARLY = 0.85
"""Share of the seconds left that a task may take elsewhere at most, to be moved there: speeds are
measured, and each move costs. With each move of the same task it is so much less: a speed that
jumps must not send a task to and fro."""


class LaneSpeeds:
    """The speeds of lanes, in samples a second, by kind of task, as they were reported last."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._of: dict[str, dict[str, float]] = {}
        self._means: dict[str, float] = {}

    def note(self, lane: str, kind: str, samples_per_s: float) -> None:
        """Note the speed of a lane at a task of some kind."""
        self._of.setdefault(lane, {})[kind] = samples_per_s
        self._average()

    def forget(self, lane: str) -> None:
        """Forget a lane whose name another process has now."""
        self._of.pop(lane, None)
        self._average()

    def of(self, lane: str, kind: str) -> float | None:
        """Return the expected speed of a lane at a kind of task; None if no lane has shown it.

        Where the lane has not had that kind, it is that of other lanes, times the lane's usual
        ratio to others; a lane that nothing is known of is like the mean of all.
        """
        own = self._of.get(lane, {})
        if kind in own:
            return own[kind]
        if kind not in self._means:
            return None
        ratios = [speed / self._means[one] for one, speed in own.items()]
        return self._means[kind] * (fmean(ratios) if ratios else 1.0)

    def _average(self) -> None:
        found: dict[str, list[float]] = defaultdict(list)
        for speeds in self._of.values():
            for kind, speed in speeds.items():
                found[kind].append(speed)
        self._means = {kind: fmean(speeds) for kind, speeds in found.items()}


def pick(
    ready: Iterable[str],
    lane: str,
    free_in_s: Mapping[str, float],
    seconds: Callable[[str, str], float | None],
    *,
    move_s: float,
) -> str | None:
    """Pick a task for an idle lane; none if other lanes end all of them sooner, once they are free.

    Tasks are looked at in their order. One that another lane would end sooner is left to it, and
    that lane then counts as busy for so much longer. A task of unknown duration is picked.

    Args:
        ready: Tasks that may begin, the most urgent first.
        lane: The idle lane.
        free_in_s: Seconds until each of the other lanes is free; 0 for idle ones.
        seconds: Function of a lane and a task to the seconds that it takes there.
        move_s: Seconds that moving a running task to another lane costs.
    """
    free = dict(free_in_s)
    for task in ready:
        here = seconds(lane, task)
        if here is None:
            return task
        ends = {}
        for other, at_s in free.items():
            there = seconds(other, task)
            if there is not None:
                ends[other] = (at_s + there, there)
        best = min(ends, key=lambda other: ends[other][0], default=None)
        if best is None:
            return task
        waits_s, there = ends[best]
        if here <= waits_s:
            return task
        # It may begin here and go on there: then what is done here until there is room is saved.
        if move_s <= free[best] * there / here:
            return task
        free[best] = waits_s
    return None


class Running(NamedTuple):
    """A task that runs on a lane, as an idle lane looks at it.

    Attributes:
        key: The task.
        left_s: Seconds until it is done where it runs.
        here_s: Seconds that the rest of it takes on the idle lane.
        behind_s: Seconds of the longest chain of tasks that wait for it.
        num_moves: Times that it was moved for being slow.
    """

    key: str
    left_s: float
    here_s: float
    behind_s: float = 0.0
    num_moves: int = 0

    @property
    def clearly(self) -> float:
        """Share of its time that it may take at most, to be moved once more."""
        return float(_CLEARLY ** (1 + self.num_moves))


def pick_to_move(running: Sequence[Running], *, move_s: float) -> str | None:
    """Pick the task that an idle lane takes over from the lane that has it; None if it is no use.

    Of those that would clearly end sooner, it is the one that ends last with all that waits for it.

    Args:
        running: Tasks that run on other lanes and can be moved.
        move_s: Seconds that a move costs.
    """
    sooner = [one for one in running if move_s + one.here_s < one.clearly * one.left_s]
    best = max(sooner, key=lambda one: (one.left_s + one.behind_s, one.key), default=None)
    return None if best is None else best.key


def is_worth_swapping(ready: Running, running: Running, *, least_s: float, move_s: float) -> bool:
    """Return whether an idle lane had better take over a running task than begin one that is ready.

    The lane that gives its task back gets the ready one. What counts is which of the two ends last,
    with all that waits for it, or when all work could be done if that is later.

    Args:
        ready: The task that is ready; its `left_s` is what it takes on the other lane.
        running: The task on the other lane.
        least_s: Seconds that all work takes at least, shared out among all lanes.
        move_s: Seconds that a move costs.
    """
    as_it_is_s = max(ready.here_s + ready.behind_s, running.left_s + running.behind_s, least_s)
    swapped_s = max(ready.left_s + ready.behind_s, running.here_s + running.behind_s, least_s)
    return move_s + swapped_s < running.clearly * as_it_is_s
