"""Statistics of comparisons: paired differences, and what choices have to do with degradations."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

NUM_DRAWS = 2_000
"""Draws of the bootstrap; the ends of an interval are then good to a twentieth of its width."""

INTERVAL = (2.5, 97.5)
"""Percentiles between which an interval lies."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean, and the interval that a bootstrap gives it."""

    mean: float
    low: float
    high: float


def paired_interval(
    differences: Float[np.ndarray, " patches"],
    groups: Sequence[Int[np.ndarray, " _"]],
    *,
    seed: int = 0,
) -> Interval:
    """Return the mean over groups of the mean difference of each, with a 95 % interval.

    Images are drawn with repetition inside each group (Efron's percentile bootstrap), so the
    interval says how much the mean hangs on the images that were taken, and nothing of trainings.
    Patches of one photograph are not independent: with few photographs it is too narrow.

    Args:
        differences: Difference of two methods on each image.
        groups: Images of each group, such as a degradation; at least one group, none empty.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    means = np.zeros(NUM_DRAWS)
    for group in groups:
        own = differences[group]
        drawn = rng.integers(len(own), size=(NUM_DRAWS, len(own)))
        means += own[drawn].mean(axis=1) / len(groups)
    low, high = np.percentile(means, INTERVAL)
    mean = float(np.mean([differences[group].mean() for group in groups]))
    return Interval(mean=mean, low=float(low), high=float(high))


def shares_of_choices(
    choices: Int[np.ndarray, " images"], labels: Sequence[str], order: Sequence[str]
) -> tuple[list[int], list[list[float]]]:
    """Return the choices that occur, and the share of each among the images of each label.

    Args:
        choices: What was chosen for each image.
        labels: Label of each image.
        order: Labels, in the order of the rows; each must occur.
    """
    found = sorted(set(choices.tolist()))
    rows = []
    for label in order:
        own = choices[[one == label for one in labels]]
        rows.append([float((own == choice).mean()) for choice in found])
    return found, rows


def mutual_information(choices: Int[np.ndarray, " images"], labels: Sequence[str]) -> float:
    """Return the bits that a choice tells of the label, by the shares that were counted."""
    table = _counts(choices, labels) / len(labels)
    apart = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)
    seen = table > 0
    return float((table[seen] * np.log2(table[seen] / apart[seen])).sum())


def chance_information(choices: Int[np.ndarray, " images"], labels: Sequence[str]) -> float:
    """Return the bits that choices which have nothing to do with labels show by chance alone.

    It is the first term of the bias of counted shares (Miller 1955).
    """
    rows, columns = _counts(choices, labels).shape
    return float((rows - 1) * (columns - 1) / (2 * len(labels) * np.log(2)))


def _counts(
    choices: Int[np.ndarray, " images"], labels: Sequence[str]
) -> Float[np.ndarray, "choices labels"]:
    _, rows = np.unique(choices, return_inverse=True)
    _, columns = np.unique(np.array(labels), return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1.0)
    return table
