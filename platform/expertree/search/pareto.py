"""Finds the Pareto front: the trials that no other one beats."""

from collections.abc import Mapping, Sequence
from typing import Literal

from expertree.search.record import Objectives

DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = {
    "psnr_in": "maximize",
    "psnr_out": "maximize",
    "gpu_hours": "minimize",
}
"""Whether each objective is to be maximised or minimised."""


def by_name(objectives: Objectives) -> dict[str, float]:
    """Return the objectives by name, in the order of `DIRECTIONS`."""
    return {
        "psnr_in": objectives["psnr_in"],
        "psnr_out": objectives["psnr_out"],
        "gpu_hours": objectives["gpu_hours"],
    }


def gains(objectives: Objectives) -> tuple[float, ...]:
    """Return the objectives in the order of `DIRECTIONS`, signed so that more is better."""
    return tuple(
        value if DIRECTIONS[name] == "maximize" else -value
        for name, value in by_name(objectives).items()
    )


def front(trials: Mapping[int, Objectives]) -> list[int]:
    """Return the numbers of the trials that no other one beats, ascending, all equal ones too."""
    points = {number: gains(objectives) for number, objectives in trials.items()}
    return sorted(
        number
        for number, own in points.items()
        if not any(_beats(other, own) for other in points.values())
    )


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
