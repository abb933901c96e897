import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from expertree.images.metrics import PSNR_CAP_DB, psnr_rgb, psnr_y, ssim, ssim_y


def pair(height_px=40, width_px=57, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    noise = rng.normal(0, 20, a.shape)
    return a, np.clip(a + noise, 0, 255).astype(np.uint8)


def luma(image):
    red, green, blue = (image[..., c].astype(np.float64) for c in range(3))
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


@pytest.mark.parametrize("seed", range(4))
def test_ssim_equals_scikit_image(seed):
    a, b = pair(seed=seed)
    oracle = structural_similarity(
        a,
        b,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(a, b) == pytest.approx(oracle, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_ssim_of_the_luma_equals_scikit_image(seed):
    a, b = pair(seed=seed)
    oracle = structural_similarity(
        luma(a),
        luma(b),
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim_y(a, b) == pytest.approx(oracle, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_psnr_rgb_equals_scikit_image(seed):
    a, b = pair(seed=seed)
    assert psnr_rgb(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-6)


def test_psnr_y_equals_the_formula_of_bt601():
    a, b = pair()
    oracle = peak_signal_noise_ratio(luma(a), luma(b), data_range=255)
    assert psnr_y(a, b) == pytest.approx(oracle, abs=1e-6)


def test_luma_runs_from_16_to_235():
    black, white = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
    assert psnr_y(black, white) == pytest.approx(20 * np.log10(255 / 219), abs=1e-6)


def test_psnr_sees_differences_of_both_signs():
    dark, bright = np.full((12, 12, 3), 10, np.uint8), np.full((12, 12, 3), 20, np.uint8)
    expected = 20 * np.log10(255 / 10)
    assert psnr_rgb(dark, bright) == pytest.approx(expected, abs=1e-6)
    assert psnr_rgb(bright, dark) == pytest.approx(expected, abs=1e-6)


def test_identical_images_score_the_cap_and_one():
    a, _ = pair()
    assert psnr_rgb(a, a.copy()) == PSNR_CAP_DB
    assert psnr_y(a, a.copy()) == PSNR_CAP_DB
    assert ssim(a, a.copy()) == pytest.approx(1.0, abs=1e-12)


def test_metrics_do_not_depend_on_the_order_of_the_images():
    a, b = pair()
    for metric in (psnr_rgb, psnr_y, ssim, ssim_y):
        assert metric(a, b) == pytest.approx(metric(b, a), abs=1e-12)


@pytest.mark.parametrize("metric", [psnr_rgb, psnr_y, ssim, ssim_y])
def test_images_of_different_shape_are_refused(metric):
    a, b = pair()
    with pytest.raises(ValueError, match="different shape"):
        metric(a, b[:-1])


@pytest.mark.parametrize("metric", [psnr_rgb, psnr_y, ssim, ssim_y])
def test_float_images_are_refused(metric):
    a, b = pair()
    with pytest.raises(ValueError, match="uint8"):
        metric(a.astype(np.float32), b)


def test_ssim_refuses_an_image_smaller_than_its_window():
    a, b = pair(height_px=10)
    with pytest.raises(ValueError, match="at least 11 px"):
        ssim(a, b)
