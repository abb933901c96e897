"""Formats numbers and names the same way in every part of a report."""

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import TypeIs

NOT_MEASURED = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def count(value: float | None) -> str:
    """Format a count to three digits: 980, 12.3 k, 4.41 M, 1.20 G."""
    if not measured(value):
        return NOT_MEASURED
    for scale, letter in _SCALES:
        if abs(value) >= 0.9995 * scale:
            scaled = value / scale
            digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
            return f"{scaled:.{digits}f} {letter}"
    return f"{value:.0f}"


def grouped(value: float | None) -> str:
    """Format a whole number with its thousands apart: 12,345."""
    return f"{value:,.0f}" if measured(value) else NOT_MEASURED


def number(value: float | None, digits: int = 2) -> str:
    """Format a number with a fixed number of digits."""
    return f"{value:.{digits}f}".replace("-", MINUS) if measured(value) else NOT_MEASURED


def gain(value: float | None) -> str:
    """Format a difference in dB with its sign: +1.23, and a true minus for a loss."""
    return f"{value:+.2f}".replace("-", MINUS) if measured(value) else NOT_MEASURED


def percent(value: float | None) -> str:
    """Format a share in [0, 1] as a percentage; a small one keeps a digit."""
    if not measured(value):
        return NOT_MEASURED
    return f"{100 * value:.1f} %" if 0 < abs(value) < 0.0995 else f"{100 * value:.0f} %"


def duration(seconds: float | None) -> str:
    """Format a time in its two largest units: 0.4 s, 12 s, 3 min 20 s, 2 h 05 min, 1 d 04 h."""
    if not measured(seconds):
        return NOT_MEASURED
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def name(identifier: str) -> str:
    """Return identifiers as words: `low_light + jpeg` gives `low-light + JPEG`."""
    return re.sub(r"\bjpeg\b", "JPEG", identifier.replace("_", "-"))


def shortened(text: str, num_characters: int) -> str:
    """Return text cut to a length, with an ellipsis where it was cut."""
    return text if len(text) <= num_characters else text[: num_characters - 1].rstrip(" ,") + "…"


def measured(value: float | None) -> "TypeIs[float]":
    """Return whether there is a value at all: not None, not NaN, not infinite."""
    return value is not None and math.isfinite(value)
