"""Folders of photographs as people have them, and the command's exit codes."""

import io
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from photographs import random_u8

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130


def photo_u8(seed: int = 0) -> np.ndarray:
    return random_u8(40, 56, seed)


def exif_of(orientation: int) -> PillowImage.Exif:
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112] = "A maker", orientation
    return exif


def opened(path: Path) -> PillowImage.Image:
    return PillowImage.open(io.BytesIO(path.read_bytes()))


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
