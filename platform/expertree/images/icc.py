"""Converting colours from ICC profiles to sRGB, which networks take, and back.

The usual profiles of photographs (sRGB, Adobe RGB, Display P3, ProPhoto, Rec. 2020, grey) are a
curve for each channel and a matrix (ICC.1:2022, section 8.3.3, 8.4.3). They are computed here in
double precision, since Pillow's colour management knows 8 bits only. A profile that is a table has
no exact inverse and is ignored.
"""

import dataclasses
import struct
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float64, UInt

_Table: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

SAME_CURVE, SAME_MATRIX = 0.5 / 255, 2e-3
"""Largest differences from sRGB's curves (half a grey level) and matrix at which a profile counts
as sRGB, as such profiles differ by rounding."""

# The primaries of sRGB at D50, as columns (ICC's sRGB profile; Bradford adaptation).
_SRGB_TO_XYZ = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ColourSpace:
    """The colours of one profile, at one depth.

    Attributes:
        curves: Linear light of each pixel value, by channel, rising from 0 to 1.
        to_linear_srgb: Matrix from the profile's linear light to sRGB's; the identity for grey.
    """

    curves: tuple[_Table, ...]
    to_linear_srgb: _Table

    def to_srgb(self, codes: UInt[np.ndarray, "h w c"]) -> Float64[np.ndarray, "h w c"]:
        """Convert pixel values to sRGB, in [0, 1]; colours that sRGB cannot show lie outside."""
        light = np.stack([curve[codes[..., i]] for i, curve in enumerate(self.curves)], axis=-1)
        return _encode(light @ self.to_linear_srgb.T)

    def from_srgb(self, values: Float64[np.ndarray, "h w c"]) -> Float64[np.ndarray, "h w c"]:
        """Convert sRGB to pixel values, not rounded, and clipped to what the profile can show."""
        light = _decode(values) @ np.linalg.inv(self.to_linear_srgb).T
        codes = np.arange(len(self.curves[0]), dtype=np.float64)
        return np.stack(
            [np.interp(light[..., i], curve, codes) for i, curve in enumerate(self.curves)], axis=-1
        )


def read_colour_space(profile: bytes, *, num_channels: int, depth: int) -> ColourSpace | None:
    """Read the colour space of an image from its profile.

    Args:
        profile: ICC profile of any version.
        num_channels: Channels of the image, 1 or 3.
        depth: Bits per channel.

    Returns:
        The colour space; None if there is nothing to convert: the profile is sRGB's, is for images
        of another kind, is a table, or is broken.
    """
    try:
        space = _read(profile, num_channels, 2**depth)
    except (struct.error, IndexError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if space is None or not all(_is_rising(curve) for curve in space.curves):
        return None
    return None if _is_srgb(space) else space


def _is_srgb(space: ColourSpace) -> bool:
    """Return whether this is sRGB up to the rounding of its curves and matrix."""
    light = _encode(np.stack(space.curves))
    is_curve = np.abs(light - np.linspace(0.0, 1.0, light.shape[1])).max() <= SAME_CURVE
    mixed = np.abs(space.to_linear_srgb - np.eye(len(space.curves))).max()
    return bool(is_curve and mixed <= SAME_MATRIX)


def _read(profile: bytes, num_channels: int, num_codes: int) -> ColourSpace | None:
    space, connection, signature = profile[16:20], profile[20:24], profile[36:40]
    wanted = b"GRAY" if num_channels == 1 else b"RGB "
    if signature != b"acsp" or space != wanted or connection not in {b"XYZ ", b"Lab "}:
        return None
    tags = _tags(profile)
    if num_channels == 1:
        if b"kTRC" not in tags or connection != b"XYZ ":
            return None
        return ColourSpace(curves=(_curve(tags[b"kTRC"], num_codes),), to_linear_srgb=np.eye(1))
    if not {b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"} <= tags.keys():
        return None
    to_xyz = np.array([_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]).T
    to_linear_srgb = np.linalg.inv(_SRGB_TO_XYZ) @ to_xyz
    if not np.isfinite(to_linear_srgb).all() or abs(np.linalg.det(to_linear_srgb)) < 1e-3:
        return None
    curves = tuple(_curve(tags[name], num_codes) for name in (b"rTRC", b"gTRC", b"bTRC"))
    return ColourSpace(curves=curves, to_linear_srgb=to_linear_srgb)


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {}
    for index in range(min(count, 200)):
        name, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        tags[name] = profile[offset : offset + size]
    return tags


def _xyz(tag: bytes) -> tuple[float, float, float]:
    x, y, z = struct.unpack_from(">iii", tag, 8)
    return x / 65536, y / 65536, z / 65536


def _curve(tag: bytes, num_codes: int) -> _Table:
    """Return the linear light of each pixel value, by a `curv` or `para` tag."""
    x = np.linspace(0.0, 1.0, num_codes)
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return x
        if count == 1:
            return np.asarray(x ** (struct.unpack_from(">H", tag, 12)[0] / 256))
        table = np.array(struct.unpack_from(f">{count}H", tag, 12)) / 65535
        return np.interp(x, np.linspace(0.0, 1.0, count), table)
    if tag[:4] == b"para":
        return _parametric(x, tag)
    raise ValueError(f"a curve of type {tag[:4]!r}")


def _parametric(x: _Table, tag: bytes) -> _Table:
    """Return (a x + b) ** g + e from d on, else c x + f, by a `para` tag (ICC.1:2022, table 68)."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    num_values = (1, 3, 4, 5, 7)[kind]
    values = [value / 65536 for value in struct.unpack_from(f">{num_values}i", tag, 12)]
    c = d = e = f = 0.0
    g, a, b = values[0], *(values[1:3] or [1.0, 0.0])
    if kind in {1, 2}:  # flat up to where a x + b is 0
        d = -b / a
        e = f = values[3] if kind == 2 else 0.0
    elif kind >= 3:
        c, d, e, f = [*values[3:], 0.0, 0.0][:4]
    upper = np.maximum(a * x + b, 0.0) ** g + e
    return np.where(x >= d, upper, c * x + f)


def _is_rising(curve: _Table) -> bool:
    """Return whether a curve can be undone: it never falls, and goes from dark to light."""
    return bool(
        np.isfinite(curve).all() and (np.diff(curve) >= 0).all() and curve[-1] > 0.5 > curve[0]
    )


def _encode(light: _Table) -> _Table:
    """Convert linear light to sRGB (IEC 61966-2-1), odd around 0 to keep negative values."""
    size = np.abs(light)
    coded = np.where(size <= 0.0031308, size * 12.92, 1.055 * size ** (1 / 2.4) - 0.055)
    return np.asarray(np.copysign(coded, light))


def _decode(values: _Table) -> _Table:
    """Undo `_encode`; the threshold is where its two pieces meet."""
    size = np.abs(values)
    light = np.where(size <= 0.0031308 * 12.92, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.copysign(light, values))
