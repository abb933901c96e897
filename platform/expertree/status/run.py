"""The state of a run as others see it: what it has done, what it does, and whether it lives."""

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from expertree.process import Process
from expertree.progress import ExpertState, StageState, WorkState
from expertree.status.files import RunKind


class RunState(StrEnum):
    """The state of a run.

    `killed` has ended without a word; `silent` has said nothing for long, and is on a machine that
    cannot be asked: it was killed, or its machine or its storage is away.
    """

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"
    SILENT = "silent"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """A run, from the files of its output folder.

    Attributes:
        output: The folder, or its URI.
        kind: What the run makes.
        title: Its heading.
        state: Whether it runs.
        reason: Why it failed; empty otherwise.
        begun_s: When it was started the last time, in seconds since 1970.
        num_starts: How often it was started.
        ran_s: Seconds from then to its last sign of life.
        silent_s: Seconds since that.
        process: Its process; None if it did not say.
        stages: Its stages, in their order.
        experts: Experts that it trains, or has trained.
        num_stored: Experts that it found in the store.
        left_s: Estimated seconds to the end of the stage that runs; None if unknown.
        last_event: Its last event, as logged; None if there is none.
        event_age_s: Seconds since that.
        errors: What went wrong, in sentences, the newest last; it may have been mended since.
        num_skipped: Photographs that were left out.
        results: Where its results are, by name; only those that are there.
        trials: Number of trials of a search by their status; empty for a build.
    """

    output: str
    kind: RunKind
    title: str
    state: RunState
    reason: str
    begun_s: float
    num_starts: int
    ran_s: float
    silent_s: float
    process: Process | None
    stages: tuple[StageState, ...]
    experts: tuple[ExpertState, ...]
    num_stored: int
    left_s: float | None
    last_event: Mapping[str, Any] | None
    event_age_s: float
    errors: tuple[str, ...]
    num_skipped: int
    results: Mapping[str, str]
    trials: Mapping[str, int]

    @property
    def samples_per_s(self) -> float:
        """Samples a second of all experts that are trained now."""
        if self.state is not RunState.RUNNING:
            return 0.0
        return sum(e.samples_per_s for e in self.experts if e.state is WorkState.RUNNING)

    def num_experts(self, state: WorkState) -> int:
        """Return how many experts are in a state, those of the store left out."""
        return sum(expert.state is state for expert in self.experts)
