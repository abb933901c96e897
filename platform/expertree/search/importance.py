"""Measures how much each parameter says about an objective, and how far to trust that.

The share of the objective's variance that lies between a parameter's values (the correlation ratio,
Pearson 1905) needs no model, but with few trials it is large for any parameter with many values. So
it is compared with what chance would give: the same share after the objective's values were
permuted among the trials, a thousand times.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from expertree.search.record import Importance, Scalar

NUM_DEALS = 1000
NUM_BINS = 3
"""Bins of a parameter whose values hardly repeat: low, middle, high."""

CLEAR_P, WEAK_P = 0.01, 0.1


def importances(
    parameters: Sequence[Mapping[str, Scalar]],
    objectives: Mapping[str, Sequence[float]],
    *,
    seed: int = 0,
) -> list[Importance]:
    """Return the importance of every parameter that differs between trials, for each objective.

    Args:
        parameters: Flattened parameters of each trial; not all trials have all.
        objectives: Value of each trial, by name of the objective.
        seed: Seed of the permutations.

    Returns:
        Importances by objective, the largest share first; none for fewer than three trials.
    """
    if len(parameters) < 3:
        return []
    names = sorted({name for own in parameters for name in own})
    found: list[Importance] = []
    for objective, values in objectives.items():
        rows = []
        for name in names:
            labels = _labels([own.get(name) for own in parameters])
            if labels.max() > 0:
                rows.append(_one(name, objective, labels, np.asarray(values), seed))
        found += sorted(rows, key=lambda row: (-row["share"], row["parameter"]))
    return found


def differing(parameters: Sequence[Mapping[str, Scalar]]) -> list[str]:
    """Return the names of parameters that differ between trials, in order of appearance."""
    names = list(dict.fromkeys(name for own in parameters for name in own))
    return [name for name in names if len({_hashable(own.get(name)) for own in parameters}) > 1]


def _one(
    name: str,
    objective: str,
    labels: Int64[np.ndarray, " trials"],
    values: Float[np.ndarray, " trials"],
    seed: int,
) -> Importance:
    share = _share(labels, values)
    rng = np.random.default_rng(seed)
    deals = np.array([_share(labels, rng.permutation(values)) for _ in range(NUM_DEALS)])
    p_value = (1 + int((deals >= share - 1e-12).sum())) / (1 + NUM_DEALS)
    return Importance(
        parameter=name,
        objective=objective,
        share=round(share, 4),
        chance=round(float(deals.mean()), 4),
        p_value=round(p_value, 4),
        num_trials=len(values),
        num_values=int(labels.max()) + 1,
        trust=_trust(p_value),
    )


def _trust(p_value: float) -> Literal["clear", "weak", "none"]:
    if p_value <= CLEAR_P:
        return "clear"
    return "weak" if p_value <= WEAK_P else "none"


def _share(labels: Int64[np.ndarray, " trials"], values: Float[np.ndarray, " trials"]) -> float:
    """Return the share of the variance that lies between groups; 0 where nothing varies."""
    total = float(((values - values.mean()) ** 2).sum())
    if total <= 0.0:
        return 0.0
    counts = np.bincount(labels)
    means = np.bincount(labels, weights=values) / np.maximum(counts, 1)
    return float((counts * (means - values.mean()) ** 2).sum()) / total


def _labels(values: Sequence[Scalar]) -> Int64[np.ndarray, " trials"]:
    """Return values as whole numbers from 0; those of a range become low, middle and high."""
    numbers = [v for v in values if isinstance(v, float | int) and not isinstance(v, bool)]
    if len(numbers) == len(values) and len(set(numbers)) > max(NUM_BINS, len(values) // 2):
        cuts = np.quantile(numbers, np.arange(1, NUM_BINS) / NUM_BINS)
        return np.asarray(np.searchsorted(cuts, numbers, side="right"), dtype=np.int64)
    order: dict[Hashable, int] = {}
    return np.array([order.setdefault(_hashable(v), len(order)) for v in values], dtype=np.int64)


def _hashable(value: Scalar) -> Hashable:
    return type(value).__name__, value
