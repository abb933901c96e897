"""Says how a run stands: some lines for people, or one JSON object for programs."""

import dataclasses
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

from expertree.progress import ExpertState, StageState, WorkState, clock_text, left_text
from expertree.status.run import RunState, RunStatus

VERSION = 1
"""The version of the JSON object."""

_MOST_EXPERTS = 16


def status_text(status: RunStatus) -> str:
    """Return how a run stands as lines for a terminal."""
    return "\n".join(_lines(status))


def status_json(status: RunStatus) -> dict[str, Any]:
    """Return how a run stands as plain data.

    The keys are those of `RunStatus`, with `samples_per_s`, and counts of the experts by state.
    """
    record = dataclasses.asdict(status)
    counts = {state.value: status.num_experts(state) for state in WorkState}
    return {
        "version": VERSION,
        **record,
        "samples_per_s": round(status.samples_per_s, 3),
        "num_experts": {**counts, "stored": status.num_stored},
    }


def _lines(status: RunStatus) -> Iterator[str]:
    yield f"{status.title}: {_headline(status)}"
    begun = dt.datetime.fromtimestamp(status.begun_s, dt.UTC).astimezone()
    who = f", by {status.process}" if status.process else ""
    again = f", start {status.num_starts}" if status.num_starts > 1 else ""
    yield f"output   {status.output}"
    yield f"begun    {begun:%Y-%m-%d %H:%M:%S}{who}{again}"
    yield from _stage_lines(status)
    yield from _expert_lines(status)
    if status.trials:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(status.trials.items()))
        yield f"trials   {counts}"
    if status.last_event is not None:
        yield (
            f"last     {_event_words(status)}, {_age(status.event_age_s)} ago; last sign of life "
            f"{_age(status.silent_s)} ago"
        )
    if status.num_skipped:
        yield f"skipped  {status.num_skipped} photographs"
    yield from _listed("errors", status.errors)
    yield from _listed("results", [f"{name}: {at}" for name, at in status.results.items()])


def _headline(status: RunStatus) -> str:
    ran = clock_text(status.ran_s)
    match status.state:
        case RunState.RUNNING:
            if status.left_s is None:
                return f"running for {ran}"
            return f"running for {ran}, {left_text(status.stages, status.left_s)}"
        case RunState.DONE:
            return f"done in {ran}"
        case RunState.FAILED:
            return f"failed after {ran}: {status.reason}"
        case RunState.KILLED:
            return f"killed after {ran}; the same command goes on where it was"
        case RunState.SILENT:
            return (
                f"no sign of life for {_age(status.silent_s)}, after {ran}; it was killed, or its "
                "machine or its storage is away"
            )


def _stage_lines(status: RunStatus) -> Iterator[str]:
    if not status.stages:
        return
    word = "stages   "
    for stage in status.stages:
        if stage.state is not WorkState.QUEUED:
            yield f"{word}{stage.name:10}{_stage_words(stage, status.state)}".rstrip()
            word = " " * len(word)
    queued = [stage.name for stage in status.stages if stage.state is WorkState.QUEUED]
    if queued:
        yield f"{word}to come: {', '.join(queued)}"


def _stage_words(stage: StageState, run: RunState) -> str:
    time = clock_text(stage.elapsed_s)
    match stage.state:
        case WorkState.RUNNING if run is not RunState.RUNNING:
            return f"cut off after {time}"
        case WorkState.RUNNING:
            units = f", {stage.num_done:,} of {stage.num_total:,}" if stage.num_total else ""
            return f"running for {time}{units}"
        case WorkState.CACHED:
            return "found in the store"
        case WorkState.FAILED:
            return f"failed after {time}"
        case _:
            return f"done in {time}"


def _expert_lines(status: RunStatus) -> Iterator[str]:
    counts = [(status.num_experts(state), state.value) for state in WorkState]
    words = [f"{count} {name}" for count, name in counts if count]
    if status.num_stored:
        words.append(f"{status.num_stored} found in the store")
    if not words:
        return
    speed = f", {status.samples_per_s:,.1f} samples a second" if status.samples_per_s else ""
    yield f"experts  {', '.join(words)}{speed}"
    running = [expert for expert in status.experts if expert.state is WorkState.RUNNING]
    for expert in running[:_MOST_EXPERTS]:
        yield f"         {_expert_words(expert, status.state)}"
    if len(running) > _MOST_EXPERTS:
        yield f"         and {len(running) - _MOST_EXPERTS} more"


def _expert_words(expert: ExpertState, run: RunState) -> str:
    words = [expert.label]
    if expert.lane:
        words.append(f"on {expert.lane}")
    if expert.attempt > 1:
        words.append(f"attempt {expert.attempt}")
    if expert.num_samples:
        words.append(f"{expert.samples:,} of {expert.num_samples:,} samples")
    if expert.loss is not None:
        words.append(f"loss {expert.loss:.4f}")
    if expert.samples_per_s and run is RunState.RUNNING:
        words.append(f"{expert.samples_per_s:,.1f} a second")
    return ", ".join(words)


def _event_words(status: RunStatus) -> str:
    event = status.last_event or {}
    about = event.get("label") or event.get("stage") or event.get("name")
    return str(event.get("event", "")) + (f" ({about})" if about else "")


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else clock_text(seconds)


def _listed(word: str, lines: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        yield f"{word if number == 0 else '':9}{line}"
