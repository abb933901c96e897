"""Parsing the structure of image files: PNG and WebP chunks, JPEG segments, TIFF directories.

Nothing here decodes a pixel. A file's format follows from its first bytes, never from its name, and
the size that it claims is known before anything is allocated for it: 65 bytes of PNG may claim 81
megapixels.
"""

import dataclasses
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

from expertree.errors import DamagedImageError, UnsupportedFormatError
from expertree.images.boxes import heif_kind, largest_item
from expertree.images.parts import count_parts
from expertree.images.tags import BITS, HEIGHT, REDUCED, SUBFILE, WIDTH, read_directory

PhotoFormat: TypeAlias = Literal["png", "jpeg", "webp", "avif", "heic", "bmp", "tiff"]
"""The formats that are read and written."""

PHOTO_FORMATS: tuple[PhotoFormat, ...] = get_args(PhotoFormat)

KINDS_READ = "PNG, JPEG, WebP, AVIF, HEIC, BMP or TIFF"

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE_BYTES = 16 << 20
"""Most bytes of a PNG's colour profile, which is compressed; what inflates to more is none."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, PNG_SIGNATURE, "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (8, b"WEBP", "webp"),
    (0, b"BM", "bmp"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
)
_SEQUENCES = (b"hevc", b"hevx", b"hevm", b"hevs", b"msf1")
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF8", "a GIF"),
    *((4, b"ftyp" + brand, "a HEIC sequence") for brand in _SEQUENCES),
    (4, b"ftypmif1", "a HEIF image of another coding than HEIC and AVIF"),
    (4, b"ftypcrx ", "a camera's raw file"),
    (4, b"ftyp", "a video"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"II+\0", "a BigTIFF"),
    (0, b"MM\0+", "a BigTIFF"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (0, b"qoif", "a QOI image"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an SVG drawing or another XML document"),
    *((0, start, "a web page") for start in (b"<!DOCTYPE html", b"<!doctype html", b"<html")),
)
_FILL = re.compile(rb"\xff+")
_NO_LENGTH = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""JPEG markers that stand alone: TEM, RST0 to RST7, SOI; and a stuffed byte, which is none."""

_MAX_DIRECTORIES_BYTES = 1 << 18
"""Most bytes of a TIFF's directories behind the first one, which those of thumbnails never take."""

_SOS, _EOI, _COMMENT = 0xDA, 0xD9, 0xFE
_APP0, _APP2, _APP14, _APP15 = 0xE0, 0xE2, 0xEE, 0xEF
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that start a frame, SOF0 to SOF15."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The format and size that a file claims to have.

    Attributes:
        format: Format by the file's first bytes.
        width_px: Width as stored, before any orientation.
        height_px: Height as stored, before any orientation.
        depth: Bits per channel.
        num_frames: More than 1 for an animation or a document of several pages; 2 stands for any
            number above 1.
    """

    format: PhotoFormat
    width_px: int
    height_px: int
    depth: int = 8
    num_frames: int = 1


def read_header(data: bytes) -> Header:
    """Read the format and size that a file claims, without decoding it.

    Raises:
        UnsupportedFormatError: If its format is not supported.
        DamagedImageError: If its header is cut off or makes no sense.
    """
    kind = identify(data)
    readers: dict[PhotoFormat, Callable[[bytes], Header]] = {
        "png": _png_header,
        "jpeg": _jpeg_header,
        "webp": _webp_header,
        "avif": lambda data: _heif_header(data, "avif"),
        "heic": lambda data: _heif_header(data, "heic"),
        "bmp": _bmp_header,
        "tiff": _tiff_header,
    }
    try:
        header = readers[kind](data)
    except (struct.error, IndexError) as error:
        raise DamagedImageError("is truncated: not even its header is whole") from error
    if header.width_px < 1 or header.height_px < 1:
        raise DamagedImageError(
            f"is damaged: it claims {header.width_px} x {header.height_px} pixels"
        )
    return header


def identify(data: bytes) -> PhotoFormat:
    """Return the format of a file by its first bytes.

    Raises:
        UnsupportedFormatError: If the format is not supported; names what it seems to be.
    """
    if not data:
        raise UnsupportedFormatError(f"is empty and not an image; give {KINDS_READ}")
    for offset, magic, kind in _MAGIC:
        if data.startswith(magic, offset):
            return next(known for known in PHOTO_FORMATS if known == kind)
    if (heif := heif_kind(data)) is not None:
        return heif
    for offset, magic, what in _FOREIGN:
        if data.startswith(magic, offset):
            raise UnsupportedFormatError(f"is {what}; give {KINDS_READ}")
    raise UnsupportedFormatError(f"is not an image that can be read: {KINDS_READ}")


def png_chunks(data: bytes) -> list[tuple[bytes, memoryview]]:
    """Return name and payload of each chunk of a PNG; what follows the last one is ignored.

    Raises:
        DamagedImageError: If one is cut off, its checksum is wrong, or there are too many.
    """
    chunks, position, view = [], len(PNG_SIGNATURE), memoryview(data)
    counter = count_parts(data)
    while position + 12 <= len(data):
        next(counter)
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[position + 4 : end - 4]) != checksum:
            raise DamagedImageError(f"is damaged: the checksum of its {name!r} chunk is wrong")
        chunks.append((name, view[position + 8 : end - 4]))
        if name == b"IEND":
            return chunks
        position = end
    raise DamagedImageError("is truncated: its end is missing")


def without_damaged_extras(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return a PNG without chunks that a picture can do without and whose checksums are wrong.

    Their names, which begin with a small letter (PNG 3rd edition, 5.4), come second.

    Raises:
        DamagedImageError: If it has too many chunks.
    """
    parts, names, position = [data[: len(PNG_SIGNATURE)]], [], len(PNG_SIGNATURE)
    counter = count_parts(data)
    while position + 12 <= len(data):
        next(counter)
        length, name = struct.unpack_from(">I4s", data, position)
        chunk = data[position : position + 12 + length]
        is_wrong = zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big")
        if name[:1].islower() and is_wrong:
            names.append(name.decode("latin-1"))
        else:
            parts.append(chunk)
        position += len(chunk)
    return (b"".join([*parts, data[position:]]), tuple(names)) if names else (data, ())


