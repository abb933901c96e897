"""One run of the build job, with its progress display, its event log and its report."""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from expertree.config import to_dict
from expertree.events import EventLog, read_events
from expertree.orchestration.runner import runner_of
from expertree.pipeline.build import build, prepare
from expertree.pipeline.evaluate import evaluate, run_record
from expertree.pipeline.grow import check_photographs, inherit, past_of
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench
from expertree.progress import ExpertState, ProgressView, Snapshot, StageState, State
from expertree.report import Run, results_table, write_report
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.schedule import Attempt, TaskStatus
from expertree.scheduling.schedule import State as TaskState
from expertree.storage import Storage

STAGES = (
    "degrade",
    "extractor",
    "embed",
    "tree",
    "shard",
    "experts",
    "classical",
    "score",
    "router",
    "bundle",
    "evaluate",
)
EVENTS = "events.jsonl"
BUNDLE = "bundle"


def run_build(config: BuildConfig) -> int:
    """Build a tree, write its report, and print the results.

    Returns:
        The exit code, 0.

    Raises:
        ExpertreeError: If the build fails; says in one sentence what is wrong and what to do.
    """
    begin = time.time()
    config = inherit(config)
    material = prepare(config)
    past = past_of(config)
    if past is not None:
        check_photographs(past, material)
    output = Storage.open(config.output)
    events = open_events(output)
    events.emit("build_started", config=to_dict(config))
    for name, reason in material.skipped:
        events.emit("photograph_skipped", name=name, reason=reason)
    recorder = Recorder(config.title, events)
    bench = Workbench(
        store=Storage.open(config.store),
        events=events,
        runner=runner_of(config.cluster, events),
        on_stage=recorder.on_stage,
    )
    with recorder.view, bench:
        built = build(config, material, bench, recorder.on_status)
        evaluation = evaluate(config, bench, built)
    history = read_events(events.path)
    record, images = run_record(
        config,
        built,
        evaluation,
        times=bench.times,
        wall_s=time_of_work(history),
        timeline=list(timeline(history)),
    )
    write_report(cast("Run", record), images, output)
    _copy(built.bundle, output.sub(BUNDLE))
    events.emit("build_done", seconds=round(time.time() - begin, 1))
    publish_events(events, output)
    _say(config, record, output, num_skipped=len(material.skipped), seconds=time.time() - begin)
    return 0


class Recorder:
    """Turns the reports of stages and lanes into events and into the progress display."""

    def __init__(self, title: str, events: EventLog) -> None:
        self.view = ProgressView()
        self._title = title
        self._events = events
        self._begin = time.time()
        self._stages = {name: StageState(name=name) for name in STAGES}
        self._stage_begin: dict[str, float] = {}
        self._first: dict[str, tuple[int, float]] = {}
        self._experts: tuple[ExpertState, ...] = ()
        self._left_s: float | None = None
        self._noted: dict[tuple[str, int], str | None] = {}
        self._said: set[tuple[str, str]] = set()

    def on_stage(self, name: str, state: str, num_done: int, num_total: int) -> None:
        """Record that a stage began, made progress, or ended."""
        begin = self._stage_begin.setdefault(name, time.time())
        elapsed_s = time.time() - begin
        if num_done:
            self._first.setdefault(name, (num_done, elapsed_s))
        first_done, first_s = self._first.get(name, (0, 0.0))
        self._stages[name] = StageState(
            name=name,
            state=State(state),
            elapsed_s=elapsed_s,
            num_done=num_done,
            num_total=num_total,
            first_done=first_done,
            first_s=first_s,
        )
        if name != "experts":
            self._left_s = self._stages[name].left_s
        self._show()

    def on_status(self, status: TrainingStatus) -> None:
        """Record the progress of the experts' training."""
        self._experts = tuple(
            ExpertState(
                label=task.label,
                state=State(task.state.value),
                samples=int(task.progress.get("samples", 0)),
                num_samples=int(task.cost),
                loss=task.progress.get("loss"),
                samples_per_s=float(task.progress.get("samples_per_s", 0.0)),
                lane=task.lane,
                attempt=max(task.attempts, 1),
            )
            for task in status.tasks
        )
        lanes = {attempt.lane for attempt in status.history}
        self._left_s = remaining_s(status.tasks, len(lanes))
        labels = {task.key: task.label for task in status.tasks}
        for attempt in status.history:
            self._note(attempt, labels[attempt.key])
        for task in status.tasks:
            for note in task.progress.get("notes", ()):
                self._say_once(task.label, note)
        num_done = sum(expert.state.is_over for expert in self._experts)
        self.on_stage("experts", "running", num_done, len(self._experts))

    def _note(self, attempt: Attempt, label: str) -> None:
        name = (attempt.key, attempt.number)
        fields = dataclasses.asdict(attempt) | {"label": label}
        if name not in self._noted:
            self._events.emit("expert_started", **fields)
            self._noted[name] = None
        if self._noted[name] != attempt.outcome:
            self._events.emit("expert_ended", **fields)
            self._noted[name] = attempt.outcome

    def _say_once(self, label: str, note: str) -> None:
        """Log once what happened to an expert, such as a rollback."""
        if (label, note) not in self._said:
            self._said.add((label, note))
            self._events.emit("expert_note", label=label, note=note)

    def _show(self) -> None:
        now = time.time()
        stages = tuple(
            dataclasses.replace(stage, elapsed_s=now - self._stage_begin[stage.name])
            if stage.state is State.RUNNING
            else stage
            for stage in self._stages.values()
        )
        self.view.update(
            Snapshot(
                title=self._title,
                elapsed_s=now - self._begin,
                stages=stages,
                experts=self._experts,
                left_s=self._left_s,
            )
        )


