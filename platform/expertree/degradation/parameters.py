"""Parameters of each degradation: how they are drawn, and which degree they amount to.

Ranges and degrees are UniRestorer's (paper 000, appendices B.2 and C). A parameter set is plain
data, so that it goes through JSON unchanged.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias, TypeVar, get_args

import numpy as np

Distribution: TypeAlias = Literal["in", "out"]
Spread: TypeAlias = Distribution | Literal["any"]
Severity: TypeAlias = Spread | float
"""The range that parameters are drawn from: in or out of distribution, or of `any` degree. A number
is a point from the mildest in distribution, 0, to the severest out of it, 1, at which each
parameter that decides a degree is fixed (paper 000, figure 5)."""

Value: TypeAlias = float | int | str
Parameters: TypeAlias = Mapping[str, Value]

DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)
_SPREADS = (*DISTRIBUTIONS, "any")

_Range: TypeAlias = tuple[float, float]
_Option = TypeVar("_Option")

LOW_LIGHT_GAMMA: dict[Spread, _Range] = {"in": (1.0, 2.0), "out": (2.0, 2.5), "any": (1.0, 2.5)}
BLUR_STD_PX: dict[Spread, _Range] = {"in": (1.0, 3.0), "out": (3.0, 4.0), "any": (1.0, 4.0)}
BLUR_SIZES_PX = tuple(range(7, 24, 2))
MOTION_SIZES_PX: dict[Spread, tuple[int, ...]] = {
    "in": (5, 7, 9, 11, 13),
    "out": (17, 19, 21, 23, 25),
    "any": tuple(range(5, 26, 2)),
}
NOISE_SIGMA: dict[Spread, _Range] = {"in": (15.0, 35.0), "out": (35.0, 50.0), "any": (0.0, 50.0)}
RAIN_STRENGTH: dict[Spread, _Range] = {
    "in": (50.0, 100.0),
    "out": (100.0, 150.0),
    "any": (0.0, 150.0),
}
RAIN_ANGLE_DEG: _Range = (-45.0, 45.0)
RAIN_LENGTHS_PX = tuple(range(20, 41))
RAIN_WIDTHS_PX = (3, 5, 7, 9, 11)
SNOW_SIZES: dict[Spread, tuple[str, ...]] = {
    "in": ("small", "medium"),
    "out": ("large",),
    "any": ("small", "medium", "large"),
}
SNOW_DENSITY: _Range = (0.6, 1.4)
SNOW_ANGLE_DEG: _Range = (-40.0, 40.0)
HAZE_BETA: dict[Spread, _Range] = {"in": (0.5, 1.5), "out": (1.5, 2.0), "any": (0.5, 2.0)}
HAZE_AIRLIGHT: _Range = (0.8, 1.0)
JPEG_QUALITIES: dict[Spread, tuple[int, ...]] = {
    "in": tuple(range(50, 14, -1)),
    "out": tuple(range(14, 4, -1)),
    "any": tuple(range(50, 4, -1)),
}

SYNTHETIC_THICK_HAZE_BETA = 1.0
"""Least beta of thick haze, for depths in [0, 1] as `physics.add_haze` takes them.

The paper splits at 0.1, which belongs to RESIDE's scale (depth in metres) and would call all of the
range above thick.
"""

LARGE_BLUR_SIZE_PX = 15
"""The paper's limit between small and large motion blur, the side of the kernel."""


def number(parameters: Parameters, name: str) -> float:
    """Return a numeric parameter.

    Raises:
        ValueError: If it is missing or is not a number.
    """
    value = parameters.get(name)
    if isinstance(value, int | float):
        return float(value)
    raise ValueError(f"parameter {name!r} must be a number, got {value!r} in {parameters!r}")


def draw_low_light(rng: np.random.Generator, severity: Severity) -> Parameters:
    """Draw `gamma`, the darkening coefficient."""
    return {"gamma": uniform(rng, range_at(LOW_LIGHT_GAMMA, severity))}


def draw_blur(rng: np.random.Generator, severity: Severity) -> Parameters:
    """Draw `size_px`, `std_x_px`, `std_y_px`, `angle_deg`; isotropic with probability 0.5."""
    size_px = _choice(rng, BLUR_SIZES_PX)
    first, second = (uniform(rng, range_at(BLUR_STD_PX, severity)) for _ in range(2))
    angle_deg = uniform(rng, (0.0, 180.0))
    if rng.random() < 0.5:
        second, angle_deg = first, 0.0
    return {"size_px": size_px, "std_x_px": first, "std_y_px": second, "angle_deg": angle_deg}


def draw_motion_blur(rng: np.random.Generator, severity: Severity) -> Parameters:
    """Draw `size_px`, the length of the path, and `angle_deg`."""
    size_px = _choice(rng, _options_at(MOTION_SIZES_PX, severity))
    return {"size_px": size_px, "angle_deg": uniform(rng, (0.0, 180.0))}


def draw_noise(rng: np.random.Generator, severity: Severity) -> Parameters:
    """Draw `sigma`, on the scale of 0 to 255."""
    return {"sigma": uniform(rng, range_at(NOISE_SIGMA, severity))}


def draw_rain(rng: np.random.Generator, severity: Severity) -> Parameters:
    """Draw `strength`, `angle_deg` from the vertical, `length_px` and `width_px` of a streak."""
    return {
        "strength": uniform(rng, range_at(RAIN_STRENGTH, severity)),
        "angle_deg": uniform(rng, RAIN_ANGLE_DEG),
        "length_px": _choice(rng, RAIN_LENGTHS_PX),
        "width_px": _choice(rng, RAIN_WIDTHS_PX),
    }


