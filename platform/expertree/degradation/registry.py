"""The registry of degradations by name.

A new one needs a formula in `physics.py`, its parameters in `parameters.py`, and an entry here.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from expertree.degradation import fields, physics
from expertree.degradation import parameters as p
from expertree.degradation.parameters import Parameters, Severity, number
from expertree.images.arrays import Field, Image


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Maps:
    """Real maps of an image, each `[height, width]` in [0, 1]; None takes the procedural one.

    Attributes:
        depth: 0 at the camera, 1 at the far end; from a depth image beside the photograph.
        illumination: The light on each pixel; from an estimator.
        rain_streaks: Streaks at strength 100; from a folder of masks.
        snow_mask: Opacity of the flakes; from a folder of masks.
    """

    depth: Field | None = None
    illumination: Field | None = None
    rain_streaks: Field | None = None
    snow_mask: Field | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Degradation:
    """One way to degrade an image.

    Attributes:
        noun: Noun for it in captions.
        degrees: Its degrees, from slight to severe.
        draw: Draws parameters of a severity.
        apply: Degrades an image. What is random beyond the parameters comes from the generator.
        degree: Returns the degree of parameters, one of `degrees`.
        takes: Name of the map that it takes, an attribute of `Maps`; None if it takes none.
    """

    noun: str
    degrees: tuple[str, ...]
    draw: Callable[[np.random.Generator, Severity], Parameters]
    apply: Callable[[Image, Parameters, np.random.Generator, Maps], Image]
    degree: Callable[[Parameters], str]
    takes: str | None = None


def _low_light(image: Image, parameters: Parameters, _: np.random.Generator, maps: Maps) -> Image:
    light = maps.illumination
    if light is None:
        light = fields.illumination_map(image)
    return physics.darken(image, illumination=light, gamma=number(parameters, "gamma"))


def _motion_blur(image: Image, parameters: Parameters, _: np.random.Generator, __: Maps) -> Image:
    size_px = int(number(parameters, "size_px"))
    if "path_seed" in parameters:
        path = np.random.default_rng(int(number(parameters, "path_seed")))
        return physics.blur(image, kernel=physics.shake_kernel(size_px=size_px, rng=path))
    kernel = physics.motion_kernel(size_px=size_px, angle_deg=number(parameters, "angle_deg"))
    return physics.blur(image, kernel=kernel)


def _blur(image: Image, parameters: Parameters, _: np.random.Generator, __: Maps) -> Image:
    if "radius_px" in parameters:
        disk = physics.disk_kernel(radius_px=number(parameters, "radius_px"))
        return physics.blur(image, kernel=disk)
    size_px = int(number(parameters, "size_px"))
    std_x_px, std_y_px = number(parameters, "std_x_px"), number(parameters, "std_y_px")
    if std_x_px == std_y_px:
        return physics.blur_isotropic(image, size_px=size_px, std_px=std_x_px)
    kernel = physics.gaussian_kernel(
        size_px=size_px,
        std_x_px=std_x_px,
        std_y_px=std_y_px,
        angle_deg=number(parameters, "angle_deg"),
    )
    return physics.blur(image, kernel=kernel)


def _noise(image: Image, parameters: Parameters, rng: np.random.Generator, _: Maps) -> Image:
    sigma = number(parameters, "sigma")
    if "correlation_px" not in parameters:
        return physics.add_noise(image, sigma=sigma, rng=rng)
    width_px = number(parameters, "correlation_px")
    return physics.add_correlated_noise(image, sigma=sigma, correlation_px=width_px, rng=rng)


def _rain(image: Image, parameters: Parameters, rng: np.random.Generator, maps: Maps) -> Image:
    strength = number(parameters, "strength")
    if maps.rain_streaks is not None:
        streaks = fields.scaled_streaks(maps.rain_streaks, strength=strength)
    else:
        streaks = fields.rain_layer(
            image.shape[0],
            image.shape[1],
            rng,
            strength=strength,
            angle_deg=number(parameters, "angle_deg"),
            length_px=int(number(parameters, "length_px")),
            width_of_streak_px=int(number(parameters, "width_px")),
        )
    return physics.add_rain(image, streaks=streaks)


def _snow(image: Image, parameters: Parameters, rng: np.random.Generator, maps: Maps) -> Image:
    mask = maps.snow_mask
    if mask is None:
        mask = fields.snow_mask(
            image.shape[0],
            image.shape[1],
            rng,
            size=p.snow_degree(parameters),
            density=number(parameters, "density"),
            angle_deg=number(parameters, "angle_deg"),
        )
    return physics.add_snow(image, mask=mask)


def _haze(image: Image, parameters: Parameters, rng: np.random.Generator, maps: Maps) -> Image:
    depth = maps.depth
    if depth is None:
        window = fields.WHOLE
        if "scene_times" in parameters:
            times, x, y = (number(parameters, f"scene_{name}") for name in ("times", "x", "y"))
            window = fields.Window(times=times, x=x, y=y)
        depth = fields.depth_field(image.shape[0], image.shape[1], rng, window)
    return physics.add_haze(
        image,
        depth=depth,
        beta=number(parameters, "beta"),
        airlight=number(parameters, "airlight"),
    )


def _jpeg(image: Image, parameters: Parameters, _: np.random.Generator, __: Maps) -> Image:
    if "first_quality" in parameters:
        image = physics.code_jpeg_shifted(
            image,
            quality=int(number(parameters, "first_quality")),
            shift_x_px=int(number(parameters, "shift_x_px")),
            shift_y_px=int(number(parameters, "shift_y_px")),
        )
    return physics.code_jpeg(image, quality=int(number(parameters, "quality")))


_THREE = ("small", "medium", "large")
_TWO = ("small", "large")

REGISTRY: dict[str, Degradation] = {
    "low_light": Degradation(
        noun="low-light",
        degrees=("light", "heavy"),
        draw=p.draw_low_light,
        apply=_low_light,
        degree=p.low_light_degree,
        takes="illumination",
    ),
    "motion_blur": Degradation(
        noun="blur",
        degrees=_TWO,
        draw=p.draw_motion_blur,
        apply=_motion_blur,
        degree=p.motion_blur_degree,
    ),
    "blur": Degradation(
        noun="blur", degrees=_TWO, draw=p.draw_blur, apply=_blur, degree=p.blur_degree
    ),
    "noise": Degradation(
        noun="noise", degrees=_THREE, draw=p.draw_noise, apply=_noise, degree=p.noise_degree
    ),
    "rain": Degradation(
        noun="rain",
        degrees=_THREE,
        draw=p.draw_rain,
        apply=_rain,
        degree=p.rain_degree,
        takes="rain_streaks",
    ),
    "snow": Degradation(
        noun="snow",
        degrees=_THREE,
        draw=p.draw_snow,
        apply=_snow,
        degree=p.snow_degree,
        takes="snow_mask",
    ),
    "haze": Degradation(
        noun="haze",
        degrees=("normal", "thick"),
        draw=p.draw_haze,
        apply=_haze,
        degree=p.haze_degree,
        takes="depth",
    ),
    "jpeg": Degradation(
        noun="compression", degrees=_THREE, draw=p.draw_jpeg, apply=_jpeg, degree=p.jpeg_degree
    ),
}
"""Every degradation, in the physical order in which a mixture applies them."""

MIXABLE = ("low_light", "blur", "noise", "rain", "snow", "haze")
"""Degradations that a mixture may contain (paper 000, figure A); the others occur alone."""

DEFAULT_TASKS = ("low_light", "blur", "noise", "rain", "snow", "haze", "jpeg")
"""Degradations of a data set unless its configuration names others, such as motion blur."""


def check_tasks(tasks: tuple[str, ...]) -> None:
    """Raise ValueError unless these are different, known degradations, at least one."""
    unknown = [task for task in tasks if task not in REGISTRY]
    if unknown:
        raise ValueError(f"unknown degradation {unknown[0]!r}; known are {', '.join(REGISTRY)}")
    if not tasks or len(set(tasks)) != len(tasks):
        raise ValueError(f"degradations must be given once each, at least one, got {tasks!r}")
