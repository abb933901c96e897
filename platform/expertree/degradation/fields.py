"""Procedural maps in place of those that the paper takes from other projects.

Depth instead of MegaDepth's estimate, illumination instead of Retinexformer's, flakes instead of
Snow100K's masks, and rain layers. Each is float32 `[height, width]` in [0, 1], and a real map can
take its place (`registry.Maps`). They are computed in float64, as `physics.py` explains.
"""

import dataclasses
from typing import Any, TypeAlias

import cv2
import numpy as np

from expertree.images.arrays import Field, Image

_Plane: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_GRID = 5
_LEAST_RELIEF = 1e-6
_RAIN_BRIGHTNESS = 0.85
_FLAKE_MARGIN_PX = 24
_LIGHT_WINDOW_PX = 15
_LIGHT_EDGE = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlakeLayer:
    """Flakes of about one size.

    Attributes:
        radii_px: Radii that occur, equally often.
        per_kilopixel: How many flakes fall on 1000 pixels at density 1.
        travel: Length of a flake's motion trail in radii.
        opacity: Least and greatest opacity.
    """

    radii_px: tuple[float, ...]
    per_kilopixel: float
    travel: float
    opacity: tuple[float, float]


# As in Snow100K: a larger size has the smaller flakes too; the largest are out of focus.
_SMALL = FlakeLayer(radii_px=(0.6, 0.9, 1.2), per_kilopixel=9.0, travel=1.6, opacity=(0.25, 0.9))
_MEDIUM = FlakeLayer(radii_px=(1.6, 2.1, 2.6), per_kilopixel=1.6, travel=1.0, opacity=(0.4, 1.0))
_LARGE = FlakeLayer(radii_px=(3.5, 4.5, 6.0), per_kilopixel=0.6, travel=0.5, opacity=(0.4, 0.9))
FLAKE_LAYERS: dict[str, tuple[FlakeLayer, ...]] = {
    "small": (_SMALL,),
    "medium": (_SMALL, _MEDIUM),
    "large": (_SMALL, _MEDIUM, _LARGE),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The part of a larger scene that an image shows.

    Attributes:
        times: Side of the scene over that of the image, at least 1.
        x: Place of the image from the scene's left side, 0, to its right, 1.
        y: Place from its top, 0, to its bottom, 1.
    """

    times: float
    x: float
    y: float


WHOLE = Window(times=1.0, x=0.0, y=0.0)
"""All of a scene."""


def depth_field(
    height_px: int, width_px: int, rng: np.random.Generator, window: Window = WHOLE
) -> Field:
    """Draw a smooth depth map: a ground that recedes towards the top, and soft relief on it.

    Args:
        height_px: Height of the map.
        width_px: Width of the map.
        rng: Source of the ground and the relief.
        window: Part of the scene that the map shows. A patch of a photograph shows near or far
            things, rarely both.

    Returns:
        Depth as `physics.add_haze` takes it; in the whole scene least 0.05 to 0.35, greatest 0.75
        to 1.
    """
    near, far = rng.uniform(0.05, 0.35), rng.uniform(0.75, 1.0)
    tilt_deg = rng.uniform(-40.0, 40.0)
    relief = rng.uniform(0.3, 0.9) * rng.random((_GRID, _GRID))
    smooth = cv2.resize(relief, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    x = np.linspace(-0.5, 0.5, width_px)[None, :]
    y = np.linspace(0.5, -0.5, height_px)[:, None]
    plane = x * np.sin(np.deg2rad(tilt_deg)) + y * np.cos(np.deg2rad(tilt_deg)) + smooth
    low, high = plane.min(), plane.max()
    share = (plane - low) / max(high - low, _LEAST_RELIEF)
    scene = np.asarray(near + (far - near) * share, dtype=np.float32)
    return scene if window == WHOLE else _seen_through(window, scene)


def _seen_through(window: Window, scene: Field) -> Field:
    """Return a part of a smooth map, at the map's own size."""
    height_px, width_px = scene.shape
    along_y, along_x = (
        (length - 1)
        * (place * (1.0 - 1.0 / window.times) + np.linspace(0.0, 1.0, length) / window.times)
        for length, place in ((height_px, window.y), (width_px, window.x))
    )
    rows = np.repeat(along_y.astype(np.float32)[:, None], width_px, axis=1)
    columns = np.repeat(along_x.astype(np.float32)[None, :], height_px, axis=0)
    seen = cv2.remap(scene, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, dtype=np.float32)


def illumination_map(image: Image) -> Field:
    """Estimate the light on each pixel: the maximum over R, G and B, smoothed within edges.

    The smoothing is a guided filter with the maximum as its own guide (He et al. 2010); a plain
    blur leaves bright rims along edges when the image is darkened.
    """
    # Two maxima of planes: one along the last axis, which is three long, takes 50 times as long.
    pair = np.maximum(image[..., 0], image[..., 1])
    brightest = np.maximum(pair, image[..., 2]).astype(np.float64)
    mean = _box_mean(brightest)
    variance = _box_mean(brightest * brightest) - mean * mean
    slope = variance / (variance + _LIGHT_EDGE)
    light = _box_mean(slope) * brightest + _box_mean(mean - slope * mean)
    return np.asarray(np.clip(light, 0.0, 1.0), dtype=np.float32)


def rain_layer(
    height_px: int,
    width_px: int,
    rng: np.random.Generator,
    *,
    strength: float,
    angle_deg: float,
    length_px: int,
    width_of_streak_px: int,
) -> Field:
    """Draw rain streaks: thresholded noise, blurred along a direction (MiOIR's construction).

    Args:
        height_px: Height of the layer.
        width_px: Width of the layer.
        rng: Source of the noise.
        strength: Amount of rain; at 100 one pixel in 256 is a drop, as in MiOIR.
        angle_deg: Direction of fall from the vertical, -45 to 45.
        length_px: Length of a streak.
        width_of_streak_px: Size of the Gaussian window across a streak, odd.
    """
    kernel = _streak_kernel(angle_deg, length_px, width_of_streak_px)
    margin = kernel.shape[0] // 2
    noise = rng.random((height_px + 2 * margin, width_px + 2 * margin))
    share = strength / 100.0 / 256.0
    drops = np.zeros_like(noise)
    is_drop = noise < share
    drops[is_drop] = 0.15 + 0.85 * noise[is_drop] / share
    drawn = cv2.filter2D(drops, cv2.CV_64F, kernel, borderType=cv2.BORDER_CONSTANT)
    inside = _RAIN_BRIGHTNESS * drawn[margin : margin + height_px, margin : margin + width_px]
    return np.asarray(np.clip(inside, 0.0, 1.0), dtype=np.float32)


def scaled_streaks(streaks: Field, *, strength: float) -> Field:
    """Scale real streaks in proportion to a strength; at 100 they stay as they are."""
    scaled = streaks.astype(np.float64) * (strength / 100.0)
    return np.minimum(scaled, 1.0).astype(np.float32)


def snow_mask(
    height_px: int,
    width_px: int,
    rng: np.random.Generator,
    *,
    size: str,
    density: float,
    angle_deg: float,
) -> Field:
    """Draw falling snow: soft flakes of several sizes, each with a short trail.

    Args:
        height_px: Height of the mask.
        width_px: Width of the mask.
        rng: Source of positions and opacities.
        size: `small`, `medium` or `large`: the largest flakes in the mask.
        density: Number of flakes relative to `FlakeLayer.per_kilopixel`.
        angle_deg: Direction of fall from the vertical.
    """
    margin = _FLAKE_MARGIN_PX
    clear = np.ones((height_px + 2 * margin, width_px + 2 * margin))
    for layer in FLAKE_LAYERS[size]:
        for radius_px in layer.radii_px:
            share = density * layer.per_kilopixel / 1000.0 / len(layer.radii_px)
            num_flakes = int(rng.poisson(share * clear.size))
            opacities = rng.uniform(*layer.opacity, size=num_flakes)
            kernel = _flake_kernel(radius_px, layer.travel * radius_px, angle_deg)
            _cover(clear, rng, opacities[:, None, None] * kernel)
    inside = clear[margin : margin + height_px, margin : margin + width_px]
    return np.asarray(1.0 - inside, dtype=np.float32)


def _box_mean(plane: _Plane) -> _Plane:
    window = (_LIGHT_WINDOW_PX, _LIGHT_WINDOW_PX)
    mean = cv2.boxFilter(plane, cv2.CV_64F, window, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(mean, dtype=np.float64)


def _cover(clear: _Plane, rng: np.random.Generator, flakes: _Plane) -> None:
    """Put flakes `[number, side, side]` at random places; light passes through all in turn."""
    num_flakes, side = flakes.shape[:2]
    top = rng.integers(clear.shape[0] - side + 1, size=num_flakes)
    left = rng.integers(clear.shape[1] - side + 1, size=num_flakes)
    steps = np.arange(side)
    rows = (top[:, None] + steps)[:, :, None]
    columns = (left[:, None] + steps)[:, None, :]
    np.multiply.at(clear, (rows, columns), 1.0 - flakes)


def _streak_kernel(angle_deg: float, length_px: int, width_px: int) -> _Plane:
    """Return one drop's streak, brightest in the middle, with peak 1 at width 3, less if wider."""
    # OpenCV's own rule for the deviation that belongs to a window of this size.
    sigma = 0.3 * ((width_px - 1) * 0.5 - 1.0) + 0.8
    radius = length_px // 2 + int(np.ceil(2 * sigma))
    along, across = _fall_grid(radius, angle_deg)
    fade = np.cos(np.clip(along / (length_px / 2 + 0.5), -1.0, 1.0) * (np.pi / 2))
    kernel = (0.8 / sigma) * fade * np.exp(-0.5 * (across / sigma) ** 2)
    return np.asarray(kernel, dtype=np.float64)


def _flake_kernel(radius_px: float, travel_px: float, angle_deg: float) -> _Plane:
    """Return a soft disc swept along its fall: a capsule with an edge of a pixel or more."""
    softness = 1.0 + radius_px / 3.0
    reach = int(np.ceil(radius_px + travel_px / 2 + softness))
    along, across = _fall_grid(reach, angle_deg)
    beyond = np.maximum(np.abs(along) - travel_px / 2, 0.0)
    distance = np.hypot(beyond, across)
    return np.clip((radius_px - distance) / softness + 0.5, 0.0, 1.0)


def _fall_grid(radius_px: int, angle_deg: float) -> tuple[_Plane, _Plane]:
    """Return coordinates along and across a direction that is given from the vertical."""
    steps = np.arange(-radius_px, radius_px + 1, dtype=np.float64)
    x, y = steps[None, :], steps[:, None]
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return y * cosine + x * sine, x * cosine - y * sine
