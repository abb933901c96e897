"""What a run writes about itself while it goes on, and what can be said of it from that alone."""

from expertree.status.files import EVENTS, EVERY_S, PROGRESS, RunKind, write_progress
from expertree.status.reading import read_status
from expertree.status.run import RunState, RunStatus
from expertree.status.text import status_json, status_text

__all__ = [
    "EVENTS",
    "EVERY_S",
    "PROGRESS",
    "RunKind",
    "RunState",
    "RunStatus",
    "read_status",
    "status_json",
    "status_text",
    "write_progress",
]
