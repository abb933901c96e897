"""A run's progress for people: a live view in a terminal, a few plain lines elsewhere.

`ProgressView` is given snapshots and decides what to draw; it does not know where they come from.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

BAR_WIDTH = 22
SANE_S = 3.0
"""Seconds between a stage's first report and its first estimate of the time left."""

SETTLED_S = 30.0
SETTLED_SHARE = 0.03
"""An estimate waits for so many seconds since the first report, or for that share of the units: the
first steps of a training take ten times as long as the others."""

LINES_AROUND_EXPERTS = 7
"""Lines of the live view that are neither a stage nor an expert."""


class WorkState(StrEnum):
    """The state of a stage or an expert; `cached` means that an earlier run did it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CACHED = "cached"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether the stage or expert has ended, well or not."""
        return self in {WorkState.DONE, WorkState.CACHED, WorkState.FAILED}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StageState:
    """A stage of the job at one moment.

    Attributes:
        elapsed_s: Seconds since it began.
        num_done: Units of work that are done, of `num_total`; both are 0 if it counts no units.
        first_done: Units that were done when the first of them was reported, at `first_s`: those of
            an earlier run, and what the start took, say nothing about the speed.
        first_s: Seconds from its begin to that report.
        since_done: Units that were done half-way between that report and this moment, at `since_s`:
            the speed is that of the second half.
        since_s: Seconds from its begin to that moment.
        detail: A few words on what it is doing or why it failed.
    """

    name: str
    state: WorkState = WorkState.QUEUED
    elapsed_s: float = 0.0
    num_done: int = 0
    num_total: int = 0
    first_done: int = 0
    first_s: float = 0.0
    since_done: int = 0
    since_s: float = 0.0
    detail: str = ""

    @property
    def left_s(self) -> float | None:
        """Estimated seconds to its end at the speed of late; None if unknown.

        The speed of the first seconds says little: it counts once `SANE_S` have gone by, and
        `SETTLED_S` or `SETTLED_SHARE` of the units.
        """
        if (
            self.state is not WorkState.RUNNING
            or not self.since_done < self.num_done <= self.num_total
        ):
            return None
        seen_s = self.elapsed_s - self.first_s
        share = (self.num_done - self.first_done) / (self.num_total - self.first_done)
        if seen_s < SANE_S or (seen_s < SETTLED_S and share < SETTLED_SHARE):
            return None
        late_s = self.elapsed_s - self.since_s
        return late_s / (self.num_done - self.since_done) * (self.num_total - self.num_done)


