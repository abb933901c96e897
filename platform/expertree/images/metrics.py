"""PSNR and SSIM as the restoration field computes them: on 8-bit images, without a border cut.

All take two images of one shape, uint8 `[height, width, 3]` RGB, and return one number for the
pair; a data set's number is the mean over its images.
"""

from typing import Any, TypeAlias

import cv2
import numpy as np

from expertree.images.arrays import Image, ImageU8
from expertree.images.io import check_image_u8

_Plane: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

PSNR_CAP_DB = 100.0
"""PSNR of identical images; without a cap one such pair makes every mean infinite."""

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
_C1 = (0.01 * 255.0) ** 2
_C2 = (0.03 * 255.0) ** 2
# BT.601, studio swing: black is 16, white 235 (MATLAB's rgb2ycbcr, not rounded).
_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0
_LUMA_BLACK = 16.0


def psnr_rgb(a_u8: ImageU8, b_u8: ImageU8) -> float:
    """Return the peak signal-to-noise ratio over all channels, in dB, at most `PSNR_CAP_DB`.

    Raises:
        ValueError: If the images differ in shape or are not 8-bit RGB.
    """
    _check_pair(a_u8, b_u8)
    difference = cv2.subtract(a_u8, b_u8, dtype=cv2.CV_32F)
    return _psnr_of(float(np.mean(np.square(difference, dtype=np.float64))))


def psnr_y(a_u8: ImageU8, b_u8: ImageU8) -> float:
    """Return the peak signal-to-noise ratio of the luma (BT.601 studio swing), in dB, peak 255.

    Raises:
        ValueError: If the images differ in shape or are not 8-bit RGB.
    """
    _check_pair(a_u8, b_u8)
    difference = (a_u8.astype(np.float64) - b_u8) @ _LUMA
    return _psnr_of(float(np.mean(np.square(difference))))


def psnr_unrounded(image: Image, gt_u8: ImageU8, *, is_luma: bool = False) -> float:
    """Return the PSNR of an image that is neither clipped nor rounded, in dB.

    Args:
        image: float32 `[height, width, 3]`, 1 being white; noise may take it out of [0, 1].
        gt_u8: The clean image.
        is_luma: Whether to compare the luma, as `psnr_y`, and not all channels.

    Raises:
        ValueError: If the images differ in shape.
    """
    _check_shapes(image, gt_u8)
    difference = image.astype(np.float64) * 255.0 - gt_u8
    if is_luma:
        difference = difference @ _LUMA
    return _psnr_of(float(np.mean(np.square(difference))))


def ssim_unrounded(image: Image, gt_u8: ImageU8, *, is_luma: bool = False) -> float:
    """Return the structural similarity of such an image; otherwise as `ssim`, or as `ssim_y`.

    Raises:
        ValueError: If the images differ in shape, or have a side below 11 px.
    """
    _check_shapes(image, gt_u8)
    a, b = image.astype(np.float64) * 255.0, gt_u8.astype(np.float64)
    return _ssim_of(a @ _LUMA + _LUMA_BLACK, b @ _LUMA + _LUMA_BLACK) if is_luma else _ssim_of(a, b)


def grey_u8(image_u8: ImageU8) -> ImageU8:
    """Return an image's luma (BT.601 studio swing, rounded) in three equal channels.

    It is what MATLAB's `rgb2ycbcr` gives for 8-bit images, 16 to 235. An image that is grey already
    stays as it is, as there.
    """
    if is_grey(image_u8):
        return image_u8
    luma = np.rint(image_u8 @ _LUMA + _LUMA_BLACK).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(luma[..., None], image_u8.shape))


def is_grey(image_u8: ImageU8) -> bool:
    """Return whether R, G and B are equal in every pixel."""
    check_image_u8(image_u8)
    return bool((image_u8[..., :1] == image_u8[..., 1:]).all())


def mean_of_channels(image_u8: ImageU8) -> ImageU8:
    """Return the mean of R, G and B, rounded, in three equal channels."""
    check_image_u8(image_u8)
    mean = np.rint(image_u8.mean(axis=2)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(mean[..., None], image_u8.shape))


def ssim(a_u8: ImageU8, b_u8: ImageU8) -> float:
    """Return structural similarity: Gaussian window 11 / 1.5, valid region, mean over R, G and B.

    Wang et al. 2004, with the population covariance.

    Returns:
        A number in [-1, 1]; 1 for identical images.

    Raises:
        ValueError: If the images differ in shape, are not 8-bit RGB, or have a side below 11 px.
    """
    _check_pair(a_u8, b_u8)
    return _ssim_of(a_u8.astype(np.float64), b_u8.astype(np.float64))


def ssim_y(a_u8: ImageU8, b_u8: ImageU8) -> float:
    """Return the structural similarity of the luma (BT.601 studio swing); otherwise as `ssim`.

    Raises:
        ValueError: As `ssim`.
    """
    _check_pair(a_u8, b_u8)
    return _ssim_of(a_u8 @ _LUMA + _LUMA_BLACK, b_u8 @ _LUMA + _LUMA_BLACK)


def _ssim_of(a: _Plane, b: _Plane) -> float:
    if min(a.shape[:2]) < SSIM_WINDOW_PX:
        raise ValueError(
            f"SSIM needs sides of at least {SSIM_WINDOW_PX} px, got {list(a.shape[:2])}"
        )
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a * a) - mean_a * mean_a
    variance_b = _window_mean(b * b) - mean_b * mean_b
    covariance = _window_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a * mean_a + mean_b * mean_b + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    return float(np.mean(luminance * structure))


def _window_mean(plane: _Plane) -> _Plane:
    """Return the Gaussian-weighted mean around each pixel whose window lies in the image."""
    taps = cv2.getGaussianKernel(SSIM_WINDOW_PX, SSIM_SIGMA_PX, cv2.CV_64F)
    radius = SSIM_WINDOW_PX // 2
    blurred = cv2.sepFilter2D(plane, cv2.CV_64F, taps, taps)
    return np.asarray(blurred[radius:-radius, radius:-radius], dtype=np.float64)


def _psnr_of(mean_squared_error: float) -> float:
    if mean_squared_error == 0.0:
        return PSNR_CAP_DB
    return min(PSNR_CAP_DB, float(10.0 * np.log10(255.0**2 / mean_squared_error)))


def _check_pair(a_u8: ImageU8, b_u8: ImageU8) -> None:
    check_image_u8(a_u8)
    check_image_u8(b_u8)
    _check_shapes(a_u8, b_u8)


def _check_shapes(a: ImageU8 | Image, b_u8: ImageU8) -> None:
    if a.shape != b_u8.shape:
        raise ValueError(
            f"images of different shape cannot be compared: {list(a.shape)} and {list(b_u8.shape)}"
        )
