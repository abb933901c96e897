"""The sources of a trial's values: a random generator, or a trial of Optuna."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from expertree.config import canonical_json
from expertree.search.space import Space


class RandomDraws:
    """Random draws from a generator: the same seed gives the same trial."""

    def __init__(self, seed: Sequence[int]) -> None:
        self._rng = np.random.default_rng(list(seed))

    def choice(self, key: str, values: Sequence[Any], possible: Sequence[Any]) -> Any:  # noqa: ANN401, ARG002
        """Draw one of the possible values, each as likely."""
        return possible[int(self._rng.integers(len(possible)))]

    def whole(self, key: str, low: int, high: int) -> int:  # noqa: ARG002 - the order decides
        """Draw a whole number, both ends included."""
        return int(self._rng.integers(low, high + 1))

    def real(self, key: str, low: float, high: float, *, log: bool) -> float:  # noqa: ARG002
        """Draw a number, evenly on the range or on its logarithm."""
        if log:
            return float(math.exp(self._rng.uniform(math.log(low), math.log(high))))
        return float(self._rng.uniform(low, high))


def random_trials(space: Space, count: int, *, seed: int) -> list[dict[str, Any]]:
    """Draw trials at random: a longer search begins with the trials of a shorter one."""
    return [space.draw(RandomDraws([seed, number])) for number in range(count)]


class OptunaTrial(Protocol):
    """The part of an Optuna trial that is used here."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        """Return one of some scalars."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """Return a whole number, both ends included."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Return a number of the range."""


class OptunaDraws:
    """Draws that an Optuna trial suggests; lists are shown to Optuna as JSON."""

    def __init__(self, trial: OptunaTrial) -> None:
        self._trial = trial

    def choice(self, key: str, values: Sequence[Any], possible: Sequence[Any]) -> Any:  # noqa: ANN401
        """Return one of some values, as Optuna suggests, or a possible one in its place.

        Optuna wants the same values to choose from in every trial.
        """
        by_name = {_name(value): value for value in values}
        names = list(by_name)
        suggested = self._trial.suggest_categorical(key, names)
        if by_name[suggested] in possible:
            return by_name[suggested]
        return possible[names.index(suggested) % len(possible)]

    def whole(self, key: str, low: int, high: int) -> int:
        """Return a whole number, both ends included, as Optuna suggests."""
        return int(self._trial.suggest_int(key, low, high))

    def real(self, key: str, low: float, high: float, *, log: bool) -> float:
        """Return a number of the range, as Optuna suggests."""
        return float(self._trial.suggest_float(key, low, high, log=log))


def _name(value: Any) -> Any:  # noqa: ANN401 - any plain value
    return value if isinstance(value, str | int | float | bool) else canonical_json(value)
