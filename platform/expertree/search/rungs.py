"""Decides which trials train on: successive halving without waiting (ASHA, Li et al. 2020).

A trial that has reached a rung goes on if it is among the best there so far. It does not wait for
later trials, so an early one may go on that would have been stopped had they come first.
"""

import math
from collections.abc import Sequence

from expertree.search.record import Objectives

LEAST = 0.01
"""The least share of a training for a rung: before that its loss curve has no point."""


def value_of(objectives: Objectives) -> float:
    """Return what rungs compare: the mean of PSNR in and out of distribution, in dB.

    The cost does not count: a small tree is cheap to go on with.
    """
    return (objectives["psnr_in"] + objectives["psnr_out"]) / 2.0


def goes_on(value: float, others: Sequence[float], *, reduction: float) -> bool:
    """Return whether a trial goes on into the next rung.

    Args:
        value: Value that it reached at this rung; more is better.
        others: Values that other trials reached at it before.
        reduction: One trial in so many goes on; rounded up, so that the first one always does.
    """
    places = math.ceil((len(others) + 1) / reduction)
    return sum(other > value for other in others) < places


def why_stopped(rung: int, fraction: float, value: float, others: Sequence[float]) -> str:
    """Say why a trial did not go on."""
    ahead = sum(other > value for other in others)
    return (
        f"at rung {rung + 1}, a share of {fraction:g} of the training, {ahead} of {len(others)} "
        f"others had reached more than its {value:.2f} dB"
    )


def check_fractions(fractions: Sequence[float]) -> None:
    """Check the shares of the training at which trials are compared.

    Raises:
        ValueError: If they do not grow to 1.
    """
    grows = list(fractions) == sorted(set(fractions))
    if not fractions or not grows or fractions[0] < LEAST or fractions[-1] != 1.0:
        raise ValueError(f"fractions must grow from at least {LEAST:g} to 1, got {list(fractions)}")
