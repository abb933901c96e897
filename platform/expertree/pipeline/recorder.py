"""Records a run as it goes on: its events, its display, and the file that others read it from."""

import contextlib
import dataclasses
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from expertree.errors import TakenOverError
from expertree.events import EventLog
from expertree.faults import BRIEF, patience
from expertree.process import Process
from expertree.progress import ExpertState, Pace, ProgressView, Snapshot, StageState, WorkState
from expertree.repeating import repeating
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.estimate import seconds_left
from expertree.scheduling.states import Attempt, TaskStatus
from expertree.status import EVENTS, EVERY_S, RunKind, write_progress
from expertree.storage import Storage
from expertree.uris import public

TRIALS = "trials"
"""The stage of a search in which its trials run."""

STAGES: Mapping[RunKind, tuple[str, ...]] = {
    "build": (
        *("degrade", "extractor", "embed", "tree", "shard", "experts"),
        *("classical", "score", "router", "window", "bundle", "evaluate"),
    ),
    "compare": (
        *("degrade", "extractor", "embed", "tree", "shard", "speed", "rates", "experts"),
        *("score", "router", "choices", "latency", "bundle"),
    ),
    "search": ("degrade", "extractor", "embed", "score", "tree", "shard", TRIALS),
}
"""The stages of a run, in their order."""


