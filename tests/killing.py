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
