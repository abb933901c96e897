"""Mixing an image with its restoration, at a strength that the user chooses."""

from typing import Any, TypeAlias, TypeVar

import numpy as np
from torch import Tensor

_Pixels: TypeAlias = np.ndarray[Any, Any]

ImageT = TypeVar("ImageT", np.ndarray[Any, Any], Tensor)

_BLOCK_ROWS = 64
"""Rows mixed at a time in double precision, so that a large image needs no more memory than two."""


def check_strength(strength: float) -> None:
    """Raise ValueError unless a strength is in [0, 1]."""
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength must be from 0 to 1, got {strength!r}")


def mix(before: ImageT, after: ImageT, strength: float) -> ImageT:
    """Mix an image with its restoration: before + strength (after - before).

    Args:
        before: The image, uint8 or float.
        after: The restoration, of the same type and shape.
        strength: In [0, 1]. 0 returns `before` and 1 `after`, to the bit and not copied. Between,
            uint8 is rounded to the nearest value, with halves rounded up.

    Raises:
        ValueError: If the strength is not in [0, 1], or the images differ in shape or type.
    """
    check_strength(strength)
    if before.shape != after.shape or before.dtype != after.dtype:
        raise ValueError(
            f"an image of {list(before.shape)}, {before.dtype}, cannot be mixed with one of "
            f"{list(after.shape)}, {after.dtype}"
        )
    if strength == 0.0:
        return before
    if strength == 1.0:
        return after
    if isinstance(before, np.ndarray):
        return _mix_pixels(before, after, strength)
    mixed = after - before
    return mixed.mul_(strength).add_(before)  # in its memory: a photograph may be a gigabyte


def _mix_pixels(before: _Pixels, after: _Pixels, strength: float) -> _Pixels:
    mixed = np.empty_like(before)
    for top in range(0, len(before), _BLOCK_ROWS):
        rows = slice(top, top + _BLOCK_ROWS)
        between = before[rows] + strength * (after[rows].astype(np.float64) - before[rows])
        mixed[rows] = np.floor(between + 0.5) if before.dtype == np.uint8 else between
    return mixed
