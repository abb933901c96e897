"""Colours of a photograph's profile: to the network and back."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageCms

from expertree.images.photo_file import write_photo
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
