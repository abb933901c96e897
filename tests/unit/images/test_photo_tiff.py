"""What a TIFF holds beside its picture, at both depths."""

import struct

import numpy as np
import pytest

from expertree.images.photo_file import write_photo
from photographs import again, by_opencv, opened, photo_u8, photo_u16, plain, read

LAYERS = b"Adobe Photoshop Document Data Block\0" + bytes(100_000)


def tiff_of(depth: int) -> bytes:
    """A TIFF as `write_photo` makes it: one of its tags has its default and can be another."""
    return again(plain("png") if depth == 8 else by_opencv(".png", photo_u16()), format="tiff")


def with_tag(data: bytes, tag: int, value: bytes) -> bytes:
    """Put a tag of bytes in the place of the planar configuration."""
    entry = data.index(struct.pack("<HHIH", 284, 3, 1, 1))
    body = struct.pack("<HHII", tag, 7, len(value), len(data))
    return data[:entry] + body + data[entry + 12 :] + value


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("fmt", ["tiff", "png", "webp", "jpeg"])
def test_photoshops_layers_of_the_unrestored_picture_are_left_out(depth: int, fmt: str) -> None:
    photo = read(with_tag(tiff_of(depth), 37724, LAYERS))
    assert photo.notes == ("its layers were left out",)
    expected = photo_u8() if depth == 8 else photo_u16()
    np.testing.assert_array_equal(photo.colour, expected)
    written = write_photo(photo, photo.tensor(), format=fmt)
    assert LAYERS[:35] not in written
    assert 37724 not in opened(written).getexif()
    assert read(tiff_of(depth)).notes == ()
