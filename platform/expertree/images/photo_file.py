"""Reading a user's photograph so that nothing is lost, and writing it again with other pixels.

The network gets upright sRGB. `Photo` keeps what else the file holds: its depth, transparency,
colour profile, EXIF, text and resolution. Colours that sRGB cannot show are not clipped: what the
network changed is added to the original ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt

from expertree.errors import TooLargeError, UnsupportedFormatError
from expertree.images.containers import PHOTO_FORMATS, PhotoFormat, read_header
from expertree.images.icc import ColourSpace, read_colour_space
from expertree.images.photo_encoding import MAX_SIDE_PX, encode, left_out
from expertree.images.photo_metadata import Metadata
from expertree.images.photo_pixels import JpegCoding, decode

if TYPE_CHECKING:
    from torch import Tensor

DEEP_FORMATS: frozenset[PhotoFormat] = frozenset({"png", "tiff", "heic"})
"""Formats that are written from 16 bits a channel; HEIC keeps 10 of them."""

LOSSY_FORMATS: frozenset[PhotoFormat] = frozenset({"jpeg", "webp", "avif", "heic"})
"""Formats that are written at a quality."""

_GREY_FORMATS: frozenset[PhotoFormat] = frozenset({"png", "jpeg", "tiff"})
_OPAQUE_GREY_FORMATS: frozenset[PhotoFormat] = _GREY_FORMATS | {"avif", "heic", "bmp"}
"""Formats that hold grey, with transparency (or, for JPEG, without any) and without; the others,
and TIFF of 16 bits with transparency, make RGB of it, of which a profile of grey says nothing."""

_STRIP_PX = 1 << 20
"""Pixels that are converted at a time, as a whole photograph in double precision is large."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of R, G and B in the luma of BT.601, by which a restored image becomes grey again."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Photo:
    """An upright photograph, with what else its file holds.

    Attributes:
        format: Format of its file, by the first bytes.
        colour: uint8 or uint16 `[height, width, 1]` (grey) or `[height, width, 3]` (RGB), in the
            colours of its profile.
        alpha: Transparency at the same depth, `[height, width]`; None if the file has none.
        is_grey: Whether there is no colour in it, however it is stored.
        metadata: Metadata of its file, for upright pixels.
        jpeg: Coding of its file if that is a JPEG, otherwise None.
        is_lossless: Whether the coding of its file keeps every pixel.
        notes: Notes in words on what could not be kept as it was.
    """

    format: PhotoFormat
    colour: np.ndarray[Any, np.dtype[Any]]
    alpha: np.ndarray[Any, np.dtype[Any]] | None
    is_grey: bool
    metadata: Metadata
    jpeg: JpegCoding | None
    is_lossless: bool
    notes: tuple[str, ...]

    @property
    def height_px(self) -> int:
        """Height, upright."""
        return int(self.colour.shape[0])

    @property
    def width_px(self) -> int:
        """Width, upright."""
        return int(self.colour.shape[1])

    @property
    def num_pixels(self) -> int:
        """Height times width."""
        return self.height_px * self.width_px

    @property
    def depth(self) -> int:
        """Bits per channel: 8 or 16."""
        return 8 * self.colour.dtype.itemsize

    @property
    def opaque(self) -> int:
        """Largest code of a channel; of transparency, that of pixels without any."""
        return int(2**self.depth - 1)

    @property
    def is_srgb(self) -> bool:
        """Whether its values count as sRGB: by its profile, or for lack of a usable one."""
        return _colour_space(self) is None

    def tensor(self) -> Float32[Tensor, "3 height width"]:
        """Return the photograph as networks take it: upright, sRGB, in [0, 1]; 16 bits are kept."""
        import torch  # noqa: PLC0415 - seconds to load, and listing files needs none

        values = torch.empty(3, self.height_px, self.width_px)
        space = _colour_space(self)
        for rows in _strips(self):
            srgb = _to_srgb(self.colour[rows], space).clip(0.0, 1.0)
            part = torch.from_numpy(np.ascontiguousarray(srgb.transpose(2, 0, 1), dtype=np.float32))
            values[:, rows] = part  # grey fills all three
        return values


