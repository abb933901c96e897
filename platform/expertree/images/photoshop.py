"""Photoshop's image resources, in which JPEG and TIFF carry IPTC, paths and thumbnails."""

import struct

SIGNATURE = b"Photoshop 3.0\0"
"""Prefix of a JPEG's segment (APP13) with resources; a TIFF has them without it."""

_THUMBNAILS = frozenset({1033, 1036})
"""Resources with a small picture of the image (Photoshop File Formats, "Image Resource IDs")."""

_NEXT = b"8BIM"
_HEADER_BYTES = 7
"""Signature, number, and the length of the name, which is padded to an even end."""


def without_thumbnails(resources: bytes) -> bytes:
    """Return image resources without the thumbnails, which would show the image unrestored.

    What cannot be parsed stays as it is.
    """
    kept, position = [], 0
    while position + _HEADER_BYTES <= len(resources):
        (number,) = struct.unpack_from(">H", resources, position + 4)
        name_bytes = resources[position + 6]
        size_at = position + _HEADER_BYTES + name_bytes + (name_bytes + 1) % 2
        if resources[position : position + 4] != _NEXT or size_at + 4 > len(resources):
            break
        (size,) = struct.unpack_from(">I", resources, size_at)
        end = size_at + 4 + size
        if resources[end : end + 4] != _NEXT:  # some programs leave out the padding
            end += size % 2
        if number not in _THUMBNAILS:
            kept.append(resources[position:end])
        position = end
    return b"".join([*kept, resources[position:]])
