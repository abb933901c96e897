"""The structure of a file is read in a time that does not depend on what it claims."""

import struct
import time
import zlib

import numpy as np
import pytest

from expertree.errors import DamagedImageError, PhotoError
from expertree.images.containers import (
    join_png,
    jpeg_segments,
    png_chunks,
    read_header,
    webp_chunks,
    without_damaged_extras,
)
from expertree.images.jpeg_parts import jpeg_end
from photographs import photo_u8, plain, read

MB = 1 << 20


def repeated(part: bytes, num_bytes: int = 8 * MB) -> bytes:
    return part * (num_bytes // len(part))


def riff(chunks: bytes) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0\1\0\0\1\0\0" + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pages(num_pages: int) -> bytes:
    """A TIFF whose pages are all marked as another one at lower resolution."""
    ends = range(26, 26 + 18 * num_pages, 18)
    parts = (struct.pack("<HHHIII", 1, 254, 4, 1, 1, end) for end in ends)
    return b"II*\0\x08\0\0\0" + b"".join(parts)


CHUNK = struct.pack(">I4sI", 0, b"aaaa", zlib.crc32(b"aaaa"))
AVIF = struct.pack(">I", 24) + b"ftypavif" + bytes(4) + b"mif1avif"
PARTS = "falls into more than 10[0-9],[0-9]+ parts"
HOSTILE = {
    "jpeg fill": (read_header, b"\xff\xd8" + repeated(b"\xff"), "before its first scan"),
    "jpeg segments": (read_header, b"\xff\xd8" + repeated(b"\xff\xe1\0\2"), PARTS),
    "jpeg stuffed": (read_header, b"\xff\xd8\xff\xe1\0\2" + repeated(b"\xff\0"), PARTS),
    "jpeg scans": (jpeg_end, b"\xff\xd8\xff\xda" + repeated(b"\0\2\xff\xda"), PARTS),
    "png": (png_chunks, b"\x89PNG\r\n\x1a\n" + repeated(CHUNK), PARTS),
    "png extras": (without_damaged_extras, b"\x89PNG\r\n\x1a\n" + repeated(CHUNK), PARTS),
    "webp": (webp_chunks, riff(repeated(b"aaaa\0\0\0\0")), PARTS),
    "webp frames": (read_header, riff(repeated(b"ANMF\0\0\0\0")), PARTS),
    "brands": (read_header, struct.pack(">I", 9 * MB) + b"ftypmif1" + bytes(8 * MB), "is a HEIF"),
    "boxes": (read_header, AVIF + repeated(b"\0\0\0\x08free"), PARTS),
    "tiff": (read_header, pages(400_000), "too many directories"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_millions_of_parts_is_refused_soon(name: str) -> None:
    reader, data, what = HOSTILE[name]
    begin = time.process_time()
    with pytest.raises(PhotoError, match=what):
        reader(data)
    assert time.process_time() - begin < 1.2


@pytest.mark.parametrize("num_pages", [1, 100])
def test_thumbnails_of_a_tiff_are_no_pages(num_pages: int) -> None:
    data = plain("tiff")
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    link = first + 2 + 12 * count
    starts = [len(data) + 18 * number for number in range(num_pages)]
    chain = [struct.pack("<HHHIII", 1, 254, 4, 1, 1, start) for start in [*starts[1:], 0]]
    linked = data[:link] + struct.pack("<I", starts[0]) + data[link + 4 :] + b"".join(chain)
    assert read_header(linked).num_frames == 1


def test_a_picture_in_many_chunks_is_read() -> None:
    (body,) = (bytes(view) for name, view in png_chunks(plain("png")) if name == b"IDAT")
    first, *_ = png_chunks(plain("png"))
    pieces = [(b"IDAT", body[at : at + 1]) for at in range(len(body))]
    many = join_png([first, *[(b"IDAT", b"")] * 20_000, *pieces, (b"IEND", b"")])
    np.testing.assert_array_equal(read(many).colour, photo_u8())


def test_fill_bytes_and_markers_that_stand_alone_are_passed_over() -> None:
    data = plain("jpeg")
    segments, scan = jpeg_segments(data)
    extra = b"\xff" * 1000 + b"\xd0\xff\0\xff\x01 " + b"\xff" * 7
    assert jpeg_segments(data[:2] + extra + data[2:]) == (segments, scan + len(extra))
    with pytest.raises(DamagedImageError, match="ends before its first scan"):
        jpeg_segments(data[:2] + b"\xff" * 1000)
