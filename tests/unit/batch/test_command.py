"""The command on folders: what is restored, what is kept, what is done again."""

import json
import os
import shutil
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree import Restorer
from expertree.batch.arguments import parse
from expertree.batch.command import BatchTask, in_this_process, run
from expertree.batch.manifest import MANIFEST
from expertree.batch.settings import RestoreOptions
from expertree.images.io import to_u8
from expertree.images.photo_file import read_photo
from expertree.routing import Wish
from photo_folders import DONE, FAILED, STOPPED, USAGE, files_below, opened, photo_u8


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
    assert "failed: broken.png is truncated: its end is missing" in shown.out
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


def test_a_batch_that_is_stopped_goes_on_where_it_was(photos, tmp_path, restore, capsys) -> None:
    def stopping(task: BatchTask, on_tile) -> Iterator:
        for number, record in enumerate(in_this_process(task, on_tile)):
            if number == 2:
                raise KeyboardInterrupt  # the third is written, and nobody was told
            yield record

    assert restore(photos, "-r", how=stopping) == STOPPED
    assert "goes on where it was" in capsys.readouterr().err
    num_lines = len((tmp_path / "out" / MANIFEST).read_text().splitlines())
    assert num_lines == 2
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


@pytest.mark.parametrize("flags", [["--suffix", "_x"], ["--format", "webp"]])
def test_results_beside_their_photographs_are_not_restored_again(
    photos, restore, capsys, flags
) -> None:
    (photos / "broken.png").unlink()
    assert restore(photos, *flags, to=photos) == DONE
    names, _ = set(files_below(photos)), capsys.readouterr()
    PillowImage.fromarray(photo_u8(7)).save(photos / "new.png")
    assert restore(photos, *flags, to=photos) == DONE
    shown = capsys.readouterr().out
    assert "1 of 5 restored in" in shown
    assert "4 restored before" in shown
    assert len(files_below(photos)) == len(names) + 2


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same(photos, tmp_path, restore, dtype: str) -> None:
    restore(photos / "c.png", to=tmp_path / "full.png")
    assert restore(photos / "c.png", "--dtype", dtype, to=tmp_path / "half.png") == DONE
    full, half = (np.array(opened(tmp_path / f"{n}.png")) for n in ("full", "half"))
    difference = np.abs(full.astype(int) - half)
    assert 0 < difference.max() < 16


def test_words_reach_a_network_that_takes_sentences_and_are_told_apart(
    photos, tmp_path, told_bundle, capsys
) -> None:
    bundle, words = told_bundle("instructir"), "take the rain off, please"
    restorer = Restorer.load(bundle)

    def restore(said: str) -> int:
        own = ["--bundle", str(bundle), "-i", str(photos / "c.png"), "--overwrite"]
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


def test_photographs_of_one_name_from_two_folders_do_not_replace_each_other(
    tmp_path, restore, capsys
) -> None:
    folders, written = (tmp_path / "f1", tmp_path / "f2"), tmp_path / "out" / "a.png"
    for seed, folder in enumerate(folders):
        folder.mkdir()
        PillowImage.fromarray(photo_u8(seed)).save(folder / "a.png")
    assert restore(folders[0]) == DONE
    before = written.read_bytes()
    for source in (folders[1], folders[1] / "a.png"):
        assert restore(source) == USAGE
        assert "1 of 1 restored photographs would replace files" in capsys.readouterr().err
    assert written.read_bytes() == before
    assert restore(folders[1], "--overwrite") == DONE
    assert written.read_bytes() != before
    assert restore(folders[0]) == USAGE
    assert restore(folders[0], "--overwrite") == DONE
    assert written.read_bytes() == before
    capsys.readouterr()
    assert restore(folders[0] / "a.png") == DONE
    assert "0 of 1 restored in 0:00, 1 earlier" in capsys.readouterr().out


def test_what_other_options_replaced_is_restored_again(photos, tmp_path, restore, capsys) -> None:
    source, written = photos / "c.png", tmp_path / "out" / "c.png"
    assert restore(source) == DONE
    before = written.read_bytes()
    assert restore(source, "--strength", "0", "--overwrite") == DONE
    assert written.read_bytes() != before
    assert restore(source) == USAGE
    capsys.readouterr()
    assert restore(source, "--overwrite") == DONE
    assert "1 of 1 restored" in capsys.readouterr().out
    assert written.read_bytes() == before
