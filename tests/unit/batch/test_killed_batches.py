"""The program itself, on two hundred mixed files: killed twice, and on a cluster."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree import Restorer
from expertree.batch.manifest import MANIFEST
from expertree.images.photo_file import read_photo, write_photo

JOB = Path(__file__).parents[3] / "jobs" / "restore.py"
NUM_FILES = 200

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def exif_of(number: int) -> PillowImage.Exif:
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112] = f"Maker {number}", number % 8 + 1
    return exif


def mixed_photographs(folder: Path, num_files: int) -> None:
    """Photographs of all kinds, every tenth broken; real ones among them where there are any."""
    root = os.environ.get("EXPERTREE_DATA")
    real = sorted(Path(root, "unpaired_real", "rain").glob("*.jpg"))[:20] if root else []
    rng = np.random.default_rng(0)
    for number in range(num_files):
        place = folder / ("trip" if number % 3 else "") / f"{number:03d}"
        place.parent.mkdir(parents=True, exist_ok=True)
        height, width = (int(side) for side in rng.integers(40, 200, 2))
        image = PillowImage.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        kind = number % 10
        if kind == 0:
            data = io.BytesIO()
            image.save(data, format="PNG")
            place.with_suffix(".png").write_bytes(data.getvalue()[:-200])
        elif kind == 1 and real:
            data = real[number // 10 % len(real)].read_bytes()
            place.with_suffix(".jpg").write_bytes(data)
        elif kind in {1, 2, 3}:
            image.save(place.with_suffix(".jpg"), exif=exif_of(number), quality=90)
        elif kind in {4, 5}:
            image.convert("RGBA").save(place.with_suffix(".png"), exif=exif_of(number))
        elif kind == 6:
            deep = rng.integers(0, 65536, (height, width, 3)).astype(np.uint16)
            cv2.imwrite(str(place.with_suffix(".png" if number % 20 == 6 else ".tif")), deep)
        elif kind == 7:
            image.convert("L").save(place.with_suffix(".webp"), lossless=True)
        else:
            image.save(place.with_suffix(".bmp" if kind == 8 else ".tif"))


def start(source: Path, target: Path, bundle: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, JOB, "-i", source, "-o", target, "-r", "--json", *flags]
    return subprocess.Popen(
        [*map(str, command), "--bundle", str(bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1, err  # some files are broken
    return json.loads(out)


def num_lines(path: Path) -> int:
    """Lines of photographs, without those that a next batch takes over from the journals."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else ()
    return sum(b'"writing"' not in line for line in lines)


def kill_after(process: subprocess.Popen, manifest: Path, num_more: int) -> int:
    """Kill it in the middle of a photograph, without warning; says how many lines there are."""
    wanted = num_lines(manifest) + num_more
    while num_lines(manifest) < wanted:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return num_lines(manifest)


def test_a_batch_killed_twice_ends_complete_and_then_does_nothing(
    tmp_path: Path, bundle_path: Path
) -> None:
    source, target = tmp_path / "photos", tmp_path / "out"
    mixed_photographs(source, NUM_FILES)
    for num_more in (40, 70):
        kill_after(start(source, target, bundle_path), target / MANIFEST, num_more)
        for path in target.rglob("*"):  # what is there is whole
            if path.is_file() and path.name != MANIFEST and not path.name.startswith(".partial"):
                read_photo(path.read_bytes(), max_pixels=None)
    summary = finished(start(source, target, bundle_path))
    assert summary["num_earlier"] >= 90
    assert summary["num_restored"] + summary["num_earlier"] == NUM_FILES * 9 // 10
    assert len(summary["failures"]) == NUM_FILES // 10
    check_all(source, target, bundle_path)

    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    again = finished(start(source, target, bundle_path))
    assert (again["num_restored"], again["num_earlier"]) == (0, NUM_FILES * 9 // 10)
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


def check_all(source: Path, target: Path, bundle_path: Path) -> None:
    """Each file is what the restorer makes of its photograph, in its format, depth and EXIF."""
    restorer = Restorer.load(bundle_path)
    names = {path.relative_to(source) for path in source.rglob("*.*")}
    written = {path.relative_to(target) for path in target.rglob("*.*")} - {Path(MANIFEST)}
    written = {name for name in written if not name.name.startswith(".partial")}
    assert len(written) == len(names) * 9 // 10
    for name in sorted(written):
        photo = read_photo((source / name).read_bytes(), max_pixels=None)
        found = read_photo((target / name).read_bytes(), max_pixels=None)
        expected = write_photo(photo, restorer.restore(photo.tensor()).image)
        assert (target / name).read_bytes() == expected
        assert (found.format, found.depth) == (photo.format, photo.depth)
        assert (found.alpha is None) == (photo.alpha is None)
        assert found.metadata.exif == photo.metadata.exif


@pytest.mark.ray
def test_a_cluster_restores_the_same_files_and_goes_on_too(
    tmp_path: Path, bundle_path: Path
) -> None:
    source, target = tmp_path / "photos", tmp_path / "out"
    mixed_photographs(source, 40)
    summary = finished(start(source, target, bundle_path, "--cluster", "local"))
    assert summary["num_restored"] == 36
    check_all(source, target, bundle_path)
    (target / "trip" / "001.jpg").unlink()
    again = finished(start(source, target, bundle_path, "--cluster", "local"))
    assert (again["num_restored"], again["num_earlier"]) == (1, 35)
