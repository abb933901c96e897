"""Photographs that are better left as they are, and restorations mixed in part."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree.batch.manifest import MANIFEST
from photo_folders import DONE, USAGE, exif_of, files_below, opened


@pytest.fixture
def good_and_spoiled(tmp_path: Path, two_kinds: tuple[np.ndarray, np.ndarray]) -> Path:
    """Two photographs that the careful bundle leaves as they are, and two that it restores."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, image in zip(("spoiled", "good"), map(PillowImage.fromarray, two_kinds), strict=True):
        image.save(folder / f"{name}.png", compress_level=1, exif=exif_of(1))
        image.save(folder / f"{name}.tiff")
    return folder


@pytest.fixture
def restore_carefully(restore, careful_bundle_path: Path):
    """Run the command with the bundle that leaves some photographs as they are."""

    def restored(source: Path, *flags: str, **options: Path) -> int:
        return restore(source, "--bundle", str(careful_bundle_path), *flags, **options)

    return restored


def records_of(folder: Path) -> dict[str, dict[str, object]]:
    lines = map(json.loads, (folder / MANIFEST).read_text().splitlines())
    return {line["name"]: line for line in lines if line["state"] == "done"}


def test_photographs_better_left_as_they_are_are_copied_byte_for_byte(
    good_and_spoiled, tmp_path, restore_carefully, capsys
) -> None:
    page = tmp_path / "report.html"
    assert restore_carefully(good_and_spoiled, "--report", str(page)) == DONE
    shown = capsys.readouterr()
    assert re.search(r"2 of 4 restored in [\d:]+, 2 left as they are$", shown.out, re.MULTILINE)
    assert "good.png: left as it is, " in shown.err
    before, after = files_below(good_and_spoiled), files_below(tmp_path / "out")
    assert [name for name in before if before[name] == after[name]] == ["good.png", "good.tiff"]
    records = records_of(tmp_path / "out")
    assert records["good.png"]["expert"] is None
    assert records["good.png"]["num_tiles"] == 0
    assert records["spoiled.png"]["expert"] is not None
    assert "2 photographs restored, 2 left as they are" in page.read_text()
    assert page.read_text().count("left as it is, ") == 2
    assert restore_carefully(good_and_spoiled) == DONE
    assert ", 4 earlier" in capsys.readouterr().out


def test_left_as_it_is_in_another_format_keeps_its_pixels(
    good_and_spoiled, tmp_path, restore_carefully, two_kinds
) -> None:
    assert restore_carefully(good_and_spoiled / "good.png", to=tmp_path / "good.bmp") == DONE
    np.testing.assert_array_equal(np.array(opened(tmp_path / "good.bmp")), two_kinds[1])
    same = tmp_path / "same.png"
    assert restore_carefully(good_and_spoiled / "good.png", "--quality", "50", to=same) == DONE
    assert same.read_bytes() == (good_and_spoiled / "good.png").read_bytes()


def test_one_can_insist(good_and_spoiled, tmp_path, restore_carefully, capsys) -> None:
    assert restore_carefully(good_and_spoiled, "--insist", "--json") == DONE
    summary = json.loads(capsys.readouterr().out)
    assert (summary["num_restored"], summary["num_as_is"]) == (4, 0)
    assert all(own["expert"] is not None for own in records_of(tmp_path / "out").values())
    assert restore_carefully(good_and_spoiled) == USAGE  # another option, another batch
    assert "would replace files" in capsys.readouterr().err


def test_strength_mixes_and_is_exact_at_both_ends(
    good_and_spoiled, tmp_path, restore_carefully, two_kinds
) -> None:
    source = good_and_spoiled / "spoiled.png"
    for strength in ("0", "0.4", "1"):
        target = tmp_path / f"{strength}.png"
        assert restore_carefully(source, "--strength", strength, to=target) == DONE
    assert (tmp_path / "0.png").read_bytes() == source.read_bytes()
    assert restore_carefully(source, to=tmp_path / "plain.png") == DONE
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    whole, part = (np.array(opened(tmp_path / f"{s}.png")).astype(float) for s in ("1", "0.4"))
    # The restoration is rounded in one of the two files before it is mixed, and not in the other.
    assert np.abs(part - (two_kinds[0] + 0.4 * (whole - two_kinds[0]))).max() <= 0.7 + 1e-3


def test_a_batch_of_tiles_is_left_as_it_is_only_if_all_are(
    good_and_spoiled, tmp_path, restore_carefully
) -> None:
    assert restore_carefully(good_and_spoiled, "--route-tiles") == DONE
    records = records_of(tmp_path / "out")
    for name, own in records.items():
        tiles = json.loads((tmp_path / "out" / f"{name}.routes.json").read_text())["tiles"]
        is_same = (tmp_path / "out" / name).read_bytes() == (good_and_spoiled / name).read_bytes()
        assert is_same == (own["expert"] is None) == all(tile["expert"] is None for tile in tiles)


def test_a_stream_that_is_left_as_it_is_passes_through(
    good_and_spoiled, restore_carefully, capfdbinary
) -> None:
    assert restore_carefully(good_and_spoiled / "good.png", to="-") == DONE
    shown = capfdbinary.readouterr()
    assert shown.out == (good_and_spoiled / "good.png").read_bytes()
    assert b"left as it is, " in shown.err


def test_what_is_copied_has_no_notes_on_what_it_lost(
    tmp_path, good_and_spoiled, restore_carefully, capsys
) -> None:
    image = opened(good_and_spoiled / "good.png")
    image.save(good_and_spoiled / "good.jpg", quality=100, subsampling=0)
    path = good_and_spoiled / "good.jpg"
    path.write_bytes(path.read_bytes() + b"\0\0\0\x18ftypmp42 a video")
    assert restore_carefully(path, to=tmp_path / "copy.jpg") == DONE
    copied = (tmp_path / "copy.jpg").read_bytes() == path.read_bytes()
    assert copied == ("video" not in capsys.readouterr().out)
