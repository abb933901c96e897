"""The command on real files: what survives, what fails, what is done again."""

import io
import itertools
import json
import os
import re
import shutil
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from expertree import Restorer
from expertree.batch import command, listing, restoring
from expertree.batch.arguments import parse
from expertree.batch.command import in_this_process, run
from expertree.batch.manifest import MANIFEST
from expertree.batch.settings import RestoreOptions
from expertree.images.io import to_u8
from expertree.images.photo_file import read_photo
from expertree.routing import Wish
from scarce import KINDS, run_out_of_memory
from told import INSTRUCT, told_restorer

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130


def photo_u8(seed: int = 0, height_px: int = 40, width_px: int = 56) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def exif_of(orientation: int) -> PillowImage.Exif:
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112] = "A maker", orientation
    return exif


def opened(path: Path) -> PillowImage.Image:
    return PillowImage.open(io.BytesIO(path.read_bytes()))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder as people have them: formats, depths, transparency, metadata, and a broken one."""
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    image = PillowImage.fromarray(photo_u8())
    image.save(folder / "a.jpg", exif=exif_of(6), dpi=(300, 300), quality=96)
    image.save(folder / "trip" / "b.webp", lossless=True, exif=exif_of(1))
    image.convert("RGBA").save(folder / "c.png")
    image.convert("L").save(folder / "d.bmp")
    deep = np.random.default_rng(1).integers(0, 65536, (30, 20, 3)).astype(np.uint16)
    cv2.imwrite(str(folder / "e.tiff"), deep)
    (folder / "broken.png").write_bytes((folder / "c.png").read_bytes()[:500])
    (folder / "notes.txt").write_text("not a photograph")
    return folder


@pytest.fixture
def restore(bundle_path: Path, tmp_path: Path):
    """Run the command on a folder, with the small bundle."""

    def restored(source: Path | str, *flags: str, to: Path | str = tmp_path / "out") -> int:
        arguments = ["--bundle", str(bundle_path), "-i", str(source), "-o", str(to), *flags]
        return run(parse(arguments, program="test", description=""), in_this_process)

    return restored


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_folder_is_mirrored_and_photographs_survive(photos, tmp_path, restore, capsys) -> None:
    assert restore(photos, "-r") == FAILED
    out = tmp_path / "out"
    assert set(files_below(out)) == {
        *("a.jpg", "c.png", "d.bmp", "e.tiff", "trip/b.webp", MANIFEST)
    }
    turned = opened(out / "a.jpg")
    assert turned.size == (40, 56)
    assert turned.getexif()[0x010F] == "A maker"
    assert turned.getexif()[0x0112] == 1
    assert turned.info["dpi"] == (300, 300)
    assert opened(out / "c.png").mode == "RGBA"
    assert opened(out / "d.bmp").mode == "L"
    assert cv2.imread(str(out / "e.tiff"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    shown = capsys.readouterr()
    assert "5 of 6 restored" in shown.out
    assert "other files: 1 .txt (read are PNG, JPEG" in shown.out
    assert "failed: broken.png is damaged" in shown.out
    assert "6/6" in shown.err


def test_the_files_hold_what_the_restorer_makes(photos, tmp_path, restore, bundle_path) -> None:
    restore(photos, "-t", "0")
    restorer = Restorer.load(bundle_path)
    image = read_photo((photos / "c.png").read_bytes(), max_pixels=None).tensor()
    expected = to_u8(restorer.restore(image, Wish(tile_px=0)).image)
    np.testing.assert_array_equal(np.array(opened(tmp_path / "out" / "c.png"))[..., :3], expected)
    assert not np.array_equal(expected, photo_u8())


def test_a_second_run_does_nothing(photos, tmp_path, restore, capsys) -> None:
    restore(photos, "-r")
    before = files_below(tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    assert restore(photos, "-r") == FAILED  # one is still broken
    assert files_below(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert "0 of 6 restored in 0:00, 5 earlier, 1 failed" in capsys.readouterr().out


def test_only_what_changed_or_came_is_restored(photos, tmp_path, restore, capsys) -> None:
    restore(photos)
    (photos / "broken.png").write_bytes((photos / "c.png").read_bytes())
    PillowImage.fromarray(photo_u8(7)).save(photos / "new.png")
    os.utime(photos / "d.bmp", ns=(1, 1))
    (tmp_path / "out" / "e.tiff").unlink()
    capsys.readouterr()
    assert restore(photos) == DONE
    assert "4 of 6 restored" in capsys.readouterr().out


def test_a_batch_that_is_stopped_goes_on_where_it_was(
    photos, tmp_path, restore, monkeypatch, capsys
) -> None:
    def stopping(task: command.BatchTask, on_tile) -> Iterator:
        for number, record in enumerate(in_this_process(task, on_tile)):
            if number == 2:
                raise KeyboardInterrupt  # the third is written, and nobody was told
            yield record

    real = command.run
    monkeypatch.setattr(sys.modules[__name__], "run", lambda config, _: real(config, stopping))
    assert restore(photos, "-r") == STOPPED
    assert "goes on where it was" in capsys.readouterr().err
    num_lines = len((tmp_path / "out" / MANIFEST).read_text().splitlines())
    assert num_lines == 2
    monkeypatch.undo()
    assert restore(photos, "-r") == FAILED
    assert "earlier, 1 failed" in capsys.readouterr().out
    assert len(files_below(tmp_path / "out")) == 6
    assert not list((tmp_path / "out").rglob(".partial*"))


def test_other_options_do_not_replace_what_is_there_unless_asked(photos, restore, capsys) -> None:
    restore(photos)
    assert restore(photos, "--level", "0") == USAGE
    assert "would replace files" in capsys.readouterr().err
    assert restore(photos, "--level", "0", "--skip-existing") == FAILED
    assert "0 of 5 restored in 0:00, 4 left alone, 1 failed" in capsys.readouterr().out
    assert restore(photos, "--level", "0", "--overwrite") == FAILED
    assert "4 of 5 restored" in capsys.readouterr().out


def test_experts_are_opened_by_what_restores_and_a_damaged_one_ends_it(
    photos, tmp_path, bundle_path, capsys
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(bundle_path, bundle)
    weights = next(bundle.glob("experts/*/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    arguments = ["--bundle", str(bundle), "-i", str(photos), "-o", str(tmp_path / "out")]
    config = parse([*arguments, "--dry-run"], program="test", description="")
    assert run(config, in_this_process) == DONE
    config = parse(arguments, program="test", description="")
    assert run(config, in_this_process) == USAGE
    assert f"{weights.parent.name}/{weights.name} has sha256" in capsys.readouterr().err
    assert (tmp_path / "out" / MANIFEST).read_bytes() == b""  # no batch has begun


def test_a_dry_run_writes_nothing(photos, tmp_path, restore, capsys) -> None:
    assert restore(photos, "-r", "--dry-run", "--format", "png", "--suffix", "_new") == DONE
    shown = capsys.readouterr().out
    assert "6 of 6 photographs would be restored" in shown
    assert "trip/b.webp -> trip/b_new.png" in shown
    assert "other files: 1 .txt" in shown
    assert not (tmp_path / "out").exists()


def test_json_is_all_that_is_on_standard_output(photos, restore, capsys) -> None:
    restore(photos, "--json")
    summary = json.loads(capsys.readouterr().out)
    assert (summary["num_files"], summary["num_restored"]) == (5, 4)
    assert [failure["name"] for failure in summary["failures"]] == ["broken.png"]
    assert sum(share["num_files"] for share in summary["experts"]) == 4


def test_another_format_quality_and_suffix(photos, tmp_path, restore) -> None:
    (photos / "broken.png").unlink()
    assert restore(photos, "--format", "webp", "--quality", "80", "--suffix", "_x") == DONE
    names = {name for name in files_below(tmp_path / "out") if name != MANIFEST}
    assert names == {"a_x.webp", "c_x.webp", "d_x.webp", "e_x.webp"}
    assert opened(tmp_path / "out" / "a_x.webp").getexif()[0x010F] == "A maker"


def test_one_file_into_a_file_takes_its_format(photos, tmp_path, restore) -> None:
    target = tmp_path / "b.png"
    assert restore(photos / "trip" / "b.webp", to=target) == DONE
    assert opened(target).format == "PNG"
    assert set(files_below(tmp_path)) & {MANIFEST} == set()
    assert restore(photos / "trip" / "b.webp", to=target) == USAGE
    assert restore(photos / "trip" / "b.webp", "--overwrite", to=target) == DONE


def test_standard_input_to_standard_output(photos, restore, monkeypatch, capfdbinary) -> None:
    class Stream:
        buffer = io.BytesIO((photos / "c.png").read_bytes())

    monkeypatch.setattr(sys, "stdin", Stream)
    assert restore("-", to="-") == DONE
    shown = capfdbinary.readouterr()
    assert PillowImage.open(io.BytesIO(shown.out)).size == (56, 40)
    assert b"expert" in shown.err
    assert restore(photos / "broken.png", to="-") == FAILED
    assert b"broken.png is damaged" in capfdbinary.readouterr().err


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
        assert r"failed: \udcff\udcfe.png is damaged" in shown
    assert len(files_below(tmp_path / "out")) == 5


def test_tiles_of_their_own_experts_come_with_the_map(photos, tmp_path, restore) -> None:
    target = tmp_path / "tiled.png"
    assert (
        restore(photos / "c.png", "--route-tiles", "-t", "64", "--overlap", "8", to=target) == DONE
    )
    tiles = json.loads((tmp_path / "tiled.png.routes.json").read_text())["tiles"]
    assert len(tiles) == 1
    assert {"top_px", "left_px", "expert", "level", "confidence"} <= tiles[0].keys()


def test_the_report_shows_before_and_after(photos, tmp_path, restore) -> None:
    restore(photos, "-r", "--report", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 10
    assert "trip/b.webp" in page
    assert "broken.png" in page
    assert "http" not in page.split("base64")[0]


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same(photos, tmp_path, restore, dtype: str) -> None:
    restore(photos / "c.png", to=tmp_path / "full.png")
    assert restore(photos / "c.png", "--dtype", dtype, to=tmp_path / "half.png") == DONE
    full, half = (np.array(opened(tmp_path / f"{n}.png")) for n in ("full", "half"))
    difference = np.abs(full.astype(int) - half)
    assert 0 < difference.max() < 16


def test_words_reach_a_network_that_takes_sentences_and_are_told_apart(
    photos, tmp_path, parts, capsys
) -> None:
    restorer, words = told_restorer(parts, tmp_path, INSTRUCT), "take the rain off, please"

    def restore(said: str) -> int:
        own = ["--bundle", str(tmp_path / "bundle"), "-i", str(photos / "c.png"), "--overwrite"]
        own += ["-o", str(tmp_path / "out"), "--instruction", said]
        return run(parse(own, program="test", description=""), in_this_process)

    assert restore(words) == DONE
    image = read_photo((photos / "c.png").read_bytes(), max_pixels=None).tensor()
    expected = to_u8(restorer.restore(image, Wish(words=words)).image)
    assert np.array_equal(np.array(opened(tmp_path / "out" / "c.png"))[..., :3], expected)
    assert restore(words) == DONE
    assert "0 of 1 restored" in capsys.readouterr().out
    assert restore("rain") == DONE
    assert "1 of 1 restored" in capsys.readouterr().out


def test_options_without_words_have_the_digest_of_before_there_were_words() -> None:
    named = RestoreOptions(wish=Wish(instruction=("rain",), confidence=1))
    assert (RestoreOptions().digest, named.digest) == (
        "91c6ace5616f845d0e35",
        "8465f32f6dfea0d42762",
    )


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


@pytest.mark.parametrize("existing", [[], ["--overwrite"]])
def test_what_somebody_retouched_is_replaced_only_if_asked(
    photos, tmp_path, restore, capsys, existing
) -> None:
    restore(photos)
    written = (tmp_path / "out" / "c.png").read_bytes()
    (tmp_path / "out" / "c.png").write_bytes(b"retouched")
    os.utime(photos / "c.png", ns=(1, 1))
    expected, is_kept = (FAILED, False) if existing else (USAGE, True)
    assert restore(photos, *existing) == expected  # one is broken
    found = (tmp_path / "out" / "c.png").read_bytes()
    assert found == (b"retouched" if is_kept else written)
    assert ("would replace files, such as" in capsys.readouterr().err) == is_kept


@pytest.mark.parametrize(("flags", "is_kept"), [([], True), (["--no-preserve"], False)])
def test_times_and_permissions_are_kept(photos, tmp_path, restore, flags, is_kept) -> None:
    then = 915_148_800_000_000_000  # in 1999
    (photos / "c.png").chmod(0o640)
    os.utime(photos / "c.png", ns=(then, then))
    restore(photos, *flags)
    status = (tmp_path / "out" / "c.png").stat()
    assert (status.st_mtime_ns == then) == is_kept
    assert (status.st_mode & 0o777 == 0o640) == is_kept
    assert restore(photos, *flags) == FAILED  # it is known again, and one is broken


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


@pytest.mark.parametrize("name", ["x.gif", "x.jxl", "new.v2"])
def test_a_suffix_of_no_format_makes_no_folder(photos, tmp_path, restore, capsys, name) -> None:
    assert restore(photos / "c.png", to=str(tmp_path / name)) == USAGE
    assert "is no format that is written" in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    assert restore(photos / "c.png", to=f"{tmp_path}/{name}/") == DONE
    assert (tmp_path / name / "c.png").is_file()


def test_a_stream_takes_the_format_of_its_outputs_name(
    photos, tmp_path, restore, monkeypatch
) -> None:
    class Stream:
        buffer = io.BytesIO((photos / "d.bmp").read_bytes())

    monkeypatch.setattr(sys, "stdin", Stream)
    assert restore("-", to=tmp_path / "OUT.JPG") == DONE
    assert opened(tmp_path / "OUT.JPG").format == "JPEG"


def test_a_pipe_is_read_once_and_written_as_it_is(photos, tmp_path, restore) -> None:
    names = [tmp_path / "in", tmp_path / "out.png"]
    for name in names:
        os.mkfifo(name)
    data = (photos / "c.png").read_bytes()
    found: list[bytes] = []
    threads = [
        threading.Thread(target=names[0].write_bytes, args=(data,)),
        threading.Thread(target=lambda: found.append(names[1].read_bytes())),
    ]
    for thread in threads:
        thread.start()
    assert restore(names[0], to=names[1]) == DONE
    for thread in threads:
        thread.join(timeout=60)
    assert PillowImage.open(io.BytesIO(found[0])).size == (56, 40)


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
