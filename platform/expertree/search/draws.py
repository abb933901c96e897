"""Draws at random, and as Optuna's trials: where a trial's values come from."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from expertree.config import canonical_json
from expertree.search.space import Space


class RandomDraws:
    """Values from a generator: the same seed gives the same trial."""

    def __init__(self, seed: Sequence[int]) -> None:
        """See the class."""
        self._rng = np.random.default_rng(list(seed))

    def choice(self, key: str, values: Sequence[Any]) -> Any:  # noqa: ANN401, ARG002 - any value
        """See `space.Draws`."""
        return values[int(self._rng.integers(len(values)))]

    def whole(self, key: str, low: int, high: int) -> int:  # noqa: ARG002 - the order decides
        """See `space.Draws`."""
        return int(self._rng.integers(low, high + 1))

    def real(self, key: str, low: float, high: float, *, log: bool) -> float:  # noqa: ARG002
        """See `space.Draws`."""
        if log:
            return float(math.exp(self._rng.uniform(math.log(low), math.log(high))))
        return float(self._rng.uniform(low, high))


def random_trials(space: Space, count: int, *, seed: int) -> list[dict[str, Any]]:
    """Trials drawn at random: the first ones of a longer search are those of a shorter one."""
    return [space.draw(RandomDraws([seed, number])) for number in range(count)]


class Asked(Protocol):
    """What is used of an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        """One of some scalars."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number."""


class OptunaDraws:
    """Values that an Optuna trial suggests; lists are shown to Optuna as JSON."""

    def __init__(self, trial: Asked) -> None:
        """See the class."""
        self._trial = trial

    def choice(self, key: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - any plain value
        """See `space.Draws`."""
        by_name = {_name(value): value for value in values}
        return by_name[self._trial.suggest_categorical(key, list(by_name))]

    def whole(self, key: str, low: int, high: int) -> int:
        """See `space.Draws`."""
        return int(self._trial.suggest_int(key, low, high))

    def real(self, key: str, low: float, high: float, *, log: bool) -> float:
        """See `space.Draws`."""
        return float(self._trial.suggest_float(key, low, high, log=log))


def _name(value: Any) -> Any:  # noqa: ANN401 - any plain value
    return value if isinstance(value, str | int | float | bool) else canonical_json(value)
