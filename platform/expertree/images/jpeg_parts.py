"""What lies in a JPEG's file behind its picture: videos, gain maps, second views."""

import re

from expertree.images.containers import Header, jpeg_segments
from expertree.images.parts import count_parts

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""A marker that ends coded pixels; zero (a stuffed byte), fill bytes and restarts do not."""

_EOI = 0xD9


def jpeg_end(data: bytes) -> int:
    """Return where the picture of a JPEG ends, behind its EOI; the file's end if it has none.

    Raises:
        DamagedImageError: If the file ends before its first scan, or has too many segments.
    """
    position, counter = jpeg_segments(data)[1], count_parts(data)
    while (found := _MARKER.search(data, position)) is not None:
        next(counter)
        position = found.end()
        if data[position - 1] == _EOI:
            return position
        length = int.from_bytes(data[position : position + 2], "big")
        position += max(length, 2)
    return len(data)


def further_parts(data: bytes, header: Header) -> tuple[str, ...]:
    """Return a note on what follows the picture of a JPEG, since it is not written again.

    Motion photos carry a video there, Ultra HDR a gain map, multi-picture files (CIPA DC-007) a
    preview or a second view. The marks by which viewers look for them go too; see `upright_xmp`.

    Args:
        data: The file.
        header: Its header; other formats have no such parts.

    Raises:
        DamagedImageError: If the file ends before its first scan, or has too many segments.
    """
    if header.format != "jpeg":
        return ()
    rest = data[jpeg_end(data) :]
    found = []
    if b"\xff\xd8\xff" in rest:
        found.append("further pictures in it (a preview, an HDR gain map, another view)")
    if b"ftyp" in rest:
        found.append("the video of its motion photo")
    if not found and rest.strip(b"\0\r\n\t "):
        found.append("what follows its end")
    return tuple(f"{what} was left out" for what in found)
