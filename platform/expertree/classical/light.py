"""Methods against haze and low light, which estimate what lies between scene and camera.

All take and return an image, uint8 `[height, width, 3]` RGB.
"""

import cv2
import numpy as np

from expertree.images.arrays import Field, Image, ImageU8

_BRIGHTEST_SHARE = 0.001
_LEAST_TRANSMISSION = 0.1
_GUIDE_RADIUS_PX = 16
_GUIDE_EPSILON = 1e-3
_DARKEST_LIGHT = 1e-2


def dehaze(image_u8: ImageU8, *, window_px: int, strength: float) -> ImageU8:
    """Remove haze by the dark channel prior (He, Sun and Tang 2009), with a guided filter.

    Args:
        image_u8: A hazy image.
        window_px: Side of the window whose darkest value is taken; odd.
        strength: Share of the haze that is taken away, their omega, in (0, 1].
    """
    image = image_u8.astype(np.float32) / np.float32(255.0)
    window = np.ones((window_px, window_px), dtype=np.uint8)
    dark = cv2.erode(image.min(axis=2), window)
    # Section 4.4: of the haziest thousandth by the dark channel, the brightest pixel is the air.
    num_haziest = max(1, round(_BRIGHTEST_SHARE * dark.size))
    haziest = np.argpartition(dark.ravel(), -num_haziest)[-num_haziest:]
    candidates = image.reshape(-1, 3)[haziest]
    airlight = np.maximum(candidates[candidates.sum(axis=1).argmax()], np.float32(_DARKEST_LIGHT))
    # Equation 12, refined by the guided filter (He, Sun and Tang 2010).
    rough = 1.0 - strength * cv2.erode((image / airlight).min(axis=2), window)
    transmission = guided_filter(_grey(image), rough.astype(np.float32))
    through = np.maximum(transmission, np.float32(_LEAST_TRANSMISSION))[..., None]
    return _to_u8((image - airlight) / through + airlight)


def brighten(image_u8: ImageU8, *, gamma: float) -> ImageU8:
    """Undo a gamma on the light alone (after LIME, Guo et al. 2017): colours keep their ratios.

    The light is the brightest channel, smoothed within edges. If the scene's light I became
    I^gamma, then each pixel is to be multiplied by L^(1 / gamma - 1), L being the light seen.

    Args:
        image_u8: A dark image.
        gamma: Gamma by which the light is assumed to have been darkened, above 1.
    """
    image = image_u8.astype(np.float32) / np.float32(255.0)
    brightest = image.max(axis=2)
    light = np.clip(guided_filter(brightest, brightest), _DARKEST_LIGHT, 1.0)
    return _to_u8(image * np.power(light, 1.0 / gamma - 1.0)[..., None])


def brighten_to_mean(image_u8: ImageU8, *, mean: float) -> ImageU8:
    """Brighten an image to a mean by a gamma; a brighter image stays as it is.

    Args:
        image_u8: A dark image.
        mean: The wanted mean of the values, in (0, 1).
    """
    now = float(np.clip(image_u8.mean() / 255.0, _DARKEST_LIGHT, 0.99))
    exponent = min(np.log(mean) / np.log(now), 1.0)
    curve = 255.0 * np.power(np.arange(256) / 255.0, exponent)
    return np.asarray(cv2.LUT(image_u8, curve.round().astype(np.uint8)), dtype=np.uint8)


def brighten_evenly(image_u8: ImageU8, *, exponent: float) -> ImageU8:
    """Brighten every pixel by one power, whatever the image.

    Args:
        image_u8: A dark image.
        exponent: Exponent of the values in [0, 1], below 1.
    """
    curve = 255.0 * np.power(np.arange(256) / 255.0, exponent)
    return np.asarray(cv2.LUT(image_u8, curve.round().astype(np.uint8)), dtype=np.uint8)


def equalise(image_u8: ImageU8, *, clip_limit: float) -> ImageU8:
    """Equalise the lightness in tiles, with limited contrast (CLAHE).

    Args:
        image_u8: A dark image.
        clip_limit: OpenCV's limit of the contrast.
    """
    lab = cv2.cvtColor(image_u8, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(4, 4)).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)


def guided_filter(guide: Field, source: Field) -> Field:
    """Smooth one plane within the edges of another (He, Sun and Tang 2010, equations 5 to 8).

    Args:
        guide: float32 `[height, width]` in [0, 1].
        source: The same shape.
    """

    def mean(plane: Field) -> Field:
        side_px = 2 * _GUIDE_RADIUS_PX + 1
        return np.asarray(
            cv2.boxFilter(plane, cv2.CV_32F, (side_px, side_px), borderType=cv2.BORDER_REFLECT),
            dtype=np.float32,
        )

    mean_guide, mean_source = mean(guide), mean(source)
    covariance = mean(guide * source) - mean_guide * mean_source
    variance = mean(guide * guide) - mean_guide * mean_guide
    slope = covariance / (variance + np.float32(_GUIDE_EPSILON))
    offset = mean_source - slope * mean_guide
    return np.asarray(mean(slope) * guide + mean(offset), dtype=np.float32)


def _grey(image: Image) -> Field:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def _to_u8(image: Image) -> ImageU8:
    return np.asarray(np.clip(image * 255.0, 0.0, 255.0).round(), dtype=np.uint8)