def join_png(chunks: Sequence[tuple[bytes, bytes | memoryview]]) -> bytes:
    """Return a PNG of these chunks."""
    parts: list[bytes | memoryview] = [PNG_SIGNATURE]
    for name, payload in chunks:
        checksum = zlib.crc32(payload, zlib.crc32(name))
        parts += [struct.pack(">I", len(payload)), name, payload, struct.pack(">I", checksum)]
    return b"".join(parts)


def inflate_profile(payload: bytes) -> bytes | None:
    """Return the colour profile in the payload of an iCCP chunk; None if it is invalid."""
    return inflate(payload.partition(b"\0")[2][1:], MAX_PROFILE_BYTES)


def inflate(data: bytes, max_bytes: int) -> bytes | None:
    """Return what zlib has compressed; None if it is nothing, damaged, or larger than allowed."""
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(data, max_bytes)
    except zlib.error:
        return None
    return found if found and inflater.eof else None


def jpeg_segments(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Return the segments of a JPEG before its first scan, and where that begins.

    Returns:
        Marker (its second byte) and payload of each; the position of the scan's marker.

    Raises:
        DamagedImageError: If the file ends before a scan, or has too many segments.
    """
    segments: list[tuple[int, bytes]] = []
    position, counter = 2, count_parts(data)
    while True:
        next(counter)
        filled = _FILL.search(data, position)
        position = len(data) if filled is None else filled.end() - 1
        if position + 4 > len(data):
            raise DamagedImageError("is truncated: it ends before its first scan")
        marker = data[position + 1]
        if marker in {_SOS, _EOI}:
            return segments, position
        if marker in _NO_LENGTH:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        segments.append((marker, data[position + 4 : position + 2 + length]))
        position += 2 + max(length, 2)


def is_coding(marker: int, payload: bytes) -> bool:
    """Return whether a JPEG's segment says how pixels are coded.

    All do but comments and applications' own segments. Three of the latter count too: JFIF and
    Adobe, which say what the channels are, and MPF (CIPA DC-007), which says where in the file
    further pictures lie.
    """
    if marker == _COMMENT:
        return False
    if marker == _APP2 and payload.startswith(b"MPF\0"):
        return True
    return not _APP0 < marker <= _APP15 or marker == _APP14


def join_jpeg(segments: list[tuple[int, bytes]], rest: bytes) -> bytes:
    """Return a JPEG of these segments and of the bytes from the first scan on.

    Raises:
        ValueError: If a segment is too long for a JPEG.
    """
    parts = [b"\xff\xd8"]
    for marker, payload in segments:
        if len(payload) > 0xFFFF - 2:
            raise ValueError(
                f"carries {len(payload):,} bytes of metadata in one piece, a JPEG holds 65,533; "
                "choose another format"
            )
        parts += [struct.pack(">BBH", 0xFF, marker, len(payload) + 2), payload]
    return b"".join([*parts, rest])


def webp_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a WebP by name; the first one of each name.

    Raises:
        DamagedImageError: If the file is shorter than it says, or has too many chunks.
    """
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise DamagedImageError("is truncated: its end is missing")
    chunks: dict[bytes, bytes] = {}
    position, counter = 12, count_parts(data)
    while position + 8 <= size + 8:
        next(counter)
        name, length = struct.unpack_from("<4sI", data, position)
        chunks.setdefault(name, data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    return chunks


def _png_header(data: bytes) -> Header:
    name, width, height, depth = struct.unpack_from(">4sIIB", data, 12)
    if name != b"IHDR":
        raise DamagedImageError("is damaged: it does not begin with its header")
    return Header(
        format="png",
        width_px=width,
        height_px=height,
        depth=depth,
        num_frames=_png_frames(data),
    )


def _png_frames(data: bytes) -> int:
    """Return 1 for a picture, or an animation of one frame, which is its picture too; else 2."""
    before = data[: max(data.find(b"IDAT"), 0)]  # chunks of an animation's control come there
    control = before.find(b"acTL")
    if control < 0:
        return 1
    (num_frames,) = struct.unpack_from(">I", data, control + 4)
    return 1 if num_frames == 1 and b"fcTL" in before else 2


def _jpeg_header(data: bytes) -> Header:
    for marker, payload in jpeg_segments(data)[0]:
        if marker in _FRAMES:
            depth, height, width = struct.unpack_from(">BHH", payload)
            return Header(format="jpeg", width_px=width, height_px=height, depth=depth)
    raise DamagedImageError("is damaged: it has no frame")


def _webp_header(data: bytes) -> Header:
    name, payload = data[12:16], data[20:30]
    frames = 1
    if name == b"VP8X":
        flags, width, height = payload[0], payload[4:7], payload[7:10]
        frames = min(2, _webp_frames(data)) if flags & 0x02 else 1
        size = [int.from_bytes(side, "little") + 1 for side in (width, height)]
    elif name == b"VP8L":
        (bits,) = struct.unpack_from("<I", payload, 1)
        size = [(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1]
    elif name == b"VP8 ":
        size = [side & 0x3FFF for side in struct.unpack_from("<HH", payload, 6)]
    else:
        raise DamagedImageError(f"is damaged: its first chunk is {name!r}")
    return Header(format="webp", width_px=size[0], height_px=size[1], num_frames=frames)


def _webp_frames(data: bytes) -> int:
    """Count the frames of an animation, of which some programs write one."""
    position, count, counter = 12, 0, count_parts(data)
    while position + 8 <= len(data):
        next(counter)
        name, length = struct.unpack_from("<4sI", data, position)
        count += name == b"ANMF"
        position += 8 + length + length % 2
    return max(1, count)


def _heif_header(data: bytes, kind: PhotoFormat) -> Header:
    width, height, depth = largest_item(data)
    return Header(
        format=kind,
        width_px=width,
        height_px=height,
        depth=depth,
        num_frames=2 if data[8:12] == b"avis" else 1,
    )


def _bmp_header(data: bytes) -> Header:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
    return Header(format="bmp", width_px=width, height_px=abs(height))


def _tiff_header(data: bytes) -> Header:
    directory = read_directory(data)
    pages, following, size = 1, directory.next_offset, 0
    while following and pages == 1:
        page = read_directory(data, following)
        size += page.next_position - following
        if size > _MAX_DIRECTORIES_BYTES:
            raise DamagedImageError("is damaged: it has too many directories of tags")
        # A page of lower resolution is a thumbnail, which a restored photograph does without.
        pages += not page.number(data, SUBFILE, 0) & REDUCED
        if page.next_offset <= following:
            break
        following = page.next_offset
    return Header(
        format="tiff",
        width_px=directory.number(data, WIDTH, 0),
        height_px=directory.number(data, HEIGHT, 0),
        depth=directory.number(data, BITS, 1),
        num_frames=pages,
    )
