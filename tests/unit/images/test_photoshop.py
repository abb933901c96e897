"""Photoshop's thumbnail goes, everything beside it stays."""

import struct

from expertree.images.photo_file import notes_for
from expertree.images.photoshop import SIGNATURE, without_thumbnails
from photographs import again, opened, plain, read


def resource(number: int, data: bytes, name: bytes = b"") -> bytes:
    named = bytes([len(name)]) + name + bytes((len(name) + 1) % 2)
    size = struct.pack(">I", len(data))
    return b"8BIM" + struct.pack(">H", number) + named + size + data + bytes(len(data) % 2)


IPTC, PATHS = resource(1028, b"\x1c\x02\x05\0\x04Dune"), resource(2000, b"path", b"Path 1")
THUMBNAIL = resource(1036, bytes(28) + b"\xff\xd8small\xff\xd9")


def test_only_the_thumbnail_goes() -> None:
    assert without_thumbnails(IPTC + THUMBNAIL + PATHS) == IPTC + PATHS
    assert without_thumbnails(THUMBNAIL[:-1] + PATHS) == PATHS  # not padded
    assert without_thumbnails(PATHS + resource(1033, b"old!")) == PATHS
    assert without_thumbnails(b"") == b""


def test_what_cannot_be_parsed_stays() -> None:
    for odd in (b"8BI", b"rubbish that is long enough", IPTC + b"8BIM\x04\x0c\0\0\0", b"8BIM" * 3):
        assert without_thumbnails(odd) == odd


def test_a_jpeg_loses_it_however_many_segments_it_fills() -> None:
    large = IPTC + resource(1036, bytes(100_000)) + PATHS
    pieces = (large[start : start + 60_000] for start in range(0, len(large), 60_000))
    extra = b"".join(
        b"\xff\xed" + struct.pack(">H", len(SIGNATURE + piece) + 2) + SIGNATURE + piece
        for piece in pieces
    )
    written = opened(again(plain("jpeg", extra=extra)))
    assert [own for own in written.applist if own[0] == "APP13"] == [
        ("APP13", SIGNATURE + IPTC + PATHS)
    ]


def test_a_tiff_loses_it_too() -> None:
    data = plain("tiff", tiffinfo={34377: IPTC + THUMBNAIL})
    assert opened(again(data)).tag_v2[34377] == IPTC


def test_the_rest_travels_between_tiff_and_jpeg_however_large_it_is() -> None:
    large = IPTC + resource(2001, bytes(100_000)) + PATHS
    data = plain("tiff", tiffinfo={34377: large})
    jpeg = again(data, format="jpeg")
    pieces = [own for name, own in opened(jpeg).applist if name == "APP13"]
    assert b"".join(piece.removeprefix(SIGNATURE) for piece in pieces) == large
    assert opened(again(jpeg, format="tiff")).tag_v2[34377] == large


def test_formats_that_do_not_hold_it_say_so() -> None:
    photo = read(plain("tiff", tiffinfo={34377: IPTC + THUMBNAIL}))
    assert notes_for(photo, "jpeg") == ()
    assert notes_for(photo, "png") == ("its IPTC left out, which PNG does not hold",)
    assert notes_for(read(plain("tiff", tiffinfo={34377: THUMBNAIL})), "png") == ()
