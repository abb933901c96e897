"""Times of the whole command `expertree restore`, from its start to its end, start-up apart."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage import data

_COMMAND = "from expertree.cli.main import main; raise SystemExit(main())"
_NOISE = 12.0
"""Standard deviation of the noise of the photographs, of 255."""


def time_command(
    folder: Path,
    num_photographs: int,
    width_px: int,
    height_px: int,
    *,
    bundle: str,
    engine: str,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Restore a folder of photographs in a process of its own, each by an expert.

    Args:
        folder: An empty folder to work in.
        num_photographs: How many JPEGs, all the same.
        width_px: Their width.
        height_px: Their height.
        bundle: The model.
        engine: What experts compute by.
        dtype: What experts compute in.

    Returns:
        `wall_s` of the whole; `start_s` of it before the first photograph is taken: imports, the
        bundle; `photograph_s` of each after that; `cpu_s`, the seconds that processors worked.
    """
    photos = folder / "photos"
    photos.mkdir()
    jpeg = _photograph(width_px, height_px)
    for number in range(num_photographs):
        (photos / f"{number:04d}.jpg").write_bytes(jpeg)
    options = ["--bundle", bundle, "--engine", engine, "--dtype", dtype, "--insist", "--json"]
    paths = ["-i", str(photos), "-o", str(folder / "restored")]
    before, begin = _cpu_s(), time.perf_counter()
    done = subprocess.run(  # noqa: S603 - this program itself
        [sys.executable, "-c", _COMMAND, "restore", *paths, *options],
        check=True,
        stdout=subprocess.PIPE,
    )
    wall_s, cpu_s = time.perf_counter() - begin, _cpu_s() - before
    seconds = json.loads(done.stdout)["seconds"]
    return {
        "engine": engine,
        "dtype": dtype,
        "num_photographs": num_photographs,
        "megapixels": round(width_px * height_px / 1e6, 2),
        "wall_s": round(wall_s, 2),
        "start_s": round(wall_s - seconds, 2),
        "photograph_s": round(seconds / num_photographs, 2),
        "cpu_s": round(cpu_s, 2),
    }


def _photograph(width_px: int, height_px: int) -> bytes:
    """Return a noisy photograph as JPEG."""
    chelsea: Any = data.chelsea  # which has no types
    large = cv2.resize(chelsea(), (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).normal(0.0, _NOISE, large.shape)
    noisy = np.clip(large + noise, 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return encoded.tobytes()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
