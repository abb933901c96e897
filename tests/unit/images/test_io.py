import io

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from expertree.images.io import (
    decode_photo_u8,
    decode_u8,
    encode_png,
    jpeg_round_trip,
    to_float,
    to_u8,
)


def picture(height_px=20, width_px=31, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def encoded(image, fmt, **options):
    stream = io.BytesIO()
    image.save(stream, format=fmt, **options)
    return stream.getvalue()


@pytest.mark.parametrize("level", [0, 1, 6])
def test_png_keeps_every_pixel_and_the_order_of_the_channels(level):
    image = picture()
    data = encode_png(image, level)
    np.testing.assert_array_equal(decode_u8(data), image)
    np.testing.assert_array_equal(np.array(PillowImage.open(io.BytesIO(data))), image)


def test_encoding_a_float_image_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        encode_png(picture().astype(np.float32))


@pytest.mark.parametrize("data", [b"", b"not an image at all"])
def test_decoding_something_else_is_refused(data):
    with pytest.raises(ValueError, match="not an image"):
        decode_u8(data)


def test_tensor_and_image_convert_without_loss():
    image = picture()
    tensor = to_float(image)
    assert tensor.shape == (3, 20, 31)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert 0.0 <= float(tensor.min()) <= float(tensor.max()) <= 1.0
    np.testing.assert_array_equal(to_u8(tensor), image)


def test_to_u8_clips_and_rounds():
    tensor = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0]).expand(3, 1, 6)
    assert to_u8(tensor)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_to_u8_refuses_a_batch():
    with pytest.raises(ValueError, match=r"\[1, 3, 4, 4\]"):
        to_u8(torch.zeros(1, 3, 4, 4))


def test_jpeg_of_lower_quality_is_farther_from_the_original():
    y, x = np.mgrid[0:64, 0:64]
    image = np.stack([x * 4, y * 4, (x * y) % 256], axis=2).astype(np.uint8)
    errors = [np.abs(jpeg_round_trip(image, q).astype(int) - image).mean() for q in (90, 40, 10)]
    assert errors == sorted(errors)


@pytest.mark.parametrize(
    ("fmt", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})],
)
def test_photographs_of_lossless_formats_decode_exactly(fmt, options):
    image = picture()
    data = encoded(PillowImage.fromarray(image), fmt, **options)
    np.testing.assert_array_equal(decode_photo_u8(data), image)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_photographs_of_other_modes_become_rgb(mode):
    fmt = "TIFF" if mode == "CMYK" else "PNG"
    data = encoded(PillowImage.fromarray(picture()).convert(mode), fmt)
    assert decode_photo_u8(data).shape == (20, 31, 3)


def test_the_orientation_of_a_photograph_is_applied():
    image = PillowImage.fromarray(picture())
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    data = encoded(image, "PNG", exif=exif)
    np.testing.assert_array_equal(decode_photo_u8(data), np.rot90(np.array(image), -1))


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_a_truncated_photograph_is_refused(fmt):
    data = encoded(PillowImage.fromarray(picture(200, 200)), fmt)
    with pytest.raises(ValueError, match=r"is damaged|is not an image"):
        decode_photo_u8(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_something_that_is_no_photograph_is_refused(data):
    with pytest.raises(ValueError, match=r"is not an image|is damaged"):
        decode_photo_u8(data)


def test_a_photograph_of_16_bits_is_refused_with_advice():
    deep = PillowImage.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20))
    with pytest.raises(ValueError, match="8 bits"):
        decode_photo_u8(encoded(deep, "PNG"))


def test_an_image_of_one_pixel_that_may_not_be_written_to_is_converted():
    image = picture(1, 1)
    image.setflags(write=False)
    np.testing.assert_array_equal(to_u8(to_float(image)), image)
