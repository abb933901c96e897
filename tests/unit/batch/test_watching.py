"""Watching a folder: what lies there, what comes, what is refused, and how it ends."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree import Restorer
from expertree.batch import watching
from expertree.batch.arguments import parse
from expertree.batch.command import in_this_process, run
from expertree.batch.manifest import MANIFEST

DONE, USAGE, STOPPED = 0, 2, 130


def photo(path: Path, seed: int = 0) -> bytes:
    """Write a photograph that is unlike those of other seeds; returns its file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    PillowImage.fromarray(pixels).save(path)
    return path.read_bytes()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


@pytest.fixture
def watch(bundle_path: Path, tmp_path: Path, monkeypatch):
    """Run the command on a folder, with the small bundle; what it polls and waits for is short."""
    monkeypatch.setattr(watching, "_POLL_S", 0.05)
    monkeypatch.setattr("expertree.batch.arrivals.SETTLE_S", 0.3)

    def watched(source: Path, *flags: str, to: Path = tmp_path / "out") -> int:
        arguments = ["--bundle", str(bundle_path), "--watch", str(source), "-o", str(to), *flags]
        return run(parse(arguments, program="test", description=""), in_this_process)

    return watched


@pytest.fixture(autouse=True)
def as_in_a_process_of_its_own() -> Iterator[None]:
    """Nothing handles SIGTERM yet; Ray's handler stays where a test before has started it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do something while the command runs, then end it; what goes wrong there is raised here."""
    wrong: list[BaseException] = []

    def all_of_it() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            wrong.append(error)
        finally:
            if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:  # it runs still
                os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=all_of_it)
    thread.start()
    yield
    thread.join()
    if wrong:
        raise wrong[0]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "never so"
        time.sleep(0.02)


def states(folder: Path) -> list[tuple[str, str]]:
    """Names and states of a manifest's lines, in their order."""
    path = folder / MANIFEST
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [(line["name"], line["state"]) for line in lines if "name" in line]


def test_what_is_there_is_restored_and_then_what_comes(tmp_path, inbox, watch, capsys) -> None:
    out = tmp_path / "out"
    photo(inbox / "there.png")
    (inbox / "notes.txt").write_text("not a photograph")

    def come() -> None:
        until((out / "there.png").exists)
        photo(tmp_path / "moved.png", 1)
        (tmp_path / "moved.png").rename(inbox / "moved.png")
        (inbox / "trip").mkdir()
        photo(inbox / "trip" / "later.png", 2)
        until(lambda: (out / "moved.png").exists() and (out / "trip" / "later.png").exists())
        until(lambda: len(states(out)) == 3)

    with meanwhile(come):
        assert watch(inbox, "-r", "--json") == DONE
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert (summary["num_files"], summary["num_restored"]) == (3, 3)
    assert summary["others"] == {".txt": 1}
    assert f"watching {inbox}; Ctrl-C ends it" in shown.err
    assert "3/3 " in shown.err
    assert not list(out.glob(".partial*"))

    with meanwhile(lambda: until(lambda: signal.getsignal(signal.SIGTERM) != signal.SIG_DFL)):
        assert watch(inbox, "-r") == DONE
    assert "0 of 3 restored in 0:00, 3 earlier" in capsys.readouterr().out


def test_the_files_are_those_of_the_batch(tmp_path, inbox, watch, bundle_path) -> None:
    photo(inbox / "a.png")
    with meanwhile(lambda: until(lambda: len(states(tmp_path / "out")) == 1)):
        assert watch(inbox) == DONE
    arguments = ["--bundle", str(bundle_path), "-i", str(inbox), "-o", str(tmp_path / "batch")]
    assert run(parse(arguments, program="test", description=""), in_this_process) == DONE
    restored = (tmp_path / "out" / "a.png").read_bytes()
    assert restored == (tmp_path / "batch" / "a.png").read_bytes()
    assert restored != (inbox / "a.png").read_bytes()


