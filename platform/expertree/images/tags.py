"""Reading the tag directories of TIFF files and EXIF blocks, and patching them in place.

A block is never written anew: makers' notes hold absolute offsets, which would then be wrong, and
unknown tags stay as they were, byte by byte.
"""

import contextlib
import dataclasses
import struct
from collections.abc import Sequence
from typing import Literal

from expertree.errors import DamagedImageError

SUBFILE, WIDTH, HEIGHT, BITS, ORIENTATION = 254, 256, 257, 258, 274
EXIF_IFD = 34665
REDUCED = 1
"""Bit of `SUBFILE`: this page is another one at lower resolution."""

_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 513, 514
_INTEROP_IFD = 40965
_FILE_SIDES = ((282, 283),)
_SIDES = ((WIDTH, HEIGHT), *_FILE_SIDES)
_EXIF_SIDES = ((40962, 40963), (41486, 41487))
_INTEROP_SIDES = ((4097, 4098),)
"""Tags of a width and a height, or of a resolution across and down, by their directory. In a file
of TIFF, width and height say how its pixels lie."""

_ENTRY_BYTES = 12
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """One directory: its tags and the positions of their entries.

    Attributes:
        order: Byte order, as `struct` writes it.
        entries: Position of each tag's entry of 12 bytes.
        next_position: Position of the offset of the next directory.
        next_offset: Offset of the next directory; 0 for none.
    """

    order: Literal["<", ">"]
    entries: dict[int, int]
    next_position: int
    next_offset: int

    def number(self, data: bytes, tag: int, default: int) -> int:
        """Return the first integer of a tag, or the default if there is none."""
        position = self.entries.get(tag)
        if position is None:
            return default
        kind, count = struct.unpack_from(f"{self.order}HI", data, position + 2)
        code = _INTEGERS.get(kind)
        if code is None or count < 1:
            return default
        value_at = position + 8
        if count * _TYPE_BYTES[kind] > 4:
            (value_at,) = struct.unpack_from(f"{self.order}I", data, value_at)
        try:
            return int(struct.unpack_from(f"{self.order}{code}", data, value_at)[0])
        except struct.error:
            return default

    def span(self, data: bytes, tag: int) -> slice | None:
        """Return where the value of a tag lies, or None if there is none."""
        position = self.entries.get(tag)
        if position is None:
            return None
        kind, count = struct.unpack_from(f"{self.order}HI", data, position + 2)
        num_bytes, start = count * _TYPE_BYTES.get(kind, 1), position + 8
        if num_bytes > 4:
            (start,) = struct.unpack_from(f"{self.order}I", data, start)
        return slice(start, start + num_bytes)


def read_directory(data: bytes, offset: int | None = None) -> Directory:
    """Read one directory of a TIFF or of an EXIF block without its prefix.

    Args:
        data: The whole file or block.
        offset: Position of the directory; the first one's by default.

    Raises:
        DamagedImageError: If it is cut off, or this is no TIFF.
    """
    order: Literal["<", ">"] = "<" if data[:2] == b"II" else ">"
    try:
        magic, first = struct.unpack_from(f"{order}HI", data, 2)
        start = first if offset is None else offset
        (num_entries,) = struct.unpack_from(f"{order}H", data, start)
        next_position = start + 2 + num_entries * _ENTRY_BYTES
        positions = range(start + 2, next_position, _ENTRY_BYTES)
        tags = [struct.unpack_from(f"{order}H", data, position)[0] for position in positions]
        (next_offset,) = struct.unpack_from(f"{order}I", data, next_position)
    except struct.error as error:
        raise DamagedImageError("is damaged: a directory of its tags is cut off") from error
    if data[:2] not in {b"II", b"MM"} or magic != 42:
        raise DamagedImageError("is damaged: its tags do not begin as TIFF's do")
    return Directory(
        order=order,
        entries=dict(zip(tags, positions, strict=True)),
        next_position=next_position,
        next_offset=next_offset,
    )


def orientation_of(block: bytes) -> int | None:
    """Return the orientation that a TIFF or EXIF block asks for, 1 to 8; None if it asks for none.

    Raises:
        DamagedImageError: If the block cannot be read.
    """
    value = read_directory(block).number(block, ORIENTATION, 0)
    return value if 1 <= value <= 8 else None


def made_upright(block: bytes, orientation: int, *, is_file: bool = False) -> bytes:
    """Return the block for pixels that have been turned upright.

    Its own orientation becomes 1. What it says of width and height changes places if the sides did.

    Args:
        block: A TIFF, or an EXIF block without its prefix.
        orientation: EXIF's number of the turn that was applied to the pixels.
        is_file: Whether it is a TIFF with pixels, whose own width and height stay.

    Raises:
        DamagedImageError: If the block cannot be read.
    """
    if orientation == 1:
        return block
    directory, patched = read_directory(block), bytearray(block)
    entry = directory.entries.get(ORIENTATION)
    if entry is not None:
        struct.pack_into(f"{directory.order}HIHxx", patched, entry + 2, 3, 1, 1)
    if orientation >= 5:
        _swap_sides(patched, directory, _FILE_SIDES if is_file else _SIDES)
        if offset := directory.number(block, EXIF_IFD, 0):
            below = read_directory(block, offset)
            _swap_sides(patched, below, _EXIF_SIDES)
            with contextlib.suppress(DamagedImageError):
                if offset := below.number(block, _INTEROP_IFD, 0):
                    _swap_sides(patched, read_directory(block, offset), _INTEROP_SIDES)
    return bytes(patched)


def without_thumbnail(block: bytes) -> bytes:
    """Return an EXIF block without its thumbnail, which would show the photograph unrestored.

    Raises:
        DamagedImageError: If the block cannot be read.
    """
    directory = read_directory(block)
    if not directory.next_offset:
        return block
    patched = bytearray(block)
    struct.pack_into(f"{directory.order}I", patched, directory.next_position, 0)
    try:
        second = read_directory(block, directory.next_offset)
    except DamagedImageError:
        return bytes(patched)
    start = second.number(block, _THUMBNAIL_OFFSET, 0)
    stop = min(start + second.number(block, _THUMBNAIL_BYTES, 0), len(block))
    if not 8 < start < stop:
        return bytes(patched)
    if stop >= len(block) - 1:  # perhaps a byte of padding
        return bytes(patched[:start])
    patched[start:stop] = bytes(stop - start)
    return bytes(patched)


def _swap_sides(block: bytearray, directory: Directory, pairs: Sequence[tuple[int, int]]) -> None:
    """Exchange type, count and value of the two tags of each pair; each entry keeps its tag."""
    for names in pairs:
        if not directory.entries.keys() >= set(names):
            continue
        a, b = (directory.entries[name] for name in names)
        body_a = block[a + 2 : a + _ENTRY_BYTES]
        block[a + 2 : a + _ENTRY_BYTES] = block[b + 2 : b + _ENTRY_BYTES]
        block[b + 2 : b + _ENTRY_BYTES] = body_a