def draw_snow(rng: np.random.Generator, severity: Severity) -> Parameters:
    """Draw `size` of the largest flakes, `density` (1 is usual), `angle_deg` from the vertical."""
    sizes = _options_at(SNOW_SIZES, severity)
    return {
        "size": sizes[int(rng.integers(len(sizes)))],
        "density": uniform(rng, SNOW_DENSITY),
        "angle_deg": uniform(rng, SNOW_ANGLE_DEG),
    }


def draw_haze(rng: np.random.Generator, severity: Severity) -> Parameters:
    """Draw `beta`, for depths in [0, 1], and `airlight`."""
    return {
        "beta": uniform(rng, range_at(HAZE_BETA, severity)),
        "airlight": uniform(rng, HAZE_AIRLIGHT),
    }


def draw_jpeg(rng: np.random.Generator, severity: Severity) -> Parameters:
    """Draw `quality`, libjpeg's."""
    return {"quality": _choice(rng, _options_at(JPEG_QUALITIES, severity))}


def low_light_degree(parameters: Parameters) -> str:
    """Return `light` below gamma 1.5, `heavy` from there."""
    return _degree(number(parameters, "gamma"), (("light", 1.5),), "heavy")


def blur_degree(parameters: Parameters) -> str:
    """Return `small` if the Gaussian is less than `LARGE_BLUR_SIZE_PX` wide, otherwise `large`.

    The paper gives degrees for motion blur only. A Gaussian's visible width is six deviations (the
    mean of both axes), or the kernel's size where that cuts it off; a disk's is its diameter.
    """
    if "radius_px" in parameters:
        return "small" if 2 * number(parameters, "radius_px") < LARGE_BLUR_SIZE_PX else "large"
    std_px = (number(parameters, "std_x_px") + number(parameters, "std_y_px")) / 2
    width_px = min(number(parameters, "size_px"), 6 * std_px)
    return "small" if width_px < LARGE_BLUR_SIZE_PX else "large"


def motion_blur_degree(parameters: Parameters) -> str:
    """Return `small` below `LARGE_BLUR_SIZE_PX`, `large` from there."""
    return "small" if number(parameters, "size_px") < LARGE_BLUR_SIZE_PX else "large"


def noise_degree(parameters: Parameters) -> str:
    """Return `small` below sigma 15, `medium` below 35, `large` from there."""
    return _degree(number(parameters, "sigma"), (("small", 15.0), ("medium", 35.0)), "large")


def rain_degree(parameters: Parameters) -> str:
    """Return `small` below strength 50, `medium` below 100, `large` from there."""
    return _degree(number(parameters, "strength"), (("small", 50.0), ("medium", 100.0)), "large")


def snow_degree(parameters: Parameters) -> str:
    """Return the size of the largest flakes.

    Raises:
        ValueError: If it is not small, medium or large.
    """
    size = parameters.get("size")
    if size not in ("small", "medium", "large"):
        raise ValueError(f"snow size must be small, medium or large, got {size!r}")
    return str(size)


def haze_degree(parameters: Parameters) -> str:
    """Return `normal` below `SYNTHETIC_THICK_HAZE_BETA`, `thick` from there."""
    return "normal" if number(parameters, "beta") < SYNTHETIC_THICK_HAZE_BETA else "thick"


def jpeg_degree(parameters: Parameters) -> str:
    """Return `large` (compression) below quality 15, `medium` below 35, `small` from there."""
    return _degree(number(parameters, "quality"), (("large", 15.0), ("medium", 35.0)), "small")


def _degree(value: float, limits: tuple[tuple[str, float], ...], last: str) -> str:
    """Return the first name whose limit exceeds the value, and the last one beyond them all."""
    return next((name for name, limit in limits if value < limit), last)


def range_at(ranges: Mapping[Spread, _Range], severity: Severity) -> _Range:
    """Return the range to draw a number from; for a point, the number itself twice.

    Args:
        ranges: Ranges by spread; the first number in distribution is the mildest, the last out of
            it the severest.
        severity: The spread to draw from, or the point.
    """
    if isinstance(severity, str):
        return ranges[severity]
    mild, severe = ranges["in"][0], ranges["out"][1]
    return (mild + severity * (severe - mild),) * 2


def _options_at(
    options: Mapping[Spread, tuple[_Option, ...]], severity: Severity
) -> tuple[_Option, ...]:
    if isinstance(severity, str):
        return options[severity]
    ladder = (*options["in"], *options["out"])
    return (ladder[min(int(severity * len(ladder)), len(ladder) - 1)],)


def check_severity(severity: Severity) -> None:
    """Raise ValueError unless it is `in`, `out`, `any`, or a number in [0, 1]."""
    known = severity in _SPREADS if isinstance(severity, str) else 0.0 <= severity <= 1.0
    if not known:
        raise ValueError(
            f"severity must be 'in', 'out', 'any' or a number in [0, 1], got {severity!r}"
        )


def uniform(rng: np.random.Generator, bounds: _Range) -> float:
    """Draw a number uniformly from a range."""
    return float(rng.uniform(*bounds))


def _choice(rng: np.random.Generator, options: tuple[int, ...]) -> int:
    return options[int(rng.integers(len(options)))]
