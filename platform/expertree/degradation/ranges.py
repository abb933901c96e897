"""Wider ranges of parameters than the paper's, for builds that ask for them.

Parameters are drawn as the paper says (`parameters.py`), and what has a range here is drawn again
from it. Without ranges nothing is drawn, so that recipes stay as they were, bit for bit.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from expertree.degradation.parameters import Parameters, Severity, Spread, Value, range_at, uniform
from expertree.degradation.registry import REGISTRY

_MOST_SEED = 2**31


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The values of a parameter in and out of distribution, each from mild to severe.

    Both must be given; the defaults stand for what was left out.
    """

    usual: tuple[float, float] = (0.0, 0.0)
    """Values in distribution."""

    beyond: tuple[float, float] = (0.0, 0.0)
    """Values out of it."""

    every: tuple[float, float] | None = None
    """Values of any degree, which the extractor learns from; null for all from the mildest to the
    severest."""

    scale: Literal["linear", "log"] = "linear"
    """Values are drawn evenly, or evenly in their logarithm: as many JPEG qualities from 10 to 20
    as from 40 to 80."""

    @property
    def by_spread(self) -> Mapping[Spread, tuple[float, float]]:
        """The ranges by the name of the distribution."""
        every = self.every or (self.usual[0], self.beyond[1])
        return {"in": self.usual, "out": self.beyond, "any": every}

    def draw(self, rng: np.random.Generator, severity: Severity) -> float:
        """Draw a value, uniformly on the scale; a point of shift has one value."""
        is_log, ranges = self.scale == "log", self.by_spread
        if is_log:
            ranges = {spread: (math.log(a), math.log(b)) for spread, (a, b) in ranges.items()}
        mild, severe = range_at(ranges, severity)
        drawn = uniform(rng, (min(mild, severe), max(mild, severe)))
        return math.exp(drawn) if is_log else drawn


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NoiseRanges:
    """Noise: its deviation, and grain coarser than a pixel, as the processing in cameras gives."""

    sigma: Span | None = None
    """Standard deviation, on the scale of 0 to 255."""

    correlated_share: float = 0.0
    """Share of noisy pictures whose noise is correlated between neighbours."""

    correlation_px: tuple[float, float] = (0.4, 1.2)
    """Deviation of the Gaussian that correlated noise is smoothed with; sigma stays the same."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JpegRanges:
    """JPEG: its quality, and an earlier coding, on a grid that need not be the same."""

    quality: Span | None = None
    """libjpeg's quality, the greatest first, as that is the mildest."""

    double_share: float = 0.0
    """Share of coded pictures that were coded once before, then shifted by up to 7 pixels."""

    first_quality: tuple[float, float] = (30.0, 95.0)
    """Quality of the first coding."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BlurRanges:
    """Blur of a lens: Gaussian, or the disk of a point out of focus."""

    std_px: Span | None = None
    """Deviations of the Gaussian along both axes."""

    disk_share: float = 0.0
    """Share of blurred pictures that are out of focus: blurred with a disk."""

    disk_radius_px: Span = Span(usual=(1.0, 4.0), beyond=(4.0, 6.0))
    """Radius of the disk."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MotionRanges:
    """Blur by motion: a straight line, or the crooked path of a camera in the hand."""

    shaken_share: float = 0.0
    """Share of pictures whose path is crooked; its length is as drawn for a line."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LowLightRanges:
    """Low light."""

    gamma: Span | None = None
    """Darkening coefficient. LOL's dark pictures are about 3.5 to 4."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HazeRanges:
    """Haze."""

    beta: Span | None = None
    """Scattering coefficient for depths in [0, 1]."""

    airlight: tuple[float, float] | None = None
    """Brightness of the haze."""

    scene_times: tuple[float, float] | None = None
    """Side of the hazy scene over that of the patch, at least 1: the patch shows a part of it. Null
    lets haze grow from near to far within each patch, as in a small photograph."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RainRanges:
    """Rain."""

    strength: Span | None = None
    """Amount of rain; real streaks stay as they are at 100."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RangesConfig:
    """Ranges by degradation; what is null is drawn as the paper says."""

    noise: NoiseRanges = NoiseRanges()
    jpeg: JpegRanges = JpegRanges()
    blur: BlurRanges = BlurRanges()
    motion_blur: MotionRanges = MotionRanges()
    low_light: LowLightRanges = LowLightRanges()
    haze: HazeRanges = HazeRanges()
    rain: RainRanges = RainRanges()

    def __post_init__(self) -> None:
        """Raise ValueError for a share outside [0, 1] or a value that has no meaning."""
        shares = {
            "noise.correlated_share": self.noise.correlated_share,
            "jpeg.double_share": self.jpeg.double_share,
            "blur.disk_share": self.blur.disk_share,
            "motion_blur.shaken_share": self.motion_blur.shaken_share,
        }
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {share}")
        times = self.haze.scene_times or (1.0, 1.0)
        if not 1.0 <= times[0] <= times[1]:
            raise ValueError(f"haze.scene_times must be two numbers from 1 up, got {times}")
        for name, span, least, most in (
            ("noise.sigma", self.noise.sigma, 0.0, 255.0),
            ("jpeg.quality", self.jpeg.quality, 1.0, 100.0),
            ("blur.std_px", self.blur.std_px, 0.1, 20.0),
            ("blur.disk_radius_px", self.blur.disk_radius_px, 0.5, 20.0),
            ("low_light.gamma", self.low_light.gamma, 1.0, 10.0),
            ("haze.beta", self.haze.beta, 0.0, 20.0),
            ("rain.strength", self.rain.strength, 0.0, 1000.0),
        ):
            if span is not None and (0.0, 0.0) in (span.usual, span.beyond):
                raise ValueError(f"{name} needs usual and beyond, got {span}")
            ends = [] if span is None else [v for pair in span.by_spread.values() for v in pair]
            if ends and not least <= min(ends) <= max(ends) <= most:
                raise ValueError(f"{name} must lie in [{least:g}, {most:g}], got {span}")
            if span is not None and span.scale == "log" and min(ends) <= 0.0:
                raise ValueError(f"{name} must be above 0 for a scale of logarithms, got {span}")


