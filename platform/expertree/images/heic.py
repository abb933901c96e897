"""HEIC, the photographs of telephones, read and written by pillow-heif (libheif), an extra.

It is an extra because its wheels carry x265, which is under the GPL, and because HEVC is under
patents in some countries: whoever installs it decides. `make venv` does.
"""

import dataclasses
import functools
import importlib.util
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt

from expertree.errors import DamagedImageError, UnsupportedFormatError
from expertree.images.channels import as_rgba
from expertree.images.photo_metadata import EXIF_PREFIX, Metadata

ADVICE = "pip install 'expertree[heif]'"
"""What to do where pillow-heif is missing."""

_SDR = ({1, 2}, {1, 2, 6, 13, 14, 15})
"""Primaries and transfer curves (ITU-T H.273) that count as sRGB: BT.709's, or not said."""


@functools.cache
def has_heic() -> bool:
    """Return whether pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeicPicture:
    """The main picture of a HEIC.

    Attributes:
        pixels: Upright, as its container says; uint8, or uint16 for more than 8 bits, `[h, w]` or
            `[h, w, 3 or 4]`.
        metadata: Metadata as stored; its EXIF may still name the turn that was made.
        notes: Notes in words on what else the file holds, and on colours that are not what is said.
    """

    pixels: np.ndarray[Any, np.dtype[Any]]
    metadata: Metadata
    notes: tuple[str, ...]


def read_heic(data: bytes, *, max_pixels: int) -> HeicPicture:
    """Decode a HEIC's main picture; values of 10 and 12 bits become the same shares of 16.

    Args:
        data: The file.
        max_pixels: Most pixels that it may have, those that its header claims.

    Raises:
        UnsupportedFormatError: If pillow-heif is missing, or its colours are premultiplied.
        DamagedImageError: If it cannot be decoded whole.
    """
    if not has_heic():
        raise UnsupportedFormatError(f"is a HEIC image, for which pillow-heif is missing: {ADVICE}")
    import pillow_heif  # noqa: PLC0415 - an extra

    try:
        file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
        image = file[file.primary_index]
        if image.size[0] * image.size[1] > max_pixels:
            raise DamagedImageError(
                f"is damaged: its header hides {image.size[0]} x {image.size[1]}"
            )
        pixels = np.array(image)
    except (ValueError, RuntimeError, EOFError, SyntaxError, OSError, IndexError) as error:
        raise DamagedImageError(f"is damaged ({error})") from error
    if image.premultiplied_alpha:
        raise UnsupportedFormatError(
            "has colours that are multiplied by its transparency; save them unassociated"
        )
    info: Mapping[str, Any] = image.info
    exif = (info.get("exif") or b"").removeprefix(EXIF_PREFIX) or None
    metadata = Metadata(exif=exif, icc=info.get("icc_profile"), xmp=info.get("xmp"))
    return HeicPicture(
        pixels=pixels, metadata=metadata, notes=tuple(_notes(info, num_pictures=len(file)))
    )


def encode_heic(pixels: UInt[np.ndarray, "h w c"], metadata: Metadata, quality: int) -> bytes:
    """Encode pixels as a HEIC: uint8 as 8 bits, uint16 as 10; colours are not subsampled.

    Raises:
        ValueError: If pillow-heif is missing, or it cannot be written.
    """
    if not has_heic():
        raise ValueError(f"cannot be written as HEIC, for which pillow-heif is missing: {ADVICE}")
    import pillow_heif  # noqa: PLC0415 - an extra

    height, width, channels = pixels.shape
    if channels == 2:  # libheif has grey with transparency as RGBA
        pixels = as_rgba(pixels)
    mode = {1: "L", 2: "RGBA", 3: "RGB", 4: "RGBA"}[channels]
    mode = mode if pixels.dtype == np.uint8 else f"{mode};16"
    stream = io.BytesIO()
    try:
        file = pillow_heif.from_bytes(mode, (width, height), np.ascontiguousarray(pixels).tobytes())
        if metadata.icc is not None:
            file[0].info["icc_profile"] = metadata.icc
        file.save(
            stream,
            quality=quality,
            chroma=444,
            exif=None if metadata.exif is None else EXIF_PREFIX + metadata.exif,
            xmp=metadata.xmp,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise ValueError(f"cannot be written as HEIC ({error})") from error
    return stream.getvalue()


def _notes(info: Mapping[str, Any], *, num_pictures: int) -> list[str]:
    parts = {
        "its depth map": bool(info.get("depth_images")),
        "a gain map or another part beside its picture": bool(info.get("aux")),
    }
    notes = [f"{what} was left out" for what, is_there in parts.items() if is_there]
    if num_pictures > 1:
        notes.append("further pictures in it were left out")
    nclx = info.get("nclx_profile")
    if nclx is not None and info.get("icc_profile") is None:
        said = nclx["color_primaries"], nclx["transfer_characteristics"]
        if not all(value in known for value, known in zip(said, _SDR, strict=True)):
            notes.append(f"its colours (nclx {said[0]}/{said[1]}) were taken for sRGB")
    return notes
