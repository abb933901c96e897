"""Estimates how long a group of trainings will take, from what its running ones report."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.simulation import bound_s
from expertree.scheduling.states import State, TaskStatus
from expertree.scheduling.tasks import TrainingTask


def seconds_left(status: TrainingStatus) -> float | None:
    """Estimate the seconds until a group of trainings is done.

    That is the longest chain of those that wait for each other, or all of them shared out evenly
    among the lanes, whichever is longer. Each goes on at its own speed (`samples_per_s` of its
    progress); one that has none yet takes the mean of its kind, else of all.

    Returns:
        The seconds; None before any speed is known.
    """
    mean_of = _speeds(status.tasks)
    if not mean_of:
        return None
    tasks = [
        TrainingTask(
            key=task.key,
            label=task.label,
            cost=_samples_left(task) / (_speed(task) or mean_of.get(task.kind, mean_of[""])),
            after=task.after,
        )
        for task in status.tasks
        if task.state in (State.QUEUED, State.RUNNING)
    ]
    return bound_s(tasks, num_lanes=max(status.num_lanes, 1))


def _speeds(tasks: Sequence[TaskStatus]) -> dict[str, float]:
    """Return the mean speed of each kind of training, and of all under an empty name."""
    found: dict[str, list[float]] = defaultdict(list)
    for task in tasks:
        if speed := _speed(task):
            found[task.kind].append(speed)
            if task.kind:
                found[""].append(speed)
    return {kind: fmean(speeds) for kind, speeds in found.items()}


def _speed(task: TaskStatus) -> float:
    return float(task.progress.get("samples_per_s", 0.0))


def _samples_left(task: TaskStatus) -> float:
    return max(task.cost - float(task.progress.get("samples", 0.0)), 0.0)
