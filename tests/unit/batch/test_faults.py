"""What one photograph's fault costs the others: nothing."""

import itertools
import json
import os
import re
import struct
import sys
import zlib
from pathlib import Path

import cv2
import pillow_heif
import pytest

from expertree import Restorer
from expertree.batch import command, decoders, listing, restoring
from expertree.batch.manifest import MANIFEST
from expertree.images import heic
from photo_folders import DONE, FAILED, files_below, opened
from scarce import KINDS, run_out_of_memory


@pytest.mark.parametrize("kind", KINDS)
def test_a_photograph_that_memory_does_not_suffice_for_fails_alone(
    photos, restore, monkeypatch, capsys, kind
) -> None:
    whole = Restorer.restore

    def limited(self, image, wish, **options):
        if image.shape[-1] == 20:
            run_out_of_memory(kind)
        return whole(self, image, wish, **options)

    (photos / "broken.png").unlink()
    monkeypatch.setattr(Restorer, "restore", limited)
    assert restore(photos) == FAILED
    assert "failed: e.tiff needs more memory than there is" in capsys.readouterr().out
    monkeypatch.undo()
    assert restore(photos) == DONE  # it is tried again
    assert re.search(
        r"1 of 4 restored in [\d:]+, 3 earlier$", capsys.readouterr().out, re.MULTILINE
    )


ODD_ERRORS = (
    KeyError(0x8769),
    IndexError("list index out of range"),
    TypeError("'NoneType' object is not subscriptable"),
    AttributeError("'NoneType' object has no attribute 'shape'"),
    struct.error("unpack requires a buffer of 2 bytes"),
    zlib.error("Error -3 while decompressing data"),
    cv2.error("(-215:Assertion failed) !buf.empty()"),
    AssertionError("no such tag"),
    StopIteration(),
)
"""What parsers that are written by hand raise where they have a fault."""


@pytest.mark.parametrize(
    ("error", "at"),
    [
        *((error, "read_photo") for error in ODD_ERRORS),
        (ODD_ERRORS[0], "restore_photo"),
        (ODD_ERRORS[0], "write_restored"),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
def test_a_fault_of_ours_stops_no_other_photograph_and_leaves_a_traceback(
    photos, restore, monkeypatch, capsys, error, at
) -> None:
    original, calls = getattr(restoring, at), itertools.count()

    def faulty(*arguments, **options):
        if next(calls) == 1:
            raise error
        return original(*arguments, **options)

    (photos / "broken.png").unlink()
    monkeypatch.setattr(restoring, at, faulty)
    assert restore(photos) == FAILED
    shown = capsys.readouterr().out
    assert "3 of 4 restored" in shown
    assert re.search(rf"failed: \w\.\w+ {type(error).__name__}: ", shown)
    assert "fault of this program" in shown
    lines = (photos.parent / "out" / MANIFEST).read_text().splitlines()
    (record,) = [line for line in map(json.loads, lines) if line["state"] == "failed"]
    assert not record["is_lasting"]
    assert "in faulty" in record["traceback"]
    assert type(error).__name__ in record["traceback"]
    monkeypatch.undo()
    assert restore(photos) == DONE  # it is tried again


@pytest.mark.parametrize("error", ODD_ERRORS[:1])
def test_a_fault_of_ours_at_a_single_photograph_is_shown_with_its_traceback(
    photos, tmp_path, restore, monkeypatch, capsys, error
) -> None:
    def faulty(*_, **__):
        raise error

    for module in (restoring, command):
        monkeypatch.setattr(module, "read_photo", faulty)
    for source, target in ((photos / "c.png", "-"), (photos / "c.png", tmp_path / "one.png")):
        assert restore(source, to=target) == FAILED
        shown = capsys.readouterr()
        assert "KeyError" in shown.err + shown.out
        assert "in faulty" in shown.err


def test_a_photograph_that_is_wrong_has_no_traceback(photos, tmp_path, restore) -> None:
    restore(photos)
    lines = (tmp_path / "out" / MANIFEST).read_text().splitlines()
    (record,) = [line for line in map(json.loads, lines) if line["state"] == "failed"]
    assert record["traceback"] == ""


def test_a_fault_in_reading_headers_does_not_keep_a_batch_from_beginning(
    photos, restore, monkeypatch, capsys
) -> None:
    def faulty(_):
        raise KeyError("header")

    monkeypatch.setattr(listing, "read_header", faulty)
    assert restore(photos) == FAILED
    assert "4 of 5 restored" in capsys.readouterr().out


def test_names_that_lead_nowhere_or_are_no_text_stop_no_other_photograph(
    photos, tmp_path, restore, capsys
) -> None:
    (photos / "gone.png").symlink_to(photos / "nothing.png")
    odd = os.fsencode(photos) + b"/\xff\xfe.png"
    Path(os.fsdecode(odd)).write_bytes((photos / "broken.png").read_bytes())
    for _ in range(2):
        assert restore(photos, "--overwrite", "--report", str(tmp_path / "page.html")) == FAILED
        shown = capsys.readouterr().out
        assert "failed: gone.png" in shown
        assert r"failed: \udcff\udcfe.png is truncated: its end is missing" in shown
    assert len(files_below(tmp_path / "out")) == 5


def test_folders_that_cannot_be_read_are_failures(photos, restore, monkeypatch, capsys) -> None:
    (photos / "broken.png").unlink()
    real = os.scandir

    def scandir(path="."):
        if Path(path).name == "trip":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert restore(photos, "-r") == FAILED
    shown = capsys.readouterr().out
    assert "4 of 4 restored" in shown
    assert "failed: trip cannot be looked into: Permission denied" in shown


def test_a_reader_that_leaves_does_not_fail_the_batch(photos, restore, monkeypatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    (photos / "broken.png").unlink()
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert restore(photos) == DONE


def test_a_name_that_is_no_text_is_on_the_report(photos, tmp_path, restore) -> None:
    odd = Path(os.fsdecode(os.fsencode(photos) + b"/\xff\xfe.png"))
    odd.write_bytes((photos / "c.png").read_bytes())
    page = tmp_path / "page.html"
    assert restore(photos, "--report", str(page)) == FAILED  # one is broken
    assert r"\udcff\udcfe.png" in page.read_text()


def test_what_failed_for_want_of_a_decoder_is_restored_once_it_is_there(
    photos, tmp_path, restore, monkeypatch, capsys
) -> None:
    (photos / "broken.png").unlink()
    path = photos / "telephone.jpg"
    pillow_heif.from_pillow(opened(photos / "a.jpg")).save(path)
    for module in (heic, decoders):
        monkeypatch.setattr(module, "has_heic", lambda: False)
    for _ in range(2):
        assert restore(photos) == FAILED
        assert "failed: telephone.jpg is a HEIC" in capsys.readouterr().out
    monkeypatch.undo()
    assert restore(photos) == DONE
    assert "1 of 5 restored" in capsys.readouterr().out
    assert (tmp_path / "out" / "telephone.jpg").is_file()
