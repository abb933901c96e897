"""What follows the picture of a JPEG is told, and no mark of it stays."""

import pytest

from expertree.images.jpeg_parts import jpeg_end
from photographs import again, plain, read

MOTION = b'<x:xmpmeta><rdf dc:title="Dune" GCamera:MotionPhoto="1"/></x:xmpmeta>'
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(200)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_a_picture_ends_where_its_last_scan_does(options: dict) -> None:
    data = plain("jpeg", **options)
    assert jpeg_end(data) == len(data)
    assert jpeg_end(data + VIDEO) == len(data)
    assert jpeg_end(data + data) == len(data)


@pytest.mark.parametrize(
    ("rest", "note"),
    [
        (VIDEO, "the video of its motion photo was left out"),
        (b"junk", "what follows its end was left out"),
    ],
)
def test_what_follows_is_told(rest: bytes, note: str) -> None:
    assert note in read(plain("jpeg") + rest).notes
    assert read(plain("jpeg") + bytes(9)).notes == ()


def test_the_marks_of_a_motion_photo_go_with_its_video_and_the_rest_stays() -> None:
    data = plain("jpeg", xmp=MOTION) + VIDEO
    written = again(data)
    assert b"MotionPhoto" not in written
    assert b"ftyp" not in written
    assert b'dc:title="Dune"' in written
    assert read(written).notes == ()


def test_a_gain_map_is_told_and_its_marks_go() -> None:
    marks = b'<x:xmpmeta><rdf hdrgm:Version="1.0"/></x:xmpmeta>'
    data = plain("jpeg", xmp=marks) + plain("jpeg")
    assert "gain map" in " ".join(read(data).notes)
    assert b"hdrgm" not in again(data)
