"""The state of a task in the schedule, of its attempts, and what is told of it."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from expertree.scheduling.tasks import TrainingTask


class State(enum.StrEnum):
    """The state of a task."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One lease of a task, for the timeline.

    Times are Unix seconds; `outcome` is None while it runs, then `done`, `failed`, `lost`, `moved`
    (when the machine was to be taken away, or a faster lane was idle) or `held` (when another job
    was doing it); `node` names the machine.
    """

    key: str
    lane: str
    node: str
    number: int
    start: float
    end: float | None = None
    outcome: str | None = None
    error: str | None = None


@dataclasses.dataclass(kw_only=True, slots=True)
class Entry:
    """A task with what the schedule knows of it; `samples_per_s` is what its lane has told."""

    task: TrainingTask
    state: State = State.QUEUED
    lane: str = ""
    seen: float = 0.0
    attempts: int = 0
    held: int = 0
    failures: int = 0
    furthest: float = 0.0
    rests_until: float = 0.0
    first_report: tuple[float, float] | None = None
    progress: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    error: str | None = None
    samples_per_s: float = 0.0
    num_moves: int = 0

    @property
    def samples(self) -> float:
        """The number of samples that the task has seen, by its last report."""
        return float(self.progress.get("samples", 0.0))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TaskStatus:
    """The state of a task in a snapshot; `kind` and `after` are those of `TrainingTask`."""

    key: str
    label: str
    state: State
    lane: str
    attempts: int
    cost: float
    progress: Mapping[str, Any]
    error: str | None
    kind: str = ""
    after: tuple[str, ...] = ()
