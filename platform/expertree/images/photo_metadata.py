"""Reading the metadata of a photograph's file, in each format."""

import dataclasses
import math
import struct

from expertree.errors import DamagedImageError
from expertree.images.containers import (
    Header,
    inflate,
    inflate_profile,
    is_coding,
    jpeg_segments,
    png_chunks,
    webp_chunks,
)
from expertree.images.photoshop import SIGNATURE, without_thumbnails
from expertree.images.tags import made_upright, orientation_of, without_thumbnail
from expertree.images.xmp import upright_xmp, xmp_orientation

EXIF_PREFIX = b"Exif\0\0"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
ICC_PREFIX = b"ICC_PROFILE\0"
PNG_XMP = b"XML:com.adobe.xmp\0"

METRES_PER_INCH = 0.0254
MAX_XMP_BYTES = 16 << 20
MAX_DPI = 65535.0
"""Largest resolution that JPEG's two bytes hold; larger ones are ignored."""

_APP0, _APP1, _APP2, _APP13 = 0xE0, 0xE1, 0xE2, 0xED
_READ = (
    *((_APP1, EXIF_PREFIX), (_APP1, XMP_PREFIX)),
    *((_APP2, ICC_PREFIX), (_APP13, SIGNATURE)),
)
"""Segments of a JPEG that `Metadata` has in fields of their own."""
_PHYS_BYTES, _JFIF_BYTES = 9, 12
"""Least bytes of a PNG's pHYs and of a JPEG's JFIF that say a resolution."""

_EMBEDDED_PROFILE = b"DEBM"
"""Colour space of a BMP that carries a profile (BITMAPV5HEADER), as it lies in the file."""