PAPER_RANGES = RangesConfig()
"""The paper's ranges: nothing is drawn again."""


def draw_parameters(
    task: str, rng: np.random.Generator, severity: Severity, ranges: RangesConfig
) -> Parameters:
    """Draw the parameters of a degradation, first as the paper says and then from given ranges."""
    usual = REGISTRY[task].draw(rng, severity)
    widen = _WIDEN.get(task)
    return usual if widen is None else {**usual, **widen(rng, severity, ranges)}


def _noise(rng: np.random.Generator, severity: Severity, ranges: RangesConfig) -> dict[str, Value]:
    own = ranges.noise
    drawn: dict[str, Value] = {}
    if own.sigma is not None:
        drawn["sigma"] = own.sigma.draw(rng, severity)
    if _happens(rng, own.correlated_share):
        drawn["correlation_px"] = uniform(rng, own.correlation_px)
    return drawn


def _jpeg(rng: np.random.Generator, severity: Severity, ranges: RangesConfig) -> dict[str, Value]:
    own = ranges.jpeg
    drawn: dict[str, Value] = {}
    if own.quality is not None:
        drawn["quality"] = round(own.quality.draw(rng, severity))
    if _happens(rng, own.double_share):
        drawn["first_quality"] = round(uniform(rng, own.first_quality))
        drawn["shift_x_px"], drawn["shift_y_px"] = (int(n) for n in rng.integers(8, size=2))
    return drawn


def _blur(rng: np.random.Generator, severity: Severity, ranges: RangesConfig) -> dict[str, Value]:
    own = ranges.blur
    if _happens(rng, own.disk_share):
        return {"radius_px": own.disk_radius_px.draw(rng, severity)}
    if own.std_px is None:
        return {}
    first, second = (own.std_px.draw(rng, severity) for _ in range(2))
    angle_deg = uniform(rng, (0.0, 180.0))
    if rng.random() < 0.5:
        second, angle_deg = first, 0.0
    return {"std_x_px": first, "std_y_px": second, "angle_deg": angle_deg}


def _motion_blur(
    rng: np.random.Generator, severity: Severity, ranges: RangesConfig
) -> dict[str, Value]:
    del severity  # the length of the path is as drawn for a line
    if _happens(rng, ranges.motion_blur.shaken_share):
        return {"path_seed": int(rng.integers(_MOST_SEED))}
    return {}


def _low_light(
    rng: np.random.Generator, severity: Severity, ranges: RangesConfig
) -> dict[str, Value]:
    gamma = ranges.low_light.gamma
    return {} if gamma is None else {"gamma": gamma.draw(rng, severity)}


def _haze(rng: np.random.Generator, severity: Severity, ranges: RangesConfig) -> dict[str, Value]:
    own = ranges.haze
    drawn: dict[str, Value] = {}
    if own.beta is not None:
        drawn["beta"] = own.beta.draw(rng, severity)
    if own.airlight is not None:
        drawn["airlight"] = uniform(rng, own.airlight)
    if own.scene_times is not None:
        drawn["scene_times"] = uniform(rng, own.scene_times)
        drawn["scene_x"], drawn["scene_y"] = (uniform(rng, (0.0, 1.0)) for _ in range(2))
    return drawn


def _rain(rng: np.random.Generator, severity: Severity, ranges: RangesConfig) -> dict[str, Value]:
    strength = ranges.rain.strength
    return {} if strength is None else {"strength": strength.draw(rng, severity)}


def _happens(rng: np.random.Generator, share: float) -> bool:
    """Draw whether a share of pictures includes this one; a share of 0 draws nothing."""
    return share > 0.0 and rng.random() < share


_WIDEN = {
    "noise": _noise,
    "jpeg": _jpeg,
    "blur": _blur,
    "motion_blur": _motion_blur,
    "low_light": _low_light,
    "haze": _haze,
    "rain": _rain,
}
