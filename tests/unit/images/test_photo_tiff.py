"""What a TIFF holds beside its picture, at both depths."""

import dataclasses
import struct

import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree.errors import UnsupportedFormatError
from expertree.images.photo_file import write_photo
from photographs import again, by_opencv, opened, photo_u8, photo_u16, plain, random_u8, read

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


def with_extra_samples(kind: int, *, depth: int, mode: str = "RGBA") -> bytes:
    """A TIFF with a fourth channel of noise, of the given kind (TIFF 6.0, ExtraSamples)."""
    image = PillowImage.fromarray(photo_u8()).convert(mode)
    image.putalpha(PillowImage.fromarray(random_u8(24, 36)[..., 0]))
    photo = read(plain("png", image))
    if depth == 16:
        deep = photo.colour * np.uint16(257), photo.alpha * np.uint16(257)
        photo = dataclasses.replace(photo, colour=deep[0], alpha=deep[1])
    data = write_photo(photo, photo.tensor(), format="tiff")
    entry = data.index(struct.pack("<HHIH", 338, 3, 1, 2))
    return data[: entry + 8] + struct.pack("<H", kind) + data[entry + 10 :]


@pytest.mark.parametrize("depth", [8, 16])
def test_an_infrared_channel_is_no_transparency_and_is_told(depth: int) -> None:
    photo = read(with_extra_samples(0, depth=depth))
    assert photo.alpha is None
    assert photo.notes == ("a channel that is neither colour nor transparency was left out",)
    np.testing.assert_array_equal(photo.colour // (1 if depth == 8 else 257), photo_u8())
    assert opened(write_photo(photo, photo.tensor(), format="jpeg")).mode == "RGB"
    assert read(write_photo(photo, photo.tensor())).alpha is None
    seen = read(with_extra_samples(2, depth=depth))
    assert seen.alpha is not None
    assert seen.notes == ()


def test_another_channel_beside_grey_is_told() -> None:
    photo = read(with_extra_samples(0, depth=8, mode="L"))
    assert photo.alpha is None
    assert photo.colour.shape == (24, 36, 1)
    assert photo.notes == ("a channel that is neither colour nor transparency was left out",)


def test_grey_with_alpha_of_sixteen_bits_is_written_as_what_is_read_again() -> None:
    pixels = photo_u16(channels=2)
    like = read(plain("png", PillowImage.fromarray(photo_u8()[..., 0])))
    grey, alpha = np.ascontiguousarray(pixels[..., :1]), np.ascontiguousarray(pixels[..., 1])
    photo = dataclasses.replace(like, colour=grey, alpha=alpha)
    found = read(write_photo(photo, photo.tensor(), format="tiff"))
    np.testing.assert_array_equal(found.colour, np.repeat(grey, 3, axis=2))
    np.testing.assert_array_equal(found.alpha, alpha)
    assert found.is_grey


def test_channels_that_are_not_read_are_no_damage() -> None:
    grey = again(plain("png", PillowImage.fromarray(photo_u8()[..., 0])), format="tiff")
    bits = grey.index(struct.pack("<HHIH", 258, 3, 1, 8)) + 8
    samples = grey.index(struct.pack("<HHIH", 277, 3, 1, 1)) + 8
    two = bytearray(grey)
    struct.pack_into("<H", two, samples, 2)
    with pytest.raises(UnsupportedFormatError, match="has channels of a kind that is not read"):
        read(bytes(two))
    struct.pack_into("<H", two, bits, 16)
    for count in (2, 3, 4, 5):
        struct.pack_into("<H", two, samples, count)
        with pytest.raises(UnsupportedFormatError, match=rf"tag 277 is {count}.*another channel"):
            read(bytes(two))
