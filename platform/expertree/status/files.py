"""The file in which a run says every few seconds how far it is; it is its sign of life too."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from expertree.process import Process
from expertree.progress import ExpertState, Snapshot, StageState, WorkState
from expertree.storage import Storage

EVENTS = "events.jsonl"
PROGRESS = "progress.json"

EVERY_S = 5.0
"""Seconds between two signs of life."""

VERSION = 1
"""The version of the format."""

RunKind: TypeAlias = Literal["build", "search", "compare"]


def write_progress(
    output: Storage, snapshot: Snapshot, *, kind: RunKind, begun_s: float, ended: bool
) -> None:
    """Write how far a run is.

    Args:
        output: The run's output folder.
        snapshot: The run as it is now.
        kind: What the run makes.
        begun_s: When it was started, in seconds since 1970.
        ended: Whether this is its last word.

    Raises:
        StorageError: If it cannot be written.
    """
    record = {
        "version": VERSION,
        "kind": kind,
        "begun_s": round(begun_s, 3),
        "every_s": EVERY_S,
        "ended": ended,
        "process": dataclasses.asdict(Process.here()),
        **dataclasses.asdict(snapshot),
    }
    output.write_json(PROGRESS, record)


def snapshot_of(record: Mapping[str, Any]) -> Snapshot:
    """Return the snapshot that a record of `write_progress` holds."""
    return Snapshot(
        title=record["title"],
        elapsed_s=record["elapsed_s"],
        left_s=record["left_s"],
        stages=tuple(_stage(one) for one in record["stages"]),
        experts=tuple(_expert(one) for one in record["experts"]),
    )


def _stage(record: Mapping[str, Any]) -> StageState:
    return StageState(**{**record, "state": WorkState(record["state"])})


def _expert(record: Mapping[str, Any]) -> ExpertState:
    return ExpertState(**{**record, "state": WorkState(record["state"])})
