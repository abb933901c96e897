"""The cores that replicas of a pool share on one machine: an idle one is lent to a busy one."""

import contextlib
import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

IDLE_S = 0.02
"""How long a core must have been idle before it is lent: between two tiles it has its own work."""

WAIT_S = 1.0
"""How long a caller waits for its own cores to come back; then it goes on as if it had them."""

_POLL_S = 0.002
_STAMP = struct.Struct("<d")
_PERMISSIONS = 0o600


class SharedCores:
    """Some cores of this machine, which processes take for as long as they compute.

    Each caller is due as many as it has threads by its settings, and gets idle ones beyond that.
    Cores are locked ranges of one file, so that those of a process that dies are free at once.
    """

    def __init__(self, path: Path, count: int) -> None:
        """Open the file of the cores; all callers name the same one.

        Args:
            path: The file; it is made, with its folder, if it is missing.
            count: Number of cores, at least 1.

        Raises:
            OSError: If it cannot be opened or locked, or belongs to somebody else.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file, self._count = os.open(path, flags, _PERMISSIONS), count
        self._first = os.getpid() % count
        try:
            if self._lock(0):
                self._unlock(0)
        except OSError:
            self.close()
            raise

    @contextlib.contextmanager
    def taken(self, due: int) -> Iterator[int]:
        """Hold cores inside the block; its value is their number, at least `due`.

        Where others have borrowed those that are due, it waits until they are back, for `WAIT_S` at
        most. One thread of a process at a time may be inside.

        Args:
            due: Cores that the caller is due.
        """
        held = self._wait_for(due)
        held += self._free(self._count, idle_s=IDLE_S, but=held)
        try:
            yield max(due, len(held))
        finally:
            for core in held:
                with contextlib.suppress(OSError):  # a full disk: then it counts as idle for long
                    os.pwrite(self._file, _STAMP.pack(time.monotonic()), core * _STAMP.size)
                self._unlock(core)

    def close(self) -> None:
        """Close the file; no core is held any more."""
        os.close(self._file)

    def _wait_for(self, due: int) -> list[int]:
        until = time.monotonic() + WAIT_S
        held: list[int] = []
        while True:
            held += self._free(due - len(held), idle_s=0.0, but=held)
            if len(held) >= min(due, self._count) or time.monotonic() > until:
                return held
            time.sleep(_POLL_S)

    def _free(self, most: int, *, idle_s: float, but: list[int]) -> list[int]:
        """Lock cores that nobody holds, beginning at another one in each process."""
        found: list[int] = []
        for step in range(self._count):
            core = (self._first + step) % self._count
            if len(found) < most and core not in but and self._lock(core):
                if self._idle_s(core) >= idle_s:
                    found.append(core)
                else:
                    self._unlock(core)
        return found

    def _idle_s(self, core: int) -> float:
        """Return how long nobody has held a core; infinity if nobody ever did since the start."""
        stamp = os.pread(self._file, _STAMP.size, core * _STAMP.size)
        if len(stamp) < _STAMP.size:
            return float("inf")
        idle_s: float = time.monotonic() - _STAMP.unpack(stamp)[0]
        return idle_s if idle_s >= 0.0 else float("inf")  # the machine has started anew

    def _lock(self, core: int) -> bool:
        """Lock a core without waiting; return whether that was done."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, _STAMP.size, core * _STAMP.size)
        except (BlockingIOError, PermissionError):  # either, by the system
            return False
        return True

    def _unlock(self, core: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, _STAMP.size, core * _STAMP.size)


def shared_cores(name: str, count: int) -> SharedCores | None:
    """Open the cores that are shared under a name on this machine; None where files have no locks.

    Args:
        name: Name of those who share them.
        count: Number of cores.
    """
    folder = Path(tempfile.gettempdir()) / f"expertree-cores-{os.getuid()}"
    try:
        return SharedCores(folder / name, count)
    except OSError:
        return None
