"""Haze and low light that were made by their own models are undone."""

import numpy as np
import pytest
from skimage import data

from expertree.classical import light
from expertree.images.metrics import psnr_rgb


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.ascontiguousarray(data.coffee()[60:188, 150:278])


def test_haze_of_one_thickness_is_mostly_taken_away(clean: np.ndarray) -> None:
    hazy = (0.5 * clean + 0.5 * 235).round().astype(np.uint8)
    restored = light.dehaze(hazy, window_px=15, strength=0.95)
    assert psnr_rgb(restored, clean) > psnr_rgb(hazy, clean) + 3


def test_a_black_image_survives_dehazing() -> None:
    black = np.zeros((32, 32, 3), dtype=np.uint8)
    assert light.dehaze(black, window_px=7, strength=0.95).max() == 0


def test_a_gamma_of_flat_light_is_undone() -> None:
    flat = np.full((64, 64, 3), 128, dtype=np.uint8)
    dark = (255 * (flat / 255.0) ** 1.5).round().astype(np.uint8)
    assert np.abs(light.brighten(dark, gamma=1.5).astype(int) - 128).max() <= 2


def test_colours_keep_their_ratios_when_they_are_brightened() -> None:
    image = np.tile(np.array([40, 20, 10], dtype=np.uint8), (48, 48, 1))
    restored = light.brighten(image, gamma=2.0).astype(float)
    assert restored[0, 0, 0] > 60
    assert restored[..., 0] / restored[..., 1] == pytest.approx(2.0, rel=0.03)


def test_brightening_to_a_mean_never_darkens(clean: np.ndarray) -> None:
    bright = np.full((8, 8, 3), 200, dtype=np.uint8)
    assert np.array_equal(light.brighten_to_mean(bright, mean=0.4), bright)
    dark = (clean // 4).astype(np.uint8)
    assert dark.mean() < light.brighten_to_mean(dark, mean=0.4).mean()


def test_equalising_spreads_the_lightness(clean: np.ndarray) -> None:
    dull = (100 + clean // 8).astype(np.uint8)
    assert light.equalise(dull, clip_limit=2.0).std() > dull.std()


def test_the_guided_filter_keeps_an_edge_that_its_guide_has() -> None:
    guide = np.zeros((64, 64), dtype=np.float32)
    guide[:, 32:] = 1.0
    rough = guide + np.random.default_rng(0).normal(0, 0.1, guide.shape).astype(np.float32)
    smooth = light.guided_filter(guide, rough)
    assert np.abs(smooth - guide).max() < 0.05


def test_the_guided_filter_of_a_constant_is_that_constant() -> None:
    guide = np.random.default_rng(0).random((40, 50), dtype=np.float32)
    smooth = light.guided_filter(guide, np.full_like(guide, 0.3))
    assert smooth == pytest.approx(0.3, abs=1e-4)
