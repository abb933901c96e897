"""Counts the bytes that this process has read from storages and written to them."""

import dataclasses
import threading


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """Bytes read and written since a process began."""

    num_read: int
    num_written: int


_lock = threading.Lock()
_num_read = _num_written = 0


def count_traffic(*, read: int = 0, written: int = 0) -> None:
    """Add bytes that were read or written."""
    global _num_read, _num_written  # noqa: PLW0603 - of the process, as its memory is
    with _lock:
        _num_read += read
        _num_written += written


def traffic() -> Traffic:
    """Return what was read and written until now: whole files, and the patches of training."""
    with _lock:
        return Traffic(num_read=_num_read, num_written=_num_written)