def read_photo(data: bytes, *, max_pixels: int | None) -> Photo:
    """Read a photograph from a user's file.

    The header is checked before anything is decoded. A truncated file is an error; what follows
    its end is ignored. Palettes, CMYK and black-and-white become RGB or grey, with a note.

    Args:
        data: PNG, JPEG, WebP, AVIF, HEIC, BMP or TIFF; of several pictures in a
            JPEG (MPO) the first, in a HEIC the main one.
        max_pixels: Most pixels that it may claim; any number if None.

    Raises:
        UnsupportedFormatError: If it is of another kind, has several frames or pages, or pixels
            that neither 8 nor 16 bits hold.
        TooLargeError: If it claims more pixels than allowed.
        DamagedImageError: If it cannot be decoded whole.
    """
    header = read_header(data)
    num_pixels = header.width_px * header.height_px
    if max_pixels is not None and num_pixels > max_pixels:
        raise TooLargeError(
            f"claims {header.width_px:,} x {header.height_px:,} = {num_pixels:,} pixels, of which "
            f"at most {max_pixels:,} are allowed"
        )
    if header.num_frames > 1:
        what = "several pages" if header.format == "tiff" else "an animation"
        raise UnsupportedFormatError(f"holds {what}; give one picture a file")
    decoded = decode(data, header)
    colour = _turned(decoded.colour, decoded.orientation)
    return Photo(
        format=header.format,
        colour=colour,
        alpha=None if decoded.alpha is None else _turned(decoded.alpha, decoded.orientation),
        is_grey=_is_grey(colour),
        metadata=decoded.metadata,
        jpeg=decoded.jpeg,
        is_lossless=decoded.is_lossless,
        notes=decoded.notes,
    )


def notes_for(photo: Photo, kind: PhotoFormat | None) -> tuple[str, ...]:
    """Return notes in words on what is not as it was where a photograph is written anew.

    Args:
        photo: The photograph.
        kind: Format that it is written in; its own if None.
    """
    kind = kind or photo.format
    notes = list(photo.notes)
    if photo.depth > 8 and kind not in DEEP_FORMATS:
        notes.append(f"its {photo.depth} bits a channel became 8")
    if photo.depth > 8 and kind == "heic" and photo.format != "heic":
        notes.append(f"its {photo.depth} bits a channel became 10")
    if _outgrows_profile(photo, kind):
        notes.append("its grey became RGB (sRGB)")
    if missing := left_out(photo.metadata, kind):
        notes.append(f"its {', '.join(missing)} left out, which {kind.upper()} does not hold")
    return tuple(notes)


def why_not(photo: Photo, kind: PhotoFormat) -> str | None:
    """Return why a format cannot hold a photograph, as a clause that can follow its name, or None.

    Args:
        photo: The photograph.
        kind: The format.
    """
    if kind == "jpeg" and photo.alpha is not None and (photo.alpha != photo.opaque).any():
        return "has transparency, which JPEG cannot hold; choose png, webp or tiff"
    longest_px = MAX_SIDE_PX.get(kind)
    if longest_px is not None and max(photo.height_px, photo.width_px) > longest_px:
        return f"has a side above the {longest_px:,} px that {kind} holds; give png or tiff"
    return None


def write_photo(
    photo: Photo,
    restored: Float32[Tensor, "3 height width"],
    *,
    format: PhotoFormat | None = None,  # noqa: A002 - as users call it
    quality: int | None = None,
) -> bytes:
    """Return a photograph's file with restored pixels.

    Args:
        photo: The photograph.
        restored: The restored `photo.tensor()`: sRGB in [0, 1], of the same size.
        format: Format of the file; the photograph's own by default. Only PNG and TIFF hold more
            than 8 bits, and HEIC 10.
        quality: Quality of lossy formats, 1 to 100. By default lossless stays lossless, and lossy
            is coded at 95 or as finely as it was.

    Raises:
        ValueError: If `restored` has another size or values that are no numbers, the format is
            unknown or cannot hold the photograph; the message can follow the file's name.
    """
    kind = photo.format if format is None else format
    if kind not in PHOTO_FORMATS:
        raise ValueError(f"unknown format '{kind}'; choose {', '.join(PHOTO_FORMATS)}")
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, got {quality}")
    if tuple(restored.shape) != (3, photo.height_px, photo.width_px):
        raise ValueError(
            f"expected restored [3, {photo.height_px}, {photo.width_px}], got "
            f"{list(restored.shape)}"
        )
    if (reason := why_not(photo, kind)) is not None:
        raise ValueError(reason)
    if _outgrows_profile(photo, kind):
        photo = dataclasses.replace(photo, metadata=dataclasses.replace(photo.metadata, icc=None))
    depth = photo.depth if kind in DEEP_FORMATS else 8
    return encode(
        kind,
        _with_alpha(_codes(photo, restored, depth), photo, depth, kind),
        photo.metadata,
        quality=quality,
        jpeg=photo.jpeg,
        is_lossless=photo.is_lossless,
    )


