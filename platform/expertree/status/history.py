"""What an event log says of a run's last start: its stages, its experts, its errors."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from expertree.progress import ExpertState, StageState, WorkState

Events: TypeAlias = Sequence[Mapping[str, Any]]

STARTS = frozenset({"build_started", "search_started", "compare_started"})

_MOST_ERRORS = 5


def since_start(events: Events) -> Events:
    """Return the events since a run was started the last time."""
    for index in range(len(events) - 1, -1, -1):
        if events[index]["event"] in STARTS:
            return events[index:]
    return events


def stages_of(events: Events, *, until_s: float) -> dict[str, StageState]:
    """Return the stages that were begun, by name, in that order.

    Args:
        events: Events of one start.
        until_s: The run's last sign of life, in seconds since 1970.
    """
    found: dict[str, StageState] = {}
    begun: dict[str, float] = {}
    for event in events:
        name = event.get("stage", "")
        match event["event"]:
            case "stage_started":
                begun[name] = event["t"]
                elapsed_s = max(until_s - event["t"], 0.0)
                found[name] = StageState(name=name, state=WorkState.RUNNING, elapsed_s=elapsed_s)
            case "stage_done":
                state = WorkState.CACHED if event["cached"] else WorkState.DONE
                found[name] = StageState(name=name, state=state, elapsed_s=event["seconds"])
            case "stage_failed":
                elapsed_s = event["t"] - begun.get(name, event["t"])
                found[name] = StageState(
                    name=name, state=WorkState.FAILED, elapsed_s=elapsed_s, detail=event["error"]
                )
    return found


def merged(found: Mapping[str, StageState], said: Sequence[StageState]) -> tuple[StageState, ...]:
    """Return stages by events, with the numbers of those that run, and those that are to come.

    Args:
        found: Stages by their events, which are written at once.
        said: Stages as the run last said that they were, some seconds ago.
    """
    stages = []
    for stage in said:
        own = found.get(stage.name)
        if own is None:
            own = dataclasses.replace(stage, state=WorkState.QUEUED)
        elif own.state is WorkState.RUNNING and stage.state is WorkState.RUNNING:
            own = stage
        stages.append(own)
    names = {stage.name for stage in said}
    return (*stages, *(stage for name, stage in found.items() if name not in names))


def experts_of(events: Events) -> tuple[ExpertState, ...]:
    """Return the experts that training was begun of, by the events alone."""
    found: dict[str, ExpertState] = {}
    for event in events:
        if event["event"] == "expert_started":
            found[event["key"]] = ExpertState(
                label=event["label"],
                state=WorkState.RUNNING,
                lane=event["lane"],
                attempt=event["number"],
            )
        elif event["event"] == "expert_ended":
            states = {"done": WorkState.DONE, "failed": WorkState.FAILED}
            state = states.get(event["outcome"], WorkState.QUEUED)
            found[event["key"]] = ExpertState(
                label=event["label"], state=state, attempt=event["number"]
            )
    return tuple(found.values())


def errors_of(events: Events) -> tuple[str, ...]:
    """Return what went wrong, each error once, the newest last."""
    found: dict[str, None] = {}
    for event in events:
        error = event.get("error")
        if not error:
            continue
        if event["event"] == "expert_ended":
            found[f"{event['label']}, attempt {event['number']}: {error}"] = None
        elif event["event"] == "stage_failed":
            found[f"{event['stage']}: {error}"] = None
    return tuple(found)[-_MOST_ERRORS:]
