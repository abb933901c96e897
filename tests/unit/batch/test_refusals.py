"""What the command refuses before it does any work, and what it says then."""

import os
import sys
from pathlib import Path

import pytest
import torch

from expertree.batch.arguments import parse
from expertree.batch.command import in_this_process, run
from expertree.batch.manifest import MANIFEST
from photo_folders import DONE, USAGE, files_below


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--level", "9"], "level 9 does not exist"),
        (["--expert", "99"], "99"),
        (["--instruction", "fog"], "unknown degradation 'fog'"),
        (["-t", "16", "--overlap", "32"], "tile_px=16"),
        (["--quality", "0"], "quality must be 1 to 100"),
        (["--bundle", "nowhere"], "nowhere is not a bundle"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_work(
    photos, tmp_path, restore, capsys, flags, message
) -> None:
    assert restore(photos, *flags) == USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--confidence", "1", "--level", "1"], "both pick the level; give one"),
        (["--strength", "1.2"], "strength must be from 0 to 1, got 1.2"),
    ],
)
def test_wishes_that_cannot_be_are_a_wrong_command_line(
    photos, tmp_path, restore, capsys, flags, message
) -> None:
    with pytest.raises(SystemExit) as stop:
        restore(photos, *flags)
    assert stop.value.code == USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--overwrite", "--skip-existing"],
        ["--tile", "big"],
        ["--format", "gif"],
        ["--confidence", "3"],
        ["--unknown"],
    ],
)
def test_a_wrong_command_line_ends_with_code_2(photos, restore, capsys, flags) -> None:
    with pytest.raises(SystemExit) as ended:
        restore(photos, *flags)
    assert ended.value.code == USAGE
    assert "error:" in capsys.readouterr().err


def test_streams_and_folders_do_not_mix(photos, tmp_path, restore, capsys) -> None:
    assert restore(photos, to="-") == USAGE
    assert restore("-", "--json") == USAGE
    assert restore(photos, to=photos / "a.jpg") == USAGE
    assert restore(tmp_path / "missing.png") == USAGE
    shown = capsys.readouterr().err
    assert "is no file" in shown
    assert "--json does not go with -" in shown
    assert "is a file; a folder of photographs needs a folder" in shown
    assert "missing.png cannot be read: No such file" in shown


def test_a_device_that_does_not_exist_is_refused_before_any_work(photos, restore, capsys) -> None:
    assert restore(photos, "--device", "graphics") == USAGE
    assert "--device graphics" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused_before_any_work(
    photos, tmp_path, restore, capsys
) -> None:
    device = "xpu" if torch.cuda.is_available() else "cuda"
    assert restore(photos, "--device", device) == USAGE
    assert f"--device {device} cannot be used here: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x.gif", "x.jxl", "new.v2"])
def test_a_suffix_of_no_format_makes_no_folder(photos, tmp_path, restore, capsys, name) -> None:
    assert restore(photos / "c.png", to=str(tmp_path / name)) == USAGE
    assert "is no format that is written" in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    assert restore(photos / "c.png", to=f"{tmp_path}/{name}/") == DONE
    assert (tmp_path / name / "c.png").is_file()


def test_closed_standard_input_is_one_sentence(restore, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert restore("-", to="-") == USAGE
    assert "standard input is closed" in capsys.readouterr().err


def test_a_suffix_that_leads_elsewhere_is_refused(photos, restore, capsys) -> None:
    assert restore(photos, "--suffix", "/x") == USAGE
    assert "--suffix '/x' cannot be part of a file's name" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_refused_before_any_work(
    photos, tmp_path, restore, capsys
) -> None:
    (tmp_path / "file").write_text("")
    assert restore(photos, "--report", str(tmp_path / "file" / "page.html")) == USAGE
    assert restore(photos, "--report", str(tmp_path)) == USAGE
    shown = capsys.readouterr().err
    assert f"--report {tmp_path} is a folder" in shown
    assert "cannot be written" in shown
    assert not (tmp_path / "out").exists()


LONG = "x" * 300
"""A name that no filesystem takes: as with a folder that may not be looked into, asking raises."""


@pytest.mark.parametrize("flags", [["-i", LONG], ["-i", "photos", "-o", LONG], ["--watch", LONG]])
def test_a_path_that_cannot_be_looked_at_is_one_sentence(
    photos, bundle_path, monkeypatch, capsys, flags
) -> None:
    monkeypatch.chdir(photos.parent)
    given = ["--bundle", str(bundle_path), "-o", "out", *flags]
    assert run(parse(given, program="test", description=""), in_this_process) == USAGE
    assert f"{LONG} cannot be read: File name too long\n" in capsys.readouterr().err


def test_a_manifest_that_may_not_be_read_is_one_sentence(
    photos, tmp_path, restore, monkeypatch, capsys
) -> None:
    manifest, real = tmp_path / "out" / MANIFEST, Path.open

    def refused(path: Path, *arguments, **options):
        if path == manifest:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    restore(photos / "c.png")
    capsys.readouterr()
    monkeypatch.setattr(Path, "open", refused)
    assert restore(photos) == USAGE
    assert capsys.readouterr().err == f"error: {manifest} cannot be read: Permission denied\n"


def test_an_output_whose_name_is_no_text_is_one_sentence(photos, restore, capsys) -> None:
    assert restore(photos, to=os.fsdecode(os.fsencode(photos) + b"\xff")) == USAGE
    assert "cannot be opened: its name is no UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["-i", "-o", "--watch", "--report"])
def test_a_uri_is_not_taken_for_a_local_path(
    photos, bundle_path, monkeypatch, capsys, flag
) -> None:
    monkeypatch.chdir(photos.parent)
    places = {"-i": "photos", "-o": "out", flag: "s3://bucket/x"}
    if flag == "--watch":
        del places["-i"]
    given = ["--bundle", str(bundle_path), *(text for pair in places.items() for text in pair)]
    before = files_below(photos.parent)
    assert run(parse(given, program="test", description=""), in_this_process) == USAGE
    assert " s3://bucket/x is a URI; restore reads and writes" in capsys.readouterr().err
    assert files_below(photos.parent) == before


def test_a_folder_that_looks_like_a_uri_is_taken_for_one(photos, monkeypatch, restore) -> None:
    monkeypatch.chdir(photos.parent)
    (photos.parent / "s3:" / "bucket").mkdir(parents=True)
    assert restore(photos / "c.png", to="s3://bucket") == DONE
    assert (photos.parent / "s3:" / "bucket" / "c.png").is_file()
