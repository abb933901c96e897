"""A folder of photographs, and the command on it with the small bundle."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree.batch.arguments import parse
from expertree.batch.command import in_this_process, run
from photo_folders import exif_of, photo_u8


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

    def restored(
        source: Path | str,
        *flags: str,
        to: Path | str = tmp_path / "out",
        how: Callable = in_this_process,
    ) -> int:
        arguments = ["--bundle", str(bundle_path), "-i", str(source), "-o", str(to), *flags]
        return run(parse(arguments, program="test", description=""), how)

    return restored
