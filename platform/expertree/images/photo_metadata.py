"""Reading the metadata of a photograph's file, in each format."""

import dataclasses
import math
import re
import struct

from expertree.errors import DamagedImageError
from expertree.images.containers import (
    Header,
    inflate_profile,
    is_coding,
    jpeg_segments,
    png_chunks,
    webp_chunks,
)
from expertree.images.tags import made_upright, orientation_of, without_thumbnail

EXIF_PREFIX = b"Exif\0\0"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
ICC_PREFIX = b"ICC_PROFILE\0"
PNG_XMP = b"XML:com.adobe.xmp\0"

METRES_PER_INCH = 0.0254
MAX_DPI = 65535.0
"""Largest resolution that JPEG's two bytes hold; larger ones are ignored."""

_APP0, _APP1, _APP2 = 0xE0, 0xE1, 0xE2

_PNG_KEPT = frozenset(
    {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt"}
)
"""PNG chunks about the photograph, not about how its pixels are coded."""
_PNG_READ = _PNG_KEPT | {b"eXIf", b"iCCP", b"pHYs"}

_LEGACY_EXIF = b"Raw profile type exif\0"
"""Keyword of the text under which ImageMagick put EXIF into PNG before there was a chunk for it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """The metadata of a file, which is written again with the restored pixels.

    Attributes:
        exif: EXIF block without prefix: orientation 1, no thumbnail, the rest as it was.
        icc: The colour profile of the pixels.
        xmp: The XMP packet; its orientation is 1 too.
        dpi: Pixels per inch, across and down.
        png_chunks: Text, gamma and the like, for PNG alone.
        jpeg_segments: IPTC, comments and other segments of applications, for JPEG alone.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    jpeg_segments: tuple[tuple[int, bytes], ...] = ()


def read_metadata(data: bytes, header: Header) -> Metadata:
    """Read the metadata of a PNG, JPEG, WebP or BMP as stored; `upright` adapts its orientation.

    Raises:
        DamagedImageError: If the file's structure is broken.
    """
    readers = {"png": _of_png, "jpeg": _of_jpeg, "webp": _of_webp, "bmp": _of_bmp}
    try:
        return readers[header.format](data)
    except (struct.error, IndexError) as error:
        raise DamagedImageError("is truncated: what it says of itself is cut off") from error


def upright(metadata: Metadata) -> tuple[Metadata, int, tuple[str, ...]]:
    """Return the metadata as it must be once the pixels are upright.

    Returns:
        The metadata, the orientation that it asked for, and notes: an EXIF block that cannot be
        read is left out.
    """
    exif, orientation, notes = metadata.exif, 1, []
    if exif is not None:
        try:
            orientation = orientation_of(exif)
            exif = without_thumbnail(made_upright(exif))
        except DamagedImageError:
            exif = None
            notes.append("its EXIF cannot be read and was left out")
    xmp = None if metadata.xmp is None else upright_xmp(metadata.xmp)
    return dataclasses.replace(metadata, exif=exif, xmp=xmp), orientation, tuple(notes)


def upright_xmp(packet: bytes) -> bytes:
    """Return the packet with its orientation, which some viewers follow, set to 1."""
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", packet)


def _of_png(data: bytes) -> Metadata:
    chunks = [(name, bytes(view)) for name, view in png_chunks(data) if name in _PNG_READ]
    first = dict(reversed(chunks))
    exif = first.get(b"eXIf", b"").removeprefix(EXIF_PREFIX) or None
    xmp, kept = None, []
    for name, payload in chunks:
        if name == b"iTXt" and payload.startswith(PNG_XMP + b"\0"):
            xmp = payload.removeprefix(PNG_XMP).split(b"\0", 4)[-1]
        elif payload.startswith(_LEGACY_EXIF):
            exif = exif or _legacy_exif(payload)
        elif name in _PNG_KEPT:
            kept.append((name, payload))
    return Metadata(
        exif=exif,
        icc=inflate_profile(first[b"iCCP"]) if b"iCCP" in first else None,
        xmp=xmp,
        dpi=_dpi_of_phys(first[b"pHYs"]) if b"pHYs" in first else None,
        png_chunks=tuple(kept),
    )


def _legacy_exif(payload: bytes) -> bytes | None:
    """Decode EXIF from hexadecimal lines below a heading (ImageMagick's `Raw profile type`)."""
    try:
        lines = payload.removeprefix(_LEGACY_EXIF).split(b"\n")
        return bytes.fromhex(b"".join(lines[3:]).decode("ascii")).removeprefix(EXIF_PREFIX) or None
    except ValueError:
        return None


def _dpi_of_phys(payload: bytes) -> tuple[float, float] | None:
    across, down, unit = struct.unpack_from(">IIB", payload)
    return _dpi(across * METRES_PER_INCH, down * METRES_PER_INCH) if unit == 1 else None


def _of_jpeg(data: bytes) -> Metadata:
    exif = xmp = dpi = None
    profile: dict[int, bytes] = {}
    kept = []
    for marker, payload in jpeg_segments(data)[0]:
        if marker == _APP1 and payload.startswith(EXIF_PREFIX):
            exif = exif or payload.removeprefix(EXIF_PREFIX)
        elif marker == _APP1 and payload.startswith(XMP_PREFIX):
            xmp = xmp or payload.removeprefix(XMP_PREFIX)
        elif marker == _APP2 and payload.startswith(ICC_PREFIX):
            profile[payload[len(ICC_PREFIX)]] = payload[len(ICC_PREFIX) + 2 :]
        elif marker == _APP0 and payload.startswith(b"JFIF\0"):
            dpi = _dpi_of_jfif(payload)
        elif not is_coding(marker, payload):
            kept.append((marker, payload))
    icc = b"".join(profile[number] for number in sorted(profile)) or None
    return Metadata(exif=exif, icc=icc, xmp=xmp, dpi=dpi, jpeg_segments=tuple(kept))


def _dpi_of_jfif(payload: bytes) -> tuple[float, float] | None:
    unit, across, down = struct.unpack_from(">BHH", payload, 7)
    scale = {1: 1.0, 2: 2.54}.get(unit)
    return None if scale is None else _dpi(across * scale, down * scale)


def _of_webp(data: bytes) -> Metadata:
    chunks = webp_chunks(data)
    exif = chunks.get(b"EXIF", b"").removeprefix(EXIF_PREFIX)
    return Metadata(exif=exif or None, icc=chunks.get(b"ICCP"), xmp=chunks.get(b"XMP "))


def _of_bmp(data: bytes) -> Metadata:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes < 40:
        return Metadata()
    across, down = struct.unpack_from("<ii", data, 38)
    return Metadata(dpi=_dpi(across * METRES_PER_INCH, down * METRES_PER_INCH))


def _dpi(across: float, down: float) -> tuple[float, float] | None:
    is_real = all(math.isfinite(side) and 0 < side <= MAX_DPI for side in (across, down))
    return (across, down) if is_real else None
