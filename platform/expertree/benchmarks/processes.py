"""Reading the status of a process and of all below it from `/proc`."""

import contextlib
from collections.abc import Mapping
from pathlib import Path

Status = Mapping[str, str]
"""The fields of `/proc/<pid>/status`."""


def family(root: int) -> dict[int, Status]:
    """Return a process and all below it by number, without those that ended meanwhile."""
    found: dict[int, Status] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            lines = (folder / "status").read_text().splitlines()
            found[int(folder.name)] = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    inside = {root}
    # A child's number may be below its parent's: go on until nothing is added.
    while more := {
        pid for pid, status in found.items() if int(status["PPid"]) in inside and pid not in inside
    }:
        inside |= more
    return {pid: found[pid] for pid in sorted(inside & found.keys())}


def num_bytes(kilobytes: str) -> int:
    """Return the bytes that a field such as `1024 kB` means."""
    return int(kilobytes.split(maxsplit=1)[0]) * 1024


def titled(root: int, text: str) -> list[int]:
    """Return the numbers of Ray Serve's replicas from `root` down whose title has a text in it."""
    found = []
    for pid in sorted(family(root)):
        with contextlib.suppress(OSError):  # it has ended
            title = Path(f"/proc/{pid}/cmdline").read_text()
            if title.startswith("ray::ServeReplica:") and text in title:
                found.append(pid)
    return found