def remaining_s(status: Iterable[TaskStatus], num_lanes: int) -> float | None:
    """Estimate the seconds until a group of tasks is done.

    The rate is that of the running tasks (`samples_per_s` in their progress); None before the
    first is known.
    """
    tasks = list(status)
    rates = [float(t.progress.get("samples_per_s", 0.0)) for t in tasks if t.progress]
    rates = [rate for rate in rates if rate > 0]
    if not rates:
        return None
    left = 0.0
    for task in tasks:
        if task.state is TaskState.QUEUED:
            left += task.cost
        elif task.state is TaskState.RUNNING:
            left += task.cost - float(task.progress.get("samples", 0.0))
    return left / (sum(rates) / len(rates)) / max(num_lanes, 1)


def time_of_work(events: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds spent in stages that made something, over all starts of the job."""
    done = [event for event in events if event["event"] == "stage_done" and not event["cached"]]
    return float(sum(event["seconds"] for event in done))


def timeline(events: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield all attempts at training experts in an event log, over all starts of the job.

    Args:
        events: Events, as `read_events` returns them.

    Yields:
        `expert` (its label), `lane`, `node`, `start_s` and `end_s` since the first attempt began,
        `attempt`, `outcome`. An attempt that was cut off with its job is `killed`, and ends at the
        last sign of life of that job.
    """
    open_attempts: dict[tuple[str, int], dict[str, Any]] = {}
    spans: list[dict[str, Any]] = []
    last_t = 0.0
    for event in events:
        if event["event"] == "build_started":
            for span in open_attempts.values():
                span.update(end_s=last_t, outcome="killed")
            open_attempts.clear()
        elif event["event"] == "expert_started":
            span = {
                "expert": event["label"],
                "lane": event["lane"],
                "node": event["node"],
                "start_s": event["start"],
                "end_s": event["start"],
                "attempt": event["number"],
                "outcome": "running",
            }
            spans.append(span)
            open_attempts[event["key"], event["number"]] = span
        elif event["event"] == "expert_ended":
            ended = open_attempts.pop((event["key"], event["number"]), None)
            if ended is not None:
                ended.update(end_s=event["end"], outcome=event["outcome"])
        last_t = event["t"]
    first = min((span["start_s"] for span in spans), default=0.0)
    for span in spans:
        moved = {name: round(span[name] - first, 2) for name in ("start_s", "end_s")}
        yield span | moved


def open_events(output: Storage) -> EventLog:
    """Open the event log in a local output folder, else in a temporary one until the end."""
    local = Path(output.uri)
    if "://" in output.uri:
        local = Path(tempfile.mkdtemp(prefix="expertree-"))
        if output.exists(EVENTS):
            (local / EVENTS).write_bytes(output.read_bytes(EVENTS))
    return EventLog(local / EVENTS)


def publish_events(events: EventLog, output: Storage) -> None:
    """Write the event log into an output folder that is not on this machine."""
    if "://" in output.uri:
        output.write_bytes(EVENTS, events.path.read_bytes())


def _copy(bundle: Storage, target: Storage) -> None:
    """Copy the bundle beside the report; its manifest comes last, and marks it as complete."""
    names = [name for name in bundle.done()["files"] if name != "manifest.json"]
    old = set(target.list_files())
    if "manifest.json" in old:
        if target.read_bytes("manifest.json") == bundle.read_bytes("manifest.json"):
            return
        target.delete()
    for name in [*names, "manifest.json"]:
        target.write_bytes(name, bundle.read_bytes(name))


def _say(
    config: BuildConfig,
    record: Mapping[str, Any],
    output: Storage,
    *,
    num_skipped: int,
    seconds: float,
) -> None:
    colour = sys.stdout.isatty()
    lines = [results_table(cast("Run", record), colour=colour)]
    if "grown" in record:
        lines.append(record["grown"]["said"])
    if num_skipped:
        where = "data.sources" if config.data.sources else config.photographs.source
        lines.append(f"{num_skipped} files of {where} were skipped; see report")
    lines += [
        f"bundle  {output.path(BUNDLE)}",
        f"report  {output.path('report.html')}",
        f"built in {seconds:.0f} s",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
