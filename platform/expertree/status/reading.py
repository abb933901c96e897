"""Reads how a run stands from its output folder, wherever that is; needs no Ray and no cluster."""

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from expertree.errors import ArtefactError
from expertree.events import parse_events
from expertree.process import Process
from expertree.progress import ExpertState, Snapshot, WorkState
from expertree.status.files import EVENTS, PROGRESS, RunKind, snapshot_of
from expertree.status.history import STARTS, errors_of, experts_of, merged, since_start, stages_of
from expertree.status.run import RunState, RunStatus
from expertree.storage import Storage

SILENT_S = 60.0
"""Seconds without a sign of life after which a run on another machine counts as silent."""

SEARCH = "search.json"

_RESULTS: Mapping[RunKind, Mapping[str, str]] = {
    "build": {"report": "report.html", "numbers": "report.json", "bundle": "bundle/manifest.json"},
    "search": {"report": "search.html", "numbers": SEARCH, "best": "best.yaml"},
    "compare": {"report": "compare.html", "numbers": "compare.json"},
}
_ENDS = {end: frozenset(f"{kind}_{end}" for kind in _RESULTS) for end in ("done", "failed")}


def read_status(output: Storage) -> RunStatus:
    """Return how the run in an output folder stands.

    Args:
        output: Output folder of a build or a search.

    Raises:
        ArtefactError: If there is no run.
        StorageError: If the folder cannot be read.
    """
    events = parse_events(_read(output, EVENTS))
    record = _json(output, PROGRESS)
    search = _json(output, SEARCH)
    if not events and record is None and search is None:
        raise ArtefactError(
            f"{output.where()} holds no run: there is neither {EVENTS} nor {PROGRESS}; give the "
            "output of `expertree build` or `expertree search`"
        )
    own = since_start(events)
    begun_s = own[0]["t"] if own else float((record or {}).get("begun_s", 0.0))
    if record is not None and record["begun_s"] < begun_s - 1.0:
        record = None  # of the start before, which has said nothing yet
    kind = _kind(own, record, search)
    snapshot = None if record is None else snapshot_of(record)
    process = Process.of(record["process"]) if record is not None else None
    now_s = time.time()
    alive_s = _last_sign_s(output, default=own[-1]["t"] if own else begun_s)
    state, reason = _state(own, search, process, is_quiet=now_s - alive_s > SILENT_S)
    experts = _experts(own, snapshot, search)
    return RunStatus(
        output=output.where(),
        kind=kind,
        title=_title(own, snapshot, search),
        state=state,
        reason=reason,
        begun_s=begun_s,
        num_starts=sum(event["event"] in STARTS for event in events),
        ran_s=max(alive_s - begun_s, 0.0),
        silent_s=max(now_s - alive_s, 0.0),
        process=process,
        stages=merged(stages_of(own, until_s=alive_s), snapshot.stages if snapshot else ()),
        experts=experts,
        num_stored=_num_stored(own, experts),
        left_s=snapshot.left_s if snapshot and state is RunState.RUNNING else None,
        last_event=own[-1] if own else None,
        event_age_s=max(now_s - own[-1]["t"], 0.0) if own else 0.0,
        errors=errors_of(own),
        num_skipped=sum(event["event"] == "photograph_skipped" for event in own),
        results=_results(output, kind),
        trials=dict(Counter(trial["status"] for trial in search["trials"])) if search else {},
    )


def _read(output: Storage, name: str) -> bytes:
    """Return a file's bytes; none where there is no such file."""
    with contextlib.suppress(ArtefactError):
        return output.read_bytes(name)
    return b""


def _json(output: Storage, name: str) -> dict[str, Any] | None:
    """Return a JSON file's content; None where there is none, or it is being replaced."""
    with contextlib.suppress(ArtefactError):
        return cast("dict[str, Any]", output.read_json(name))
    return None


def _kind(
    events: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any] | None,
    search: Mapping[str, Any] | None,
) -> RunKind:
    if record is not None:
        return cast("RunKind", record["kind"])
    if search is not None:
        return "search"
    started = str(events[0]["event"]) if events else ""
    return next((kind for kind in _RESULTS if started == f"{kind}_started"), "build")


def _title(
    events: Sequence[Mapping[str, Any]],
    snapshot: Snapshot | None,
    search: Mapping[str, Any] | None,
) -> str:
    if snapshot is not None:
        return snapshot.title
    if search is not None:
        return str(search["title"])
    return str(events[0].get("config", {}).get("title", "a run")) if events else "a run"


def _last_sign_s(output: Storage, *, default: float) -> float:
    """Return when the run last wrote something, as its storage says, in seconds since 1970."""
    found = [output.changed_s(name) for name in (PROGRESS, EVENTS, SEARCH)]
    return max((changed_s for changed_s in found if changed_s is not None), default=default)


def _state(
    events: Sequence[Mapping[str, Any]],
    search: Mapping[str, Any] | None,
    process: Process | None,
    *,
    is_quiet: bool,
) -> tuple[RunState, str]:
    """Return the state of a run, and why it failed."""
    for event in reversed(events):
        if event["event"] in _ENDS["done"]:
            return RunState.DONE, ""
        if event["event"] in _ENDS["failed"]:
            return RunState.FAILED, str(event["error"])
    if not events and search is not None and search["status"] != "running":
        return RunState.DONE, ""
    if process is not None and process.is_gone:
        return RunState.KILLED, ""
    return (RunState.SILENT, "") if is_quiet else (RunState.RUNNING, "")


def _experts(
    events: Sequence[Mapping[str, Any]],
    snapshot: Snapshot | None,
    search: Mapping[str, Any] | None,
) -> tuple[ExpertState, ...]:
    if search is not None:
        return tuple(_of_search(one) for one in search["experts"] if not one["in_store"])
    if snapshot is not None and snapshot.experts:
        return snapshot.experts
    return experts_of(events)


def _of_search(expert: Mapping[str, Any]) -> ExpertState:
    """Return an expert of a search's record, which does not say who trains it now."""
    is_over = expert["samples"] >= expert["num_samples"]
    return ExpertState(
        label=expert["label"],
        state=WorkState.DONE if is_over else WorkState.QUEUED,
        samples=expert["samples"],
        num_samples=expert["num_samples"],
    )


def _num_stored(events: Sequence[Mapping[str, Any]], experts: Sequence[ExpertState]) -> int:
    """Return how many of the planned experts needed no training."""
    begun = any(e["event"] == "stage_started" and e["stage"] == "experts" for e in events)
    planned = {event["key"] for event in events if event["event"] == "expert_planned"}
    return max(len(planned) - len(experts), 0) if begun else 0


def _results(output: Storage, kind: RunKind) -> dict[str, str]:
    found = {}
    for name, file in _RESULTS[kind].items():
        if output.exists(file):
            folder, slash, _ = file.rpartition("/")
            found[name] = output.where(folder if slash else file)
    return found