def _outgrows_profile(photo: Photo, kind: PhotoFormat) -> bool:
    """Return whether a format makes RGB of grey whose profile would change that RGB's tones."""
    icc = photo.metadata.icc
    if icc is None or photo.colour.shape[2] != 1:
        return False
    formats = _OPAQUE_GREY_FORMATS if photo.alpha is None else _GREY_FORMATS
    is_deep_tiff = kind == "tiff" and photo.alpha is not None and photo.depth > 8
    if kind in formats and not is_deep_tiff:
        return False
    return icc[16:20] == b"GRAY" or read_colour_space(icc, num_channels=3, depth=8) is not None


def _codes(
    photo: Photo, restored: Float32[Tensor, "3 height width"], depth: int
) -> UInt[np.ndarray, "height width channels"]:
    """Convert restored sRGB to pixel values in the photograph's channels and colours."""
    dtype = np.uint8 if depth == 8 else np.uint16
    codes = np.empty(photo.colour.shape, dtype=dtype)
    scale = (2**depth - 1) / (2**photo.depth - 1)
    space = _colour_space(photo)
    for rows in _strips(photo):
        wanted = restored[:, rows].detach().float().clamp(0.0, 1.0).cpu().numpy()
        if not np.isfinite(wanted).all():
            raise ValueError("was restored to values that are no numbers")
        values = wanted.transpose(1, 2, 0).astype(np.float64)
        if photo.is_grey:
            values = np.repeat(values @ _LUMA[:, None], photo.colour.shape[2], axis=2)
        if space is None:
            fitting = values * (2**photo.depth - 1)
        else:
            before = _to_srgb(photo.colour[rows], space)
            change = values - before.clip(0.0, 1.0).astype(np.float32)
            fitting = space.from_srgb(before + change)
        codes[rows] = (fitting * scale).round().clip(0, 2**depth - 1).astype(dtype)
    return codes


def _to_srgb(
    colour: UInt[np.ndarray, "h w c"], space: ColourSpace | None
) -> np.ndarray[Any, np.dtype[Any]]:
    if space is not None:
        return space.to_srgb(colour)
    return colour.astype(np.float32) / np.float32(np.iinfo(colour.dtype).max)


def _colour_space(photo: Photo) -> ColourSpace | None:
    """Return the colour space of the photograph's profile; None if it needs no conversion."""
    if photo.metadata.icc is None:
        return None
    return read_colour_space(
        photo.metadata.icc, num_channels=photo.colour.shape[2], depth=photo.depth
    )


def _with_alpha(
    codes: UInt[np.ndarray, "h w c"], photo: Photo, depth: int, kind: PhotoFormat
) -> UInt[np.ndarray, "h w d"]:
    """Append the alpha channel to the colours, if there is one."""
    if photo.alpha is None:
        return codes
    if kind == "jpeg":  # opaque, by `why_not`
        return codes
    alpha = photo.alpha
    if depth < photo.depth:
        alpha = (alpha * ((2**depth - 1) / photo.opaque)).round().astype(codes.dtype)
    return np.concatenate([codes, alpha[..., None]], axis=2)


def _turned(
    pixels: np.ndarray[Any, np.dtype[Any]], orientation: int
) -> np.ndarray[Any, np.dtype[Any]]:
    """Turn pixels upright by EXIF's orientation (CIPA DC-008, tag 274)."""
    if orientation >= 5:  # stored by columns
        pixels = pixels.swapaxes(0, 1)
    flip_rows, flip_columns = orientation in {3, 4, 7, 8}, orientation in {2, 3, 6, 7}
    pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return np.ascontiguousarray(pixels)


def _is_grey(colour: UInt[np.ndarray, "h w c"]) -> bool:
    if colour.shape[2] == 1:
        return True
    return bool((colour[..., :1] == colour[..., 1:]).all())


def _strips(photo: Photo) -> Iterator[slice]:
    num_rows = max(1, _STRIP_PX // photo.width_px)
    return (slice(start, start + num_rows) for start in range(0, photo.height_px, num_rows))