def test_a_file_that_is_still_written_is_waited_for(tmp_path, inbox, watch, capsys) -> None:
    data, out = photo(tmp_path / "whole.png"), tmp_path / "out"

    def write_slowly() -> None:
        until((out / MANIFEST).exists)
        (inbox / "empty.png").touch()
        with (inbox / "slow.png").open("wb") as stream:
            for begin in range(0, len(data), len(data) // 9):
                stream.write(data[begin : begin + len(data) // 9])
                stream.flush()
                time.sleep(0.1)
        until((out / "slow.png").exists)

    with meanwhile(write_slowly):
        assert watch(inbox) == DONE
    assert states(out) == [("slow.png", "done")]  # and never failed
    assert "1 more not begun" in capsys.readouterr().err


def test_a_photograph_that_fails_is_named_stops_nothing_and_is_taken_when_it_is_whole(
    tmp_path, inbox, watch, capsys
) -> None:
    data, out = photo(tmp_path / "whole.png"), tmp_path / "out"
    (inbox / "mended.png").write_bytes(data[:500])
    (inbox / "broken.png").write_bytes(data[:600])
    photo(inbox / "good.png", 1)

    def mend() -> None:
        until(lambda: len(states(out)) == 3)
        (inbox / "mended.png").write_bytes(data)
        until(lambda: len(states(out)) == 4)

    with meanwhile(mend):
        assert watch(inbox) == DONE
    assert states(out)[-1] == ("mended.png", "done")
    shown = capsys.readouterr()
    assert "failed: mended.png is truncated: its end is missing" in shown.err
    assert "2 of 3 restored" in shown.out
    assert "failed: broken.png is truncated: its end is missing" in shown.out
    assert "mended.png" not in shown.out


def test_what_may_pass_is_tried_again(tmp_path, inbox, watch, monkeypatch) -> None:
    whole, calls = Restorer.restore, []

    def once_full(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return whole(self, *arguments, **options)

    monkeypatch.setattr(Restorer, "restore", once_full)
    monkeypatch.setattr("expertree.batch.arrivals._AGAIN_S", 0.2)
    photo(inbox / "a.png")
    with meanwhile(lambda: until(lambda: len(states(tmp_path / "out")) == 2)):
        assert watch(inbox) == DONE
    assert states(tmp_path / "out") == [("a.png", "failed"), ("a.png", "done")]


def test_a_changed_photograph_replaces_what_was_made_of_it_and_nothing_of_others(
    tmp_path, inbox, watch, capsys
) -> None:
    out = tmp_path / "out"
    photo(inbox / "a.png")

    def change() -> None:
        until(lambda: len(states(out)) == 1)
        before = (out / "a.png").read_bytes()
        photo(inbox / "a.png", 5)
        until(lambda: len(states(out)) == 2)
        assert (out / "a.png").read_bytes() != before
        (out / "b.png").write_bytes(b"of somebody else")
        photo(inbox / "b.png", 6)
        photo(inbox / "c.png", 7)
        until((out / "c.png").exists)

    with meanwhile(change):
        assert watch(inbox) == DONE
    assert (out / "b.png").read_bytes() == b"of somebody else"
    shown = capsys.readouterr()
    assert "failed: b.png would replace a file; --overwrite" in shown.err
    assert "2 of 3 restored" in shown.out


def test_two_that_would_be_one_file_are_not_mixed_up(tmp_path, inbox, watch, capsys) -> None:
    out = tmp_path / "out"
    photo(inbox / "a.png")

    def come() -> None:
        until(lambda: len(states(out)) == 1)
        (out / "a.webp").rename(tmp_path / "first.webp")
        shutil.move(tmp_path / "first.webp", out / "a.webp")
        photo(inbox / "a.bmp", 3)
        photo(inbox / "b.bmp", 4)
        until((out / "b.webp").exists)

    with meanwhile(come):
        assert watch(inbox, "--format", "webp") == DONE
    assert states(out) == [("a.png", "done"), ("b.bmp", "done")]
    assert "failed: a.bmp would be written to a.webp, which is of a.png" in capsys.readouterr().err


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "taken out of the folder"])
def test_what_was_restored_before_is_not_replaced_by_another_photograph(
    tmp_path, inbox, watch, capsys, is_kept
) -> None:
    out = tmp_path / "out"
    photo(inbox / "a.png")
    with meanwhile(lambda: until(lambda: len(states(out)) == 1)):
        assert watch(inbox, "--format", "webp") == DONE
    before = (out / "a.webp").read_bytes()
    if not is_kept:
        (inbox / "a.png").unlink()
    photo(inbox / "c.png", 5)

    def come() -> None:
        until((out / "c.webp").exists)
        photo(inbox / "a.bmp", 3)
        photo(inbox / "b.bmp", 4)
        until((out / "b.webp").exists)

    with meanwhile(come):
        assert watch(inbox, "--format", "webp") == DONE
    assert (out / "a.webp").read_bytes() == before
    assert "failed: a.bmp would be written to a.webp, which is of a.png" in capsys.readouterr().err


def test_what_was_restored_of_another_folder_is_not_replaced(
    tmp_path, inbox, watch, capsys
) -> None:
    (tmp_path / "other").mkdir()
    for seed, folder in enumerate((inbox, tmp_path / "other")):
        photo(folder / "a.png", seed)
    with meanwhile(lambda: until(lambda: len(states(tmp_path / "out")) == 1)):
        assert watch(inbox) == DONE
    assert watch(tmp_path / "other", "--dry-run") == USAGE
    assert "1 of 1 restored photographs would replace files" in capsys.readouterr().err


def test_output_within_the_folder_is_not_taken_for_input(inbox, watch) -> None:
    out = inbox / "restored"
    photo(inbox / "a.png")
    with meanwhile(lambda: (until(lambda: len(states(out)) == 1), time.sleep(0.8))):
        assert watch(inbox, "-r", to=out) == DONE
    assert states(out) == [("a.png", "done")]
    assert sorted(path.name for path in out.iterdir()) == ["a.png", MANIFEST]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "would restore what it writes there; choose another folder"),
        (["--suffix", "_x"], "would restore what it writes there"),
        (["--cluster", "local"], "--cluster does not go with --watch"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(inbox, watch, capsys, flags, message) -> None:
    photo(inbox / "a.png")
    (inbox.parent / "link").symlink_to(inbox)
    assert watch(inbox, *flags, to=inbox.parent / "link") == USAGE
    assert message in capsys.readouterr().err
    assert [path.name for path in inbox.iterdir()] == ["a.png"]


def test_a_folder_that_is_none_and_files_that_would_be_replaced_are_refused(
    tmp_path, inbox, watch, capsys
) -> None:
    assert watch(tmp_path / "nowhere") == USAGE
    assert "nowhere is no folder" in capsys.readouterr().err
    photo(inbox / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"of somebody else")
    assert watch(inbox) == USAGE
    assert "would replace files" in capsys.readouterr().err
    assert watch(inbox, "--overwrite", "--dry-run") == DONE
    assert "1 of 1 photographs would be restored" in capsys.readouterr().out


def test_a_folder_that_is_away_for_a_while_is_waited_for(tmp_path, inbox, watch, capsys) -> None:
    out, away = tmp_path / "out", tmp_path / "away"
    photo(inbox / "a.png")

    def go_away() -> None:
        until(lambda: len(states(out)) == 1)
        inbox.rename(away)
        time.sleep(0.5)
        photo(away / "b.png", 1)
        away.rename(inbox)
        until(lambda: len(states(out)) == 2)

    with meanwhile(go_away):
        assert watch(inbox) == DONE
    shown = capsys.readouterr()
    assert f"{inbox} cannot be looked into: No such file or directory" in shown.err
    assert "2 of 2 restored" in shown.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_photograph_at_hand_and_a_second_one_at_once(
    tmp_path, inbox, watch, monkeypatch, capsys, number
) -> None:
    whole, begun, before = Restorer.restore, [], signal.getsignal(number)

    def signalled(self, *arguments, **options):
        begun.append(1)
        os.kill(os.getpid(), number)
        if len(begun) > 1:
            os.kill(os.getpid(), number)
        return whole(self, *arguments, **options)

    monkeypatch.setattr(Restorer, "restore", signalled)
    for name in ("a.png", "b.png", "c.png"):
        photo(inbox / name)
    assert watch(inbox) == DONE
    assert states(tmp_path / "out") == [("a.png", "done")]
    shown = capsys.readouterr()
    assert "1 of 1 restored" in shown.out
    assert "2 more not begun; the same command goes on with them" in shown.err
    assert watch(inbox) == STOPPED
    assert signal.getsignal(number) == before
    monkeypatch.undo()
    assert (inbox / "b.png").exists()
