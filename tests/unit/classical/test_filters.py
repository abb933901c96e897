"""What each filter does to images whose answer is known."""

import cv2
import numpy as np
import pytest
from skimage import data

from expertree.classical import filters
from expertree.images.metrics import psnr_rgb


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[40:168, 150:278])


def noisy(clean: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0.0, sigma, clean.shape)
    return np.clip(clean + noise, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("sigma", [15.0, 30.0, 50.0])
def test_the_deviation_of_white_noise_is_found_in_the_image(sigma: float) -> None:
    grey = np.full((129, 127, 3), 128, dtype=np.uint8)
    assert filters.noise_sigma(noisy(grey, sigma)) == pytest.approx(sigma, rel=0.06)


def test_an_image_without_noise_has_next_to_none() -> None:
    ramp = np.tile(np.arange(128, dtype=np.uint8)[None, :, None], (128, 1, 3))
    assert filters.noise_sigma(ramp) < 0.5


def test_non_local_means_takes_away_most_of_the_noise(clean: np.ndarray) -> None:
    spoiled = noisy(clean, 25.0)
    restored = filters.non_local_means(spoiled, sigma=filters.noise_sigma(spoiled))
    assert psnr_rgb(restored, clean) > psnr_rgb(spoiled, clean) + 5


@pytest.mark.parametrize(
    "sharpened",
    [
        lambda image: filters.unsharp(image, std_px=2.0, amount=1.0),
        lambda image: filters.wiener(image, std_px=2.0, noise=0.01),
        lambda image: filters.richardson_lucy(image, std_px=2.0, num_steps=8),
    ],
)
def test_a_gaussian_blur_is_partly_undone(clean: np.ndarray, sharpened: object) -> None:
    blurred = cv2.GaussianBlur(clean, (0, 0), 2.0)
    assert psnr_rgb(sharpened(blurred), clean) > psnr_rgb(blurred, clean) + 0.5


def test_deconvolution_leaves_a_flat_image_flat() -> None:
    flat = np.full((41, 55, 3), 90, dtype=np.uint8)
    assert np.array_equal(filters.wiener(flat, std_px=2.0, noise=0.02), flat)
    assert np.array_equal(filters.richardson_lucy(flat, std_px=2.0, num_steps=4), flat)


def test_thin_grey_streaks_go_and_thin_coloured_lines_stay() -> None:
    scene = np.full((40, 60, 3), 60, dtype=np.uint8)
    scene[:, 40] = (200, 60, 60)
    rainy = scene.copy()
    rainy[:, 20:22] += 80
    restored = filters.without_bright(rainy, width_px=9, height_px=1, share=1.0)
    assert np.array_equal(restored, scene)


def test_the_median_across_is_that_of_each_row() -> None:
    image = np.random.default_rng(1).integers(0, 256, (6, 11, 3), dtype=np.uint8)
    made = filters.median_across(image, size_px=5)
    padded = np.pad(image, ((0, 0), (2, 2), (0, 0)), mode="reflect")
    for row in range(6):
        for column in range(11):
            expected = np.median(padded[row, column : column + 5], axis=0)
            assert np.array_equal(made[row, column], expected.astype(np.uint8))
