"""Colours of a photograph's profile: to the network and back."""

import dataclasses
import io
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from expertree.images.photo_file import LOSSY_FORMATS, notes_for, write_photo
from photographs import (
    again,
    by_opencv,
    matrix_profile,
    opened,
    photo_u8,
    photo_u16,
    plain,
    png_with,
    read,
    srgb_profile,
)


def test_an_srgb_profile_changes_no_pixel_and_is_kept() -> None:
    data = plain("png", icc_profile=srgb_profile())
    np.testing.assert_allclose(
        read(data).tensor().numpy(), photo_u8().transpose(2, 0, 1) / 255, atol=1e-6
    )
    written = opened(again(data))
    assert written.info["icc_profile"] == srgb_profile()
    np.testing.assert_array_equal(np.array(written), photo_u8())


@pytest.mark.parametrize("primaries", ["adobe", "p3"])
@pytest.mark.parametrize("fmt", ["png", "tiff", "webp"])
def test_pixels_in_other_colours_come_back_to_the_bit(fmt: str, primaries: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image[0, :3] = np.eye(3) * 255  # primaries, which sRGB cannot show
    profile = matrix_profile(primaries=primaries)
    written = opened(again(plain(fmt, PillowImage.fromarray(image), icc_profile=profile)))
    assert written.info["icc_profile"] == profile
    np.testing.assert_array_equal(np.array(written), image)


@pytest.mark.parametrize("primaries", ["adobe", "p3"])
def test_sixteen_bits_in_other_colours_come_back_to_the_bit(primaries: str) -> None:
    profile = matrix_profile(primaries=primaries)
    payload = b"icc\0\0" + zlib.compress(profile)
    data = png_with(by_opencv(".png", photo_u16(128, 128)), (b"iCCP", payload))
    np.testing.assert_array_equal(read(again(data)).colour, photo_u16(128, 128))
    as_tiff = again(data, format="tiff")
    assert opened(as_tiff).info["icc_profile"] == profile
    np.testing.assert_array_equal(read(as_tiff).colour, photo_u16(128, 128))


def test_colours_reach_the_network_as_colour_management_says() -> None:
    profile = matrix_profile(primaries="adobe")
    image = PillowImage.fromarray(photo_u8(64, 64) // 2 + 64)  # within sRGB
    expected = ImageCms.profileToProfile(
        image,
        io.BytesIO(profile),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    tensor = read(plain("png", image, icc_profile=profile)).tensor()
    difference = tensor.numpy().transpose(1, 2, 0) * 255 - np.array(expected)
    assert np.abs(difference).max() < 1.5
    assert np.abs(np.array(expected).astype(int) - np.array(image)).max() > 3


def test_a_grey_profile_is_undone_too() -> None:
    profile = matrix_profile(gamma=1.0, space=b"GRAY")
    grey = PillowImage.fromarray(photo_u8()[..., 0])
    photo = read(plain("png", grey, icc_profile=profile))
    linear = photo_u8()[..., 0] / 255
    expected = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(photo.tensor()[0].numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(np.array(opened(write_photo(photo, photo.tensor()))), grey)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("alpha", [None, 0, 99])
@pytest.mark.parametrize("fmt", ["png", "tiff", "bmp", "webp", "avif", "heic"])
@pytest.mark.parametrize("space", [b"GRAY", b"RGB "])
def test_grey_keeps_its_tones_where_a_format_makes_rgb_of_it(fmt, alpha, depth, space) -> None:
    values = np.linspace(0, 2**depth - 1, 64 * 64).astype(f"u{depth // 8}").reshape(64, 64, 1)
    profile = matrix_profile(gamma=1.4, space=space)
    like = read(plain("png", PillowImage.fromarray(photo_u8()[..., 0]), icc_profile=profile))
    see = None if alpha is None else np.maximum(values[..., 0], alpha)
    photo = dataclasses.replace(like, colour=values, alpha=see)
    quality = 100 if fmt in LOSSY_FORMATS else None
    written = read(write_photo(photo, photo.tensor(), format=fmt, quality=quality))
    assert (written.tensor() - photo.tensor()).abs().max() < 6 / 255
    kind = None if written.metadata.icc is None else written.metadata.icc[16:20]
    assert kind in ({b"RGB ", b"GRAY", None} if written.colour.shape[2] == 1 else {None})
    is_told = "its grey became RGB (sRGB)" in notes_for(photo, fmt)
    assert is_told == (written.colour.shape[2] == 3)


def test_grey_as_rgb_keeps_a_profile_that_is_srgb() -> None:
    grey = PillowImage.fromarray(photo_u8()[..., 0])
    data = plain("png", grey, icc_profile=srgb_profile())
    assert opened(again(data, format="webp")).info["icc_profile"] == srgb_profile()
    assert notes_for(read(data), "webp") == ()


@pytest.mark.parametrize(
    "profile",
    [
        b"rubbish",
        bytes(200),
        matrix_profile()[:300],
        matrix_profile().replace(b"curv", b"krmm"),
        matrix_profile(space=b"GRAY"),
        matrix_profile(gamma=0.0),
    ],
    ids=["rubbish", "zeros", "truncated", "curves", "grey", "flat"],
)
def test_a_profile_that_makes_no_sense_is_carried_along(profile: bytes) -> None:
    data = plain("jpeg", icc_profile=profile)
    written = again(data)
    assert opened(written).info["icc_profile"] == profile
    np.testing.assert_allclose(
        read(data).tensor().numpy() * 255, np.array(opened(data)).transpose(2, 0, 1), atol=1e-3
    )
