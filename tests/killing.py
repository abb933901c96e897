"""Processes that tests kill."""

import contextlib
import os
import signal
from pathlib import Path

from expertree.benchmarks.processes import family


def kill_one_called(title: str) -> bool:
    """Kill one process of this one's family whose title begins so; whether there was one."""
    for pid in family(os.getpid()):
        with contextlib.suppress(OSError):  # it has ended
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(title.encode()):
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def marked(name: str, value: str) -> list[int]:
    """Return the ids of living processes with a variable of that value in their environment."""
    entry, found = f"{name}={value}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found
