"""Filters against noise, compression, blur, rain and snow, which use a pixel's neighbours.

All take and return an image, uint8 `[height, width, 3]` RGB.
"""

from typing import Any

import cv2
import numpy as np

from expertree.images.arrays import Image, ImageU8

_SEARCH_PX = 11
_TEMPLATE_PX = 5
_DIAMETER_PX = 7
_PAD_PX = 16
_LEAST = np.float32(1e-3)
_MEDIAN_TO_SIGMA = 0.6745


def noise_sigma(image_u8: ImageU8) -> float:
    """Estimate the standard deviation of an image's white noise, on the scale of 0 to 255.

    It comes from the median of the finest diagonal Haar coefficients, which hold little but noise
    (Donoho and Johnstone 1994).
    """
    image = image_u8[: image_u8.shape[0] // 2 * 2, : image_u8.shape[1] // 2 * 2].astype(np.int16)
    diagonal = image[::2, ::2] - image[1::2, ::2] - image[::2, 1::2] + image[1::2, 1::2]
    return float(np.median(np.abs(diagonal)) / 2.0 / _MEDIAN_TO_SIGMA)


def non_local_means(image_u8: ImageU8, *, sigma: float, weight: float = 1.0) -> ImageU8:
    """Denoise by non-local means on all channels together (Buades, Coll and Morel 2005; OpenCV's).

    Args:
        image_u8: A noisy image.
        sigma: Standard deviation of its noise, on the scale of 0 to 255.
        weight: Strength of the smoothing, as a multiple of the noise.
    """
    strength = max(weight * sigma, 1.0)
    restored = cv2.fastNlMeansDenoising(image_u8, None, strength, _TEMPLATE_PX, _SEARCH_PX)
    return np.asarray(restored, dtype=np.uint8)


def bilateral(image_u8: ImageU8, *, sigma: float, std_px: float) -> ImageU8:
    """Smooth by a bilateral filter (Tomasi and Manduchi 1998; OpenCV's).

    Args:
        image_u8: The image.
        sigma: Differences of colour that are smoothed over, on the scale of 0 to 255.
        std_px: Standard deviation in space, in pixels.
    """
    return np.asarray(cv2.bilateralFilter(image_u8, _DIAMETER_PX, sigma, std_px), dtype=np.uint8)


def unsharp(image_u8: ImageU8, *, std_px: float, amount: float) -> ImageU8:
    """Sharpen by unsharp masking: add what a Gaussian blur takes away.

    Args:
        image_u8: A blurred image.
        std_px: Standard deviation of the Gaussian.
        amount: Factor on the difference that is added.
    """
    image = image_u8.astype(np.float32)
    return _to_u8(image + np.float32(amount) * (image - _blurred(image, std_px)))


def wiener(image_u8: ImageU8, *, std_px: float, noise: float) -> ImageU8:
    """Deblur by Wiener deconvolution with an assumed Gaussian; borders are reflected.

    Args:
        image_u8: A blurred image.
        std_px: Standard deviation of the Gaussian.
        noise: Power of the noise, divided by that of the image.
    """
    height, width = image_u8.shape[:2]
    margins = ((_PAD_PX, _PAD_PX), (_PAD_PX, _PAD_PX), (0, 0))
    image = np.pad(image_u8.astype(np.float32), margins, mode="reflect")
    rows, columns = (np.fft.fftfreq(size) for size in image.shape[:2])
    squared = rows[:, None] ** 2 + columns[None, : columns.size // 2 + 1] ** 2
    response = np.exp(-2.0 * (np.pi * std_px) ** 2 * squared).astype(np.float32)
    inverse = (response / (response**2 + np.float32(noise)))[..., None]
    spectrum = np.fft.rfft2(image, axes=(0, 1)) * inverse * np.float32(1.0 + noise)
    restored = np.fft.irfft2(spectrum, s=image.shape[:2], axes=(0, 1))
    return _to_u8(restored[_PAD_PX : _PAD_PX + height, _PAD_PX : _PAD_PX + width])


def richardson_lucy(image_u8: ImageU8, *, std_px: float, num_steps: int) -> ImageU8:
    """Deblur by Richardson-Lucy deconvolution with an assumed Gaussian.

    Args:
        image_u8: A blurred image.
        std_px: Standard deviation of the Gaussian.
        num_steps: Iterations; few, since more of them bring out noise.
    """
    image = image_u8.astype(np.float32)
    estimate = image.copy()
    for _ in range(num_steps):
        ratio = image / np.maximum(_blurred(estimate, std_px), _LEAST)
        estimate *= _blurred(ratio, std_px)
    return _to_u8(estimate)


def without_bright(image_u8: ImageU8, *, width_px: int, height_px: int, share: float) -> ImageU8:
    """Remove grey bright spots that are thinner than a window, as rain streaks and snowflakes are.

    A spot is what an opening takes away (the white top-hat). Rain and snow add the same to red,
    green and blue, so they can have added the least of the three at most.

    Args:
        image_u8: An image with rain or snow.
        width_px: Width of the window; streaks that fall are narrow, so it may be one pixel high.
        height_px: Height of the window.
        share: Share of the spots that is taken away.
    """
    window = np.ones((height_px, width_px), dtype=np.uint8)
    opened = cv2.morphologyEx(image_u8, cv2.MORPH_OPEN, window, borderType=cv2.BORDER_REFLECT)
    spots = cv2.subtract(image_u8, np.asarray(opened, dtype=np.uint8)).min(axis=2)
    return _to_u8(image_u8.astype(np.float32) - np.float32(share) * spots[..., None])


def median(image_u8: ImageU8, *, size_px: int) -> ImageU8:
    """Replace each pixel by the median of a square window.

    Args:
        image_u8: The image.
        size_px: Side of the window, odd.
    """
    return np.asarray(cv2.medianBlur(image_u8, size_px), dtype=np.uint8)


def median_across(image_u8: ImageU8, *, size_px: int) -> ImageU8:
    """Replace each pixel by the median of a window of one row, across falling streaks.

    Args:
        image_u8: The image.
        size_px: Width of the window, odd.
    """
    radius = size_px // 2
    padded = np.pad(image_u8, ((0, 0), (radius, radius), (0, 0)), mode="reflect")
    width = image_u8.shape[1]
    shifted = np.stack([padded[:, start : start + width] for start in range(size_px)])
    return np.asarray(np.partition(shifted, radius, axis=0)[radius], dtype=np.uint8)


def _blurred(image: Image, std_px: float) -> Image:
    return np.asarray(
        cv2.GaussianBlur(image, (0, 0), std_px, borderType=cv2.BORDER_REFLECT_101),
        dtype=np.float32,
    )


def _to_u8(image: np.ndarray[Any, np.dtype[Any]]) -> ImageU8:
    return np.asarray(np.clip(image, 0.0, 255.0).round(), dtype=np.uint8)
