"""The boxes of HEIF files, HEIC and AVIF (ISO/IEC 14496-12, 23008-12): kind, size and depth."""

import math
import struct
from collections.abc import Iterator
from typing import Literal

from expertree.errors import DamagedImageError
from expertree.images.parts import count_parts

_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis"})
_ANY = frozenset({b"mif1", b"mif2", b"miaf"})
"""Brands that say no more than that it is a HEIF file; the others that it lists tell which."""
_BRANDS_END = 4096
"""Where the list of brands ends at the latest; no file has more than a few dozen."""


def heif_kind(data: bytes) -> Literal["avif", "heic"] | None:
    """Return which kind of picture a file is by its brands; None if it is no HEIF picture."""
    if data[4:8] != b"ftyp":
        return None
    major = data[8:12]
    size = int.from_bytes(data[:4], "big")
    listed = {data[at : at + 4] for at in range(16, min(size, len(data), _BRANDS_END), 4)}
    brands = {major} if major not in _ANY else listed
    if brands & _AVIF:
        return "avif"
    return "heic" if brands & _HEIC else None


def largest_item(data: bytes) -> tuple[int, int, int]:
    """Return width, height and depth of the largest item, since tiles and thumbnails have some too.

    It is what is coded: an item that is cropped is smaller by less than a block of 64 pixels.

    Raises:
        DamagedImageError: If a box is missing or cut off.
    """
    sizes, depths = [(0, 0)], [8]
    for name, start, _ in _boxes(data, *_box(data, *_box(data, *_meta(data), b"iprp"), b"ipco")):
        if name == b"ispe":
            sizes.append(struct.unpack_from(">II", data, start + 4))
        elif name == b"av1C":
            is_high, is_highest = data[start + 2] & 0x40, data[start + 2] & 0x20
            depths.append(12 if is_highest else 10 if is_high else 8)
        elif name == b"hvcC":
            depths.append(8 + (data[start + 17] & 0x07))
    width, height = max(sizes, key=math.prod)
    return width, height, max(depths)


def _meta(data: bytes) -> tuple[int, int]:
    start, stop = _box(data, 0, len(data), b"meta")
    return start + 4, stop  # behind its version


def _box(data: bytes, start: int, stop: int, wanted: bytes) -> tuple[int, int]:
    """Return where the content of the first box of a name begins and ends."""
    for name, begin, end in _boxes(data, start, stop):
        if name == wanted:
            return begin, end
    raise DamagedImageError(f"is damaged: it has no {wanted.decode()} box")


def _boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield each box between two positions: name, begin and end of its content."""
    counter = count_parts(data)
    while start + 8 <= stop:
        next(counter)
        size, name = struct.unpack_from(">I4s", data, start)
        begin = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        end = stop if size == 0 else start + size
        if not begin <= end <= stop:
            raise DamagedImageError(f"is truncated: its {name!r} box is cut off")
        yield name, begin, end
        start = end
