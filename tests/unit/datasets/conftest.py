"""Tiny images in the folders of well-known sets."""

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

Fill = Callable[..., Path]


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """Write an image of its own content to each path; gives the root."""

    def write(names: Iterable[str], *, height_px: int = 20, width_px: int = 24) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = sum(name.encode())
            shape = (height_px, width_px, 3)
            pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
            assert cv2.imwrite(str(path), pixels)
        return tmp_path

    return write
