"""Names a process so that another one can tell, on the same machine, whether it still lives."""

import dataclasses
import functools
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

_START_FIELD = 19
"""Place of the time of a process's start in `/proc/PID/stat`, counted after its name."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A process of some machine.

    Attributes:
        host: Name of the machine, for people.
        machine: This boot of the machine, and the container in which the number counts.
        pid: Number of the process.
        start: When it began, as its machine counts; numbers are given again.
    """

    host: str
    machine: str
    pid: int
    start: str

    @classmethod
    def here(cls) -> Self:
        """Return this process."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), machine=_machine(), pid=pid, start=_start_of(pid))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return the process that `dataclasses.asdict` made plain data of.

        Raises:
            KeyError: If a field is missing.
        """
        return cls(**{field.name: record[field.name] for field in dataclasses.fields(cls)})

    @property
    def is_gone(self) -> bool:
        """Whether it has certainly ended; False for a process of another machine."""
        if self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it is somebody else's, and lives
            pass
        return _start_of(self.pid) != self.start

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@functools.cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return socket.gethostname()


def _start_of(pid: int) -> str:
    """Return when a process began; `ended` for one that nobody has waited for yet."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if state == "Z" else fields[_START_FIELD - 1]
