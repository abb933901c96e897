"""Cores that replicas share: everyone has its own when it needs them, and idle ones are lent."""

import contextlib
import errno
import fcntl
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from expertree.serving import cores
from expertree.serving.cores import SharedCores

HOLD = """
import pathlib, runpy, sys
SharedCores = runpy.run_path(sys.argv[1])["SharedCores"]  # without all that the package imports
with SharedCores(pathlib.Path(sys.argv[2]), int(sys.argv[3])).taken(int(sys.argv[4])) as count:
    print(count, flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def other(path: Path, *, count: int, due: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Another process that holds cores; they are given back when a line is written to it."""
    words = [sys.executable, "-c", HOLD, cores.__file__, str(path), str(count), str(due)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def give_back(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def wait_until_idle() -> None:
    time.sleep(2 * cores.IDLE_S)


def test_one_alone_has_all_cores_and_gives_them_back(tmp_path: Path) -> None:
    mine = SharedCores(tmp_path / "cores", 4)
    for _ in range(2):
        with mine.taken(1) as count:
            assert count == 4
        wait_until_idle()


def test_a_core_that_was_used_just_now_is_not_lent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "IDLE_S", 3600.0)
    mine = SharedCores(tmp_path / "cores", 3)
    with mine.taken(1) as count:
        assert count == 3  # nobody ever used them
    with mine.taken(1) as count:
        assert count == 1
    with mine.taken(2) as count:
        assert count == 2


def test_a_stamp_from_before_the_machine_started_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cores"
    path.write_bytes(2 * struct.pack("<d", time.monotonic() + 1e6))
    begin = time.monotonic()
    with SharedCores(path, 2).taken(1) as own:
        assert own == 2
    assert time.monotonic() - begin < cores.WAIT_S


def test_a_filesystem_without_locks_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(fcntl, "lockf", lockf)
    assert cores.shared_cores("pool", 2) is None


def test_a_full_disk_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwrite(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    mine = SharedCores(tmp_path / "cores", 2)
    for _ in range(2):
        with mine.taken(1) as own:
            assert own == 2


def test_what_another_process_holds_is_not_lent(tmp_path: Path) -> None:
    path = tmp_path / "cores"
    with other(path, count=2, due=1) as (count, process):
        assert count == 2
        give_back(process)
        process.wait()
    with other(path, count=1, due=1):
        mine = SharedCores(path, 3)
        with mine.taken(1) as own:
            assert own == 2


def test_who_is_due_a_core_waits_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "WAIT_S", 60.0)
    path = tmp_path / "cores"
    mine = SharedCores(path, 2)
    with other(path, count=2, due=1) as (count, process):
        assert count == 2
        begin = time.monotonic()
        threading.Timer(0.3, give_back, [process]).start()
        with mine.taken(1) as own:
            assert 0.25 < time.monotonic() - begin < 50.0
            assert own in {1, 2}


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "WAIT_S", 0.05)
    path = tmp_path / "cores"
    with other(path, count=2, due=1), SharedCores(path, 2).taken(1) as own:
        assert own == 1


def test_cores_of_a_process_that_was_killed_are_free(tmp_path: Path) -> None:
    path = tmp_path / "cores"
    with other(path, count=2, due=1) as (count, process):
        assert count == 2
        process.kill()
        process.wait()
        with SharedCores(path, 2).taken(1) as own:
            assert own == 2


def test_more_is_due_than_there_is(tmp_path: Path) -> None:
    with SharedCores(tmp_path / "cores", 1).taken(4) as own:
        assert own == 4


def test_what_is_in_the_way_of_the_file_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"expertree-cores-{os.getuid()}"
    assert cores.shared_cores("pool", 2) is not None
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    assert cores.shared_cores("link", 2) is None
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder / "pool"))
    assert cores.shared_cores("pool", 2) is None