class Pace:
    """The reports of a stage, as far as its speed of late needs them."""

    def __init__(self) -> None:
        self.first: tuple[int, float] = (0, 0.0)
        self._points: deque[tuple[int, float]] = deque()

    def add(self, num_done: int, elapsed_s: float) -> None:
        """Note units done after so many seconds, if there are any."""
        if not num_done:
            return
        if not self._points:
            self.first = (num_done, elapsed_s)
        self._points.append((num_done, elapsed_s))
        middle_s = (self.first[1] + elapsed_s) / 2
        while len(self._points) > 1 and self._points[1][1] <= middle_s:
            self._points.popleft()

    @property
    def since(self) -> tuple[int, float]:
        """Units done at the last report of the first half, and the seconds that it came after."""
        return self._points[0] if self._points else (0, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertState:
    """An expert's training at one moment.

    Attributes:
        label: Name that users see.
        samples: Training samples seen, of `num_samples`.
        loss: Training loss, if there is one yet.
        samples_per_s: Speed, 0 if unknown.
        lane: The worker that trains it.
        attempt: Number of the attempt, 1 at first; one more after each lost worker.
    """

    label: str
    state: WorkState = WorkState.QUEUED
    samples: int = 0
    num_samples: int = 0
    loss: float | None = None
    samples_per_s: float = 0.0
    lane: str = ""
    attempt: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The whole run at one moment.

    Attributes:
        elapsed_s: Seconds since the run began.
        left_s: Estimated seconds to the end of the stage that runs, the one estimate that is shown;
            None if unknown.
    """

    title: str
    elapsed_s: float
    stages: tuple[StageState, ...] = ()
    experts: tuple[ExpertState, ...] = ()
    left_s: float | None = None


class ProgressView:
    """A view of a run that shows each snapshot as it comes.

    In a terminal it redraws. Elsewhere it writes a line when a state changes and, while nothing
    does, one line every `interval_s` seconds.

    Args:
        console: Console to write to; standard output by default.
        interval_s: Seconds between two plain lines while nothing changes.
        clock: Returns seconds that never run backwards.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        interval_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console()
        self._interval_s = interval_s
        self._clock = clock
        self._last: Snapshot | None = None
        self._written_at = clock()
        self._spinner = Spinner("dots", style="cyan")
        self._live: Live | None = None
        if self._console.is_terminal and self._console.encoding.startswith("utf"):
            self._live = Live(console=self._console, refresh_per_second=8)

    def __enter__(self) -> Self:
        """Return this view; nothing is drawn before the first snapshot."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the view."""
        self.close()

    def update(self, snapshot: Snapshot) -> None:
        """Show the run as it is now."""
        if self._live is None:
            self._write_lines(snapshot)
        else:
            self._live.update(self._picture(snapshot))
            self._live.start()
        self._last = snapshot

    def close(self) -> None:
        """Stop redrawing and leave the last picture on the terminal; may be called again."""
        if self._live is not None:
            self._live.stop()

    def _write_lines(self, snapshot: Snapshot) -> None:
        now = self._clock()
        lines = changes(self._last, snapshot)
        if not lines and now - self._written_at >= self._interval_s:
            lines = [summary(snapshot)]
        for line in lines:
            text = f"[{clock_text(snapshot.elapsed_s):>7}] {line}"
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        if lines:
            self._written_at = now

    def _picture(self, snapshot: Snapshot) -> RenderableType:
        title = Text.assemble((snapshot.title, "bold"), f"  {clock_text(snapshot.elapsed_s)}")
        if snapshot.left_s is not None:
            title.append(f", {left_text(snapshot.stages, snapshot.left_s)}", "dim")
        parts: list[RenderableType] = [title, self._stages(snapshot)]
        if snapshot.experts:
            room = self._console.height - len(snapshot.stages) - LINES_AROUND_EXPERTS
            parts += [
                "",
                Text(tally(snapshot.experts), "dim"),
                self._experts(snapshot.experts, room),
            ]
        return Group(*parts)

    def _stages(self, snapshot: Snapshot) -> Table:
        table = Table.grid(padding=(0, 2))
        for stage in snapshot.stages:
            is_counting = stage.state is WorkState.RUNNING and stage.num_total > 0
            table.add_row(
                self._symbol(stage.state),
                Text(stage.name, "" if stage.state is not WorkState.QUEUED else "dim"),
                Text(_stage_time(stage), "dim"),
                _bar(stage.num_done, stage.num_total) if is_counting else Text(stage.detail, "dim"),
            )
        return table

    def _experts(self, experts: Sequence[ExpertState], room: int) -> Table:
        shown = [e for e in experts if len(experts) <= room or e.state is WorkState.RUNNING]
        if all(expert.state in {WorkState.DONE, WorkState.CACHED} for expert in experts):
            shown = []
        table = Table.grid(padding=(0, 2))
        for expert in shown[: max(room, 1)]:
            again = f", attempt {expert.attempt}" if expert.attempt > 1 else ""
            table.add_row(
                self._symbol(expert.state),
                Text(expert.label, "" if expert.state is not WorkState.QUEUED else "dim"),
                _bar(_samples(expert), expert.num_samples),
                Text(f"{_samples(expert):,} of {expert.num_samples:,}", "dim", justify="right"),
                Text("" if expert.loss is None else f"loss {expert.loss:.4f}"),
                Text(f"lane {expert.lane}{again}" if expert.lane else "", "dim"),
            )
        return table

    def _symbol(self, state: WorkState) -> RenderableType:
        if state is WorkState.RUNNING:
            return self._spinner
        symbols = {
            WorkState.DONE: ("✓", "green"),
            WorkState.CACHED: ("✓", "dim green"),
            WorkState.FAILED: ("✗", "bold red"),
        }
        return Text(*symbols.get(state, ("·", "dim")))


def changes(before: Snapshot | None, now: Snapshot) -> list[str]:
    """Return what happened between two snapshots, one line for each change.

    Experts that were trained before the first snapshot that names them are counted, not listed.
    """
    old_stages = {stage.name: stage.state for stage in before.stages} if before else {}
    lines = [
        _stage_line(stage)
        for stage in now.stages
        if stage.state is not old_stages.get(stage.name, WorkState.QUEUED)
    ]
    old_experts = {expert.label: expert for expert in before.experts} if before else {}
    if now.experts and not old_experts:
        return [*lines, tally(now.experts)]
    for expert in now.experts:
        lines += _expert_lines(old_experts.get(expert.label), expert)
    return lines


def summary(snapshot: Snapshot) -> str:
    """Return one line that says what is running."""
    stages = [stage for stage in snapshot.stages if stage.state is WorkState.RUNNING]
    running = [expert for expert in snapshot.experts if expert.state is WorkState.RUNNING]
    parts = [f"{stage.name}: {_stage_progress(stage)}" for stage in stages]
    if running:
        parts.append(tally(snapshot.experts))
        parts.append(", ".join(f"{e.label} {_share(_samples(e), e.num_samples)}" for e in running))
    if snapshot.left_s is not None:
        parts.append(left_text(snapshot.stages, snapshot.left_s))
    return "; ".join(parts) or "waiting"


def left_text(stages: Sequence[StageState], left_s: float) -> str:
    """Return the time left, and of what: `about 3:20 left of experts`."""
    running = [stage.name for stage in stages if stage.state is WorkState.RUNNING]
    return f"about {clock_text(left_s)} left" + (f" of {running[-1]}" if running else "")


def tally(experts: Sequence[ExpertState]) -> str:
    """Return how many experts are in each state: `experts: 3 done, 2 running, 8 queued`."""
    done = sum(expert.state in {WorkState.DONE, WorkState.CACHED} for expert in experts)
    counts = [(done, "done")] + [
        (sum(expert.state is state for expert in experts), state.value)
        for state in (WorkState.RUNNING, WorkState.QUEUED, WorkState.FAILED)
    ]
    return "experts: " + ", ".join(f"{number} {what}" for number, what in counts if number)


def clock_text(seconds: float) -> str:
    """Return a time as a clock shows it: 0:07, 12:40, 3:05:00."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _stage_line(stage: StageState) -> str:
    detail = f": {stage.detail}" if stage.detail else ""
    match stage.state:
        case WorkState.RUNNING:
            return f"{stage.name}: begun{detail}"
        case WorkState.DONE:
            return f"{stage.name}: done in {clock_text(stage.elapsed_s)}{detail}"
        case WorkState.CACHED:
            return f"{stage.name}: found in the store{detail}"
        case _:
            return f"{stage.name}: {stage.state}{detail}"


def _expert_lines(before: ExpertState | None, now: ExpertState) -> list[str]:
    old_state = before.state if before else WorkState.QUEUED
    if now.state.is_over and now.state is not old_state:
        loss = "" if now.loss is None else f", loss {now.loss:.4f}"
        return [f"expert {now.label}: {now.state}{loss}"]
    if before and now.attempt > before.attempt:
        return [f"expert {now.label}: attempt {now.attempt} on lane {now.lane}"]
    return []


def _stage_progress(stage: StageState) -> str:
    return _share(stage.num_done, stage.num_total) if stage.num_total else "running"


def _stage_time(stage: StageState) -> str:
    if stage.state is WorkState.CACHED:
        return "from the store"
    return "" if stage.state is WorkState.QUEUED else clock_text(stage.elapsed_s)


def _samples(expert: ExpertState) -> int:
    is_done = expert.state in {WorkState.DONE, WorkState.CACHED}
    return expert.num_samples if is_done else min(expert.samples, expert.num_samples)


def _share(done: float, total: float) -> str:
    return f"{100 * done / total:.0f} %" if total else ""


def _bar(done: float, total: float) -> ProgressBar:
    return ProgressBar(
        total=max(total, 1),
        completed=done,
        width=BAR_WIDTH,
        complete_style="cyan",
        finished_style="green",
    )
