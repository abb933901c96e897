"""The event log of a run: an append-only file with one JSON object on a line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESERVED_FIELDS = frozenset({"t", "event"})


class EventLog:
    """A log that appends events to a file.

    Each event is one ``write`` to a file opened for appending, so several processes of one machine
    may hold a log on the same path. The object carries only its path and can be pickled.
    """

    def __init__(self, path: Path | str, *, clock: Callable[[], float] = time.time) -> None:
        """Open a log; the file and its folder are made when they are missing.

        Args:
            path: The file; an existing one is appended to.
            clock: Returns the unix time in seconds of an event.
        """
        self.path = Path(path)
        self._clock = clock
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if _ends_in_a_torn_line(self.path):
            self._append(b"\n")

    def emit(self, kind: str, **fields: Any) -> None:
        """Append ``{"t": unix seconds, "event": kind, **fields}``.

        Args:
            kind: What happened, a short name such as ``expert_done``.
            **fields: Values that JSON can hold.

        Raises:
            ValueError: A field is called ``t`` or ``event``.
            TypeError: A value is not JSON's.
        """
        taken = RESERVED_FIELDS & fields.keys()
        if taken:
            raise ValueError(
                f"event {kind!r} has a field named {min(taken)!r}, which the log sets itself; "
                "rename the field"
            )
        record = {"t": round(self._clock(), 3), "event": kind, **fields}
        self._append((json.dumps(record) + "\n").encode())

    def _append(self, data: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, data)
        finally:
            os.close(handle)


def read_events(path: Path | str) -> list[dict[str, Any]]:
    """Read the events of a log in the order in which they were written.

    A process that was killed may leave half a line; such a line holds no event and is left out.

    Args:
        path: The file. One that does not exist holds no events.

    Returns:
        One dictionary for each event, with at least ``t`` (unix seconds) and ``event``.
    """
    file = Path(path)
    return parse_events(file.read_bytes()) if file.exists() else []


def parse_events(data: bytes) -> list[dict[str, Any]]:
    """Return the events of a log's bytes, as `read_events` does."""
    events = (_parse(line) for line in data.split(b"\n"))
    return [event for event in events if event is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    is_event = isinstance(record, dict) and record.keys() >= RESERVED_FIELDS
    return record if is_event else None


def _ends_in_a_torn_line(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
