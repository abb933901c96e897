"""Means over a data set, under its protocol."""

import dataclasses
import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree.datasets import (
    Protocol,
    evaluate,
    open_dataset,
    read_pair,
    score_pair,
    score_pairs,
    summarise,
    table_of,
    to_8_bit,
)
from expertree.datasets.scoring import measure
from expertree.datasets.weather import CDD11
from expertree.errors import DatasetError
from expertree.images.metrics import PSNR_CAP_DB, psnr_rgb, psnr_y, ssim, ssim_y


@pytest.fixture
def rain(fill):
    names = [f"{side}/{n}.png" for side in ("input", "target") for n in range(3)]
    return open_dataset("rain100l", fill(names, height_px=40, width_px=40), partial=True)


def half_way(clean):
    """Restores half of what is wrong; knows the clean images."""

    def restore(image):
        return np.rint((image.astype(float) + clean.pop(0)) / 2).astype(np.uint8)

    return restore


def test_means_are_those_of_the_images(rain):
    pairs = [read_pair(pair, rain.protocol) for pair in rain]
    assert pairs[0][0].shape == (32, 32, 3)
    result = evaluate(rain, half_way([gt for _, gt in pairs]))
    degraded = [psnr_rgb(lq, gt) for lq, gt in pairs]
    assert result["groups"]["all"]["degraded"]["psnr"] == pytest.approx(np.mean(degraded))
    assert result["groups"]["all"] == result["groups"]["rain"]
    gain = result["groups"]["all"]["restored"]["psnr"] - np.mean(degraded)
    assert gain == pytest.approx(6.02, abs=0.1)
    assert json.loads(json.dumps(result)) == result


def test_the_clean_image_reaches_the_cap(rain):
    clean = [read_pair(pair, rain.protocol)[1] for pair in rain]
    result = evaluate(rain, lambda _: clean.pop(0))
    assert result["groups"]["all"]["restored"] == {"psnr": PSNR_CAP_DB, "ssim": 1.0}


def test_images_are_read_and_restored_one_by_one(rain):
    seen = []
    scores = score_pairs(rain, lambda image: seen.append(image) or image)
    assert seen == []
    next(scores)
    assert len(seen) == 1


def test_channels_and_border_are_the_protocols():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 40, 44, 3), dtype=np.uint8)
    luma = measure(a, b, Protocol(channels="y"))
    assert (luma.psnr, luma.ssim) == (psnr_y(a, b), ssim_y(a, b))
    inner = measure(a, b, Protocol(border_px=4))
    assert inner.psnr == psnr_rgb(a[4:-4, 4:-4], b[4:-4, 4:-4])
    assert inner.ssim == ssim(a[4:-4, 4:-4], b[4:-4, 4:-4])


@pytest.mark.parametrize(("sigma", "input_db"), [(15, 24.61), (25, 20.17), (50, 14.15)])
def test_float_noise_has_the_published_psnr_of_the_input(fill, sigma, input_db):
    root = fill(["kodim01.png"], height_px=256, width_px=320)
    dataset = open_dataset("kodak24", root, f"noise{sigma}_float", partial=True)
    lq, gt = read_pair(dataset.pairs[0], dataset.protocol)
    assert lq.dtype == np.float32
    assert lq.shape == gt.shape == (256, 320, 3)
    assert lq.min() < 0.0
    assert lq.max() > 1.0
    assert measure(lq, gt, dataset.protocol).psnr == pytest.approx(input_db, abs=0.05)
    clipped = to_8_bit(lq)
    assert measure(clipped, gt, dataset.protocol).psnr > input_db + 0.1


def test_grey_jpeg_is_the_luma_coded_as_a_grey_image(fill):
    root = fill(["bikes.bmp"], height_px=64, width_px=80)
    dataset = open_dataset("live1", root, "jpeg10_grey", partial=True)
    lq, gt = read_pair(dataset.pairs[0], dataset.protocol)
    colour = cv2.imread(str(root / "bikes.bmp"))[..., ::-1].astype(np.float64)
    luma = np.rint(16.0 + colour @ [65.481 / 255, 128.553 / 255, 24.966 / 255]).astype(np.uint8)
    assert (gt == luma[..., None]).all()
    stream = io.BytesIO()
    PillowImage.fromarray(luma).save(stream, format="JPEG", quality=10)
    coded = np.array(PillowImage.open(stream))
    assert (lq == coded[..., None]).all()
    assert measure(lq, gt, dataset.protocol).psnr == pytest.approx(
        10 * np.log10(255**2 / np.mean((coded.astype(float) - luma) ** 2))
    )


def test_protocols_that_read_the_same_pixels_restore_them_once(rain):
    seen = []
    found = score_pair(
        rain.pairs[0],
        [Protocol(), Protocol(name="y", channels="y"), Protocol(name="rgb16", multiple_px=16)],
        {"mine": lambda image: seen.append(image.shape) or image},
    )
    assert seen == [(40, 40, 3), (32, 32, 3)]
    assert list(found) == ["rgb", "y", "rgb16"]
    for qualities in found.values():
        assert qualities["mine"] == qualities["input"]


def test_combinations_have_means_of_their_own(fill):
    root = fill([f"test/{kind}/{n}.png" for kind in ("clear", *CDD11) for n in (1, 2)])
    dataset = open_dataset("cdd11", root, partial=True)
    result = evaluate(dataset, lambda image: image)
    assert len(result["groups"]) == 12
    assert result["groups"]["low_light + snow + haze"]["num_images"] == 2
    assert result["groups"]["all"]["num_images"] == 22
    lines = table_of(result).splitlines()
    assert lines[0] == "cdd11 test, PSNR (dB) / SSIM, RGB"
    assert len(lines) == 14
    assert len({len(line) for line in lines[2:]}) == 1


def test_the_table_names_the_channels_and_the_gain(rain):
    luma = dataclasses.replace(rain, protocol=Protocol(channels="y"))
    table = table_of(summarise(luma, score_pairs(luma, lambda image: image))).splitlines()
    assert table[0] == "rain100l test, PSNR (dB) / SSIM, Y"
    assert table[2].startswith("all ")
    assert table[2].endswith("+0.00")
    assert len(table) == 3


def test_a_split_without_degraded_images_is_refused(fill):
    dataset = open_dataset("kodak24", fill(["kodim01.png"]), "clean", partial=True)
    with pytest.raises(DatasetError, match="has no degraded image; choose a split"):
        evaluate(dataset, lambda image: image)