class Recorder:
    """Turns the reports of stages and lanes into events and into the progress display.

    Attributes:
        view: The display.
        events: The run's event log.
    """

    def __init__(
        self,
        title: str,
        events: EventLog,
        stages: Sequence[str] = (),
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.view = ProgressView()
        self.events = events
        self._title, self._check = title, check
        self._begin = time.time()
        self._stages = {name: StageState(name=name) for name in stages}
        self._stage_begin: dict[str, float] = {}
        self._paces: dict[str, Pace] = {}
        self._experts: tuple[ExpertState, ...] = ()
        self._left_s: float | None = None
        self._noted: dict[tuple[str, int], str | None] = {}
        self._said: set[tuple[str, str]] = set()

    def on_stage(self, name: str, state: str, num_done: int, num_total: int) -> None:
        """Record that a stage began, made progress, or ended."""
        if state == "running":
            self._check()
            if name in self._stages and self._stages[name].state.is_over:  # it begins once more
                self._stage_begin.pop(name, None)
                self._paces.pop(name, None)
        begin = self._stage_begin.setdefault(name, time.time())
        elapsed_s = time.time() - begin
        pace = self._paces.setdefault(name, Pace())
        pace.add(num_done, elapsed_s)
        self._stages[name] = StageState(
            name=name,
            state=WorkState(state),
            elapsed_s=elapsed_s,
            num_done=num_done,
            num_total=num_total,
            first_done=pace.first[0],
            first_s=pace.first[1],
            since_done=pace.since[0],
            since_s=pace.since[1],
        )
        if name != "experts":
            self._left_s = self._stages[name].left_s
        self.view.update(self.snapshot())

    def on_status(self, status: TrainingStatus) -> None:
        """Record the progress of the experts' training."""
        self._experts = tuple(_expert(task) for task in status.tasks)
        self._left_s = seconds_left(status)
        labels = {task.key: task.label for task in status.tasks}
        for attempt in status.history:
            self._note(attempt, labels[attempt.key])
        for task in status.tasks:
            for note in task.progress.get("notes", ()):
                self._say_once(task.label, note)
        num_done = sum(expert.state.is_over for expert in self._experts)
        self.on_stage("experts", "running", num_done, len(self._experts))

    def snapshot(self) -> Snapshot:
        """Return the run as it is now; may be called on any thread."""
        now = time.time()
        stages = tuple(
            dataclasses.replace(stage, elapsed_s=now - self._stage_begin[stage.name])
            if stage.state is WorkState.RUNNING
            else stage
            for stage in self._stages.copy().values()
        )
        return Snapshot(
            title=self._title,
            elapsed_s=now - self._begin,
            stages=stages,
            experts=self._experts,
            left_s=self._left_s,
        )

    def _note(self, attempt: Attempt, label: str) -> None:
        name = (attempt.key, attempt.number)
        fields = dataclasses.asdict(attempt) | {"label": label}
        if name not in self._noted:
            self.events.emit("expert_started", **fields)
            self._noted[name] = None
        if self._noted[name] != attempt.outcome:
            self.events.emit("expert_ended", **fields)
            self._noted[name] = attempt.outcome

    def _say_once(self, label: str, note: str) -> None:
        """Log once what happened to an expert, such as a rollback."""
        if (label, note) not in self._said:
            self._said.add((label, note))
            self.events.emit("expert_note", label=label, note=note)


@contextlib.contextmanager
def recorded(
    output: Storage,
    kind: RunKind,
    title: str,
    *,
    check: Callable[[], None] = lambda: None,
    **about: Any,
) -> Iterator[Recorder]:
    """Record a run for the block: how it began, how far it is every few seconds, how it ended.

    Once another start has taken over, nothing more is recorded: the files are then that start's.

    Args:
        output: The run's output folder; its event log and its progress are written there.
        kind: What the run makes.
        title: Its heading.
        check: Called often; whatever it raises ends the run. A `TakenOverError` says that another
            start writes in the folder now.
        **about: What else is logged of its start.

    Yields:
        The recorder; its view is open.
    """
    begun_s = time.time()
    with _event_log(output, check) as events:
        process = dataclasses.asdict(Process.here())
        events.emit(f"{kind}_started", **about, process=process)
        recorder = Recorder(title, events, STAGES[kind], check)
        published = _Published(output, kind, recorder, events, begun_s=begun_s)
        published.write(ended=False)
        try:
            with repeating(lambda: published.write(ended=False), EVERY_S), recorder.view:
                yield recorder
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            events.emit(f"{kind}_failed", error=str(error) or reason)
            with contextlib.suppress(Exception):  # the error that ended the run is the one to raise
                published.write(ended=True)
            raise
        events.emit(f"{kind}_done", seconds=round(time.time() - begun_s, 1))
        published.write(ended=True)


class _OwnLog(EventLog):
    """A run's event log: without keys, and closed once another start has taken over."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        super().__init__(path)
        self._check = check

    @property
    def is_closed(self) -> bool:
        """Whether another start has taken over."""
        try:
            self._check()
        except TakenOverError:
            return True
        return False

    def emit(self, kind: str, **fields: Any) -> None:
        """Append an event without the keys in its URIs, or drop it if the log is closed."""
        if not self.is_closed:
            super().emit(kind, **public(fields))


class _Published:
    """The files of a run in its output folder."""

    def __init__(
        self,
        output: Storage,
        kind: RunKind,
        recorder: Recorder,
        events: _OwnLog,
        *,
        begun_s: float,
    ) -> None:
        self._output, self._kind, self._recorder = output, kind, recorder
        self._events, self._begun_s = events, begun_s
        self._one_at_a_time = threading.Lock()
        self._num_sent = 0

    def write(self, *, ended: bool) -> None:
        """Write how far the run is and, where the log is not in the folder itself, a copy of it.

        Nothing is written once another start has taken over.
        """
        if self._events.is_closed:
            return
        with self._one_at_a_time, patience(BRIEF):
            write_progress(
                self._output,
                self._recorder.snapshot(),
                kind=self._kind,
                begun_s=self._begun_s,
                ended=ended,
            )
            if self._output.is_remote:
                data = self._events.path.read_bytes()
                if len(data) != self._num_sent:
                    self._output.write_bytes(EVENTS, data)
                    self._num_sent = len(data)


@contextlib.contextmanager
def _event_log(output: Storage, check: Callable[[], None]) -> Iterator[_OwnLog]:
    """Open the event log in a local output folder, else in a temporary one."""
    if not output.is_remote:
        yield _OwnLog(Path(output.path(EVENTS)), check)
        return
    with tempfile.TemporaryDirectory(prefix="expertree-") as folder:
        file = Path(folder) / EVENTS
        if output.exists(EVENTS):
            file.write_bytes(output.read_bytes(EVENTS))
        yield _OwnLog(file, check)


def _expert(task: TaskStatus) -> ExpertState:
    loss = task.progress.get("loss")
    return ExpertState(
        label=task.label,
        state=WorkState(task.state.value),
        samples=int(task.progress.get("samples", 0)),
        num_samples=int(task.cost),
        loss=loss if loss is not None and math.isfinite(loss) else None,
        samples_per_s=float(task.progress.get("samples_per_s", 0.0)),
        lane=task.lane,
        attempt=max(task.attempts, 1),
    )