_PNG_KEPT = frozenset(
    {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt"}
)
"""PNG chunks about the photograph, not about how its pixels are coded."""
_PNG_READ = _PNG_KEPT | {b"eXIf", b"iCCP", b"pHYs"}

_LEGACY_EXIF = (b"Raw profile type exif\0", b"Raw profile type APP1\0")
"""Keywords of the text under which ImageMagick put EXIF into PNG before there was a chunk for it;
the second one is for XMP as well."""
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Metadata:
    """The metadata of a file, which is written again with the restored pixels.

    Attributes:
        exif: EXIF block without prefix: orientation 1, no thumbnail, the rest as it was.
        icc: The colour profile of the pixels.
        xmp: The XMP packet; its orientation is 1 too.
        dpi: Pixels per inch, across and down.
        png_chunks: Text, gamma and the like, for PNG alone.
        jpeg_segments: Comments and segments of applications, for JPEG alone.
        resources: Photoshop's: IPTC, paths and the like, without thumbnails, for JPEG and TIFF.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    jpeg_segments: tuple[tuple[int, bytes], ...] = ()
    resources: bytes = b""


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


def upright(
    metadata: Metadata, *, asks_by_xmp: bool = True
) -> tuple[Metadata, int, tuple[str, ...]]:
    """Return the metadata as it must be once the pixels are upright.

    Args:
        metadata: The metadata as stored.
        asks_by_xmp: Whether XMP's orientation counts where EXIF says none.

    Returns:
        The metadata, the orientation that it asked for, and notes: an EXIF block that cannot be
        read is left out, and so is XMP that is empty, as what cannot be inflated is.
    """
    exif, xmp, dpi, notes = metadata.exif, metadata.xmp or None, metadata.dpi, []
    asked_by_xmp = xmp_orientation(xmp) if xmp is not None and asks_by_xmp else 1
    orientation = _asked_by_exif(exif) or asked_by_xmp
    if exif is not None:
        try:
            exif = without_thumbnail(made_upright(exif, orientation))
        except DamagedImageError:
            exif = None
            notes.append("its EXIF cannot be read and was left out")
    if xmp is not None:
        xmp = upright_xmp(xmp, orientation)
    elif metadata.xmp is not None:
        notes.append("its XMP cannot be read and was left out")
    if dpi is not None and orientation >= 5:
        dpi = dpi[1], dpi[0]
    return dataclasses.replace(metadata, exif=exif, xmp=xmp, dpi=dpi), orientation, tuple(notes)


def _asked_by_exif(exif: bytes | None) -> int | None:
    """Return the orientation that EXIF asks for; None if it asks for none or cannot be read."""
    try:
        return None if exif is None else orientation_of(exif)
    except DamagedImageError:
        return None


def _of_png(data: bytes) -> Metadata:
    chunks = [(name, bytes(view)) for name, view in png_chunks(data) if name in _PNG_READ]
    first = dict(reversed(chunks))
    exif = first.get(b"eXIf", b"").removeprefix(EXIF_PREFIX) or None
    xmp, kept = None, []
    for name, payload in chunks:
        if name == b"iTXt" and payload.startswith(PNG_XMP):
            xmp = _text_of(payload.removeprefix(PNG_XMP)) or b""
        elif (legacy := _legacy_exif(name, payload)) is not None:
            exif = exif or legacy
        elif name in _PNG_KEPT:
            kept.append((name, payload))
    return Metadata(
        exif=exif,
        icc=inflate_profile(first[b"iCCP"]) if b"iCCP" in first else None,
        xmp=xmp,
        dpi=_dpi_of_phys(first[b"pHYs"]) if b"pHYs" in first else None,
        png_chunks=tuple(kept),
    )


def _text_of(payload: bytes) -> bytes | None:
    """Return the text of an iTXt chunk behind its keyword, compressed or not; None if damaged."""
    is_compressed, rest = payload[:1] == b"\1", payload[2:]
    text = rest.split(b"\0", 2)[-1]  # behind the language and the keyword in that language
    return inflate(text, MAX_XMP_BYTES) if is_compressed else text


def _legacy_exif(name: bytes, payload: bytes) -> bytes | None:
    """Decode EXIF from a chunk of hexadecimal lines below a heading (`Raw profile type`).

    Returns:
        The block, or, so that it is told, what is there where it cannot be decoded; None for a
        chunk of something else.
    """
    if name not in _TEXTS or not payload.startswith(_LEGACY_EXIF):
        return None
    rest = payload.partition(b"\0")[2]
    text: bytes | None = rest
    if name == b"zTXt":
        text = inflate(rest[1:], MAX_XMP_BYTES)
    elif name == b"iTXt":
        text = _text_of(rest)
    try:
        block = bytes.fromhex(b"".join((text or b"").split(b"\n", 3)[3:]).decode("ascii"))
    except ValueError:
        return payload
    if text is None or not block:
        return payload
    return None if block.startswith(XMP_PREFIX) else block.removeprefix(EXIF_PREFIX) or None


def _dpi_of_phys(payload: bytes) -> tuple[float, float] | None:
    """Return the resolution of a PNG; None if there is none, or its chunk is cut short."""
    if len(payload) < _PHYS_BYTES:
        return None
    across, down, unit = struct.unpack_from(">IIB", payload)
    return _dpi(across * METRES_PER_INCH, down * METRES_PER_INCH) if unit == 1 else None


def _of_jpeg(file: bytes) -> Metadata:
    segments = jpeg_segments(file)[0]
    exif = _following(segments, _APP1, EXIF_PREFIX)
    xmp = _following(segments, _APP1, XMP_PREFIX)
    profile = {own[0]: own[2:] for own in _following(segments, _APP2, ICC_PREFIX) if own}
    headers = [data for own, data in segments if own == _APP0 and data.startswith(b"JFIF\0")]
    resources = b"".join(_following(segments, _APP13, SIGNATURE))
    return Metadata(
        exif=next(filter(None, exif), None),
        icc=b"".join(profile[number] for number in sorted(profile)) or None,
        xmp=next(filter(None, xmp), None),
        dpi=_dpi_of_jfif(headers[-1]) if headers else None,
        jpeg_segments=tuple(
            (marker, payload)
            for marker, payload in segments
            if not is_coding(marker, payload)
            and not any(marker == own and payload.startswith(prefix) for own, prefix in _READ)
        ),
        resources=without_thumbnails(resources),
    )


def _following(segments: list[tuple[int, bytes]], marker: int, prefix: bytes) -> list[bytes]:
    """Return what follows a prefix in all segments of a marker that begin with it."""
    return [
        data[len(prefix) :] for own, data in segments if own == marker and data.startswith(prefix)
    ]


def _dpi_of_jfif(payload: bytes) -> tuple[float, float] | None:
    """Return the resolution of a JPEG; None if there is none, or its segment is cut short."""
    if len(payload) < _JFIF_BYTES:
        return None
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
    icc = None
    if header_bytes >= 124 and data[70:74] == _EMBEDDED_PROFILE:
        offset, size = struct.unpack_from("<II", data, 126)
        icc = data[14 + offset : 14 + offset + size] or None
    return Metadata(dpi=_dpi(across * METRES_PER_INCH, down * METRES_PER_INCH), icc=icc)


def _dpi(across: float, down: float) -> tuple[float, float] | None:
    is_real = all(math.isfinite(side) and 0 < side <= MAX_DPI for side in (across, down))
    return (across, down) if is_real else None
