"""A split in other channels than its usual ones."""

import cv2
import numpy as np
import pytest

from expertree.datasets import Protocol, evaluate, in_channels, open_dataset, to_8_bit
from expertree.datasets.protocols import RGB16, Y
from expertree.errors import ConfigError

PAIR = ["input/1.png", "target/1.png"]


def test_the_protocol_that_publications_have_for_the_channels_is_taken_whole(fill):
    rain = open_dataset("rain100l", fill(PAIR), partial=True)
    assert rain.protocol == RGB16
    assert in_channels(rain, "y").protocol == Y
    assert in_channels(rain, "rgb").protocol == RGB16


def test_without_one_the_usual_protocol_is_measured_in_them_under_a_name_of_its_own(fill):
    root = fill([*PAIR, "0.png"])
    pairs = open_dataset("paired", root)
    assert in_channels(pairs, "y").protocol == Protocol(name="y", channels="y")
    noisy = in_channels(open_dataset("cbsd68", root, "noise25", partial=True), "y").protocol
    assert (noisy.name, noisy.channels, noisy.multiple_px) == ("noise25_y", "y", 16)


@pytest.mark.parametrize("channels", ["rgb", "y"])
def test_rounding_alone_is_no_gain_in_any_channels(fill, channels):
    root = fill([])
    grey = np.full((96, 96, 3), 128, dtype=np.uint8)
    grey[:, :48, 0] = 100  # in colour
    assert cv2.imwrite(str(root / "0.png"), grey)
    dataset = open_dataset("cbsd68", root, "noise25_float", partial=True)
    found = evaluate(in_channels(dataset, channels), to_8_bit)["groups"]["all"]
    for measure, within in (("psnr", 0.01), ("ssim", 0.001)):
        before, after = found["degraded"][measure], found["restored"][measure]
        assert after == pytest.approx(before, abs=within)


def test_grey_and_colour_are_no_channels_of_the_same_pixels(fill):
    root = fill([*PAIR, "0.png"])
    with pytest.raises(
        ConfigError, match="paired, split all is measured in rgb, and channels=grey"
    ):
        in_channels(open_dataset("paired", root), "grey")
    coded = open_dataset("live1", root, "jpeg10_grey", partial=True)
    assert in_channels(coded, "grey") == coded
    with pytest.raises(ConfigError, match="measured in grey, and channels=y"):
        in_channels(coded, "y")
