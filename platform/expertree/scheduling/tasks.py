"""The networks to train, and which of them wait for which."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from expertree.errors import TrainingError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainingTask:
    """One network to train.

    Attributes:
        key: Content hash of everything that its weights depend on.
        label: Name for users, such as `level 1, group 2`.
        cost: Expected effort in samples; the scale does not matter, only ratios.
        after: Keys of tasks that must be done before (a warm start needs its parent).
        work: The work that a lane runs; opaque here.
        kind: Name that tasks of the same speed share.
        is_urgent: Whether it comes before all tasks without this flag, however long those are; for
            short work that others outside of the schedule wait for.
    """

    key: str
    label: str
    cost: float
    after: tuple[str, ...] = ()
    work: Any = None
    kind: str = ""
    is_urgent: bool = False


def critical_path(tasks: Iterable[TrainingTask]) -> dict[str, float]:
    """Return each task's cost plus that of the longest chain of tasks that wait for it.

    Running the largest first is the classic list schedule: no task that others wait for, and no
    long task, is left to the end.

    Raises:
        TrainingError: If tasks wait for each other in a circle.
    """
    by_key = {task.key: task for task in tasks}
    behind: dict[str, list[str]] = {key: [] for key in by_key}
    for task in by_key.values():
        for key in task.after:
            if key in behind:
                behind[key].append(task.key)
    lengths: dict[str, float] = {}

    def length(key: str, trail: tuple[str, ...]) -> float:
        if key in trail:
            raise TrainingError(f"tasks wait for each other: {' -> '.join((*trail, key))}")
        if key not in lengths:
            rest = [length(other, (*trail, key)) for other in behind[key]]
            lengths[key] = by_key[key].cost + max(rest, default=0.0)
        return lengths[key]

    for key in by_key:
        length(key, ())
    return lengths
