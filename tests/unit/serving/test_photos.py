"""A photograph's file on its way to the engine."""

import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree.serving.photos import decode
from photographs import by_opencv, encoded, matrix_profile, photo_u8, photo_u16, srgb_profile


@pytest.mark.parametrize("profile", [None, srgb_profile()], ids=["none", "srgb"])
def test_eight_bits_of_srgb_stay_a_quarter_of_the_bytes(profile: bytes | None) -> None:
    data = encoded(PillowImage.fromarray(photo_u8()), "PNG", icc_profile=profile)
    assert np.array_equal(decode(data, 10_000).pixels, photo_u8())
    assert decode(data, 10_000).pixels.dtype == np.uint8


@pytest.mark.parametrize(
    "data",
    [
        by_opencv(".png", photo_u16()),
        encoded(PillowImage.fromarray(photo_u8()), "PNG", icc_profile=matrix_profile()),
    ],
    ids=["16-bits", "adobe"],
)
def test_sixteen_bits_and_other_colours_go_as_floats(data: bytes) -> None:
    pixels = decode(data, 10_000).pixels
    assert pixels.dtype == np.float32
    assert pixels.shape == (24, 36, 3)
