"""Search spaces: distributions over configuration keys, read from YAML and checked before use.

    fixed:
      hierarchy.method: bisecting
    parameters:
      tree.levels: {choice: [2, 3]}
      hierarchy.groups[1]: {int: [2, 6]}
      hierarchy.groups[2]: {int: [7, 16], when: {tree.levels: 3}}
      router.alpha: {log_uniform: [0.01, 1.0]}

A key is one of the configuration's, with an index where one entry of a list is meant. The only
other name is `tree.levels`, for use in conditions. Groups grow from level to level: the draw for a
level begins above the number drawn for the level before.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from expertree.config import canonical_json, check_key, open_sections, renamed_sections, set_key
from expertree.errors import ConfigError
from expertree.search.record import Scalar, shape_in_words

SPACES = Path(__file__).with_name("spaces")
"""The folder of the named spaces: a link to `search_spaces` in a clone, a folder in a wheel."""

GROUPS = "hierarchy.groups"
LEVELS = "tree.levels"
SECTIONS = ("hierarchy", "experts", "router")
"""The sections that a space may vary; images and embeddings are the same for all trials."""

_INDEXED = re.compile(r"^(?P<key>[\w.]+)\[(?P<index>\d+)\]$")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A distribution over some values, each as likely."""

    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IntegerRange:
    """A distribution over the whole numbers of a range, both ends included."""

    low: int
    high: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RealRange:
    """A distribution over the numbers of a range, even on it or on its logarithm."""

    low: float
    high: float
    log: bool


Distribution = Choice | IntegerRange | RealRange


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One key and what is drawn for it.

    Attributes:
        key: A configuration key, maybe with an index, or `tree.levels`.
        distribution: Distribution that its values are drawn from.
        when: Values of earlier parameters, by their keys, with which this one exists.
    """

    key: str
    distribution: Distribution
    when: Mapping[str, tuple[Any, ...]]

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Return whether it is drawn, given what was drawn before it."""
        return all(key in values and values[key] in fits for key, fits in self.when.items())


class Draws(Protocol):
    """A source of drawn values."""

    def choice(self, key: str, values: Sequence[Any]) -> Any:  # noqa: ANN401 - any plain value
        """Return one of some values."""

    def whole(self, key: str, low: int, high: int) -> int:
        """Return a whole number, both ends included."""

    def real(self, key: str, low: float, high: float, *, log: bool) -> float:
        """Return a number of the range, even on it or on its logarithm."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """A search space.

    Attributes:
        name: Name that the user gives it.
        fixed: Configuration keys and values that all trials have in common.
        parameters: Parameters that are drawn, in order.
    """

    name: str
    fixed: Mapping[str, Any]
    parameters: tuple[Parameter, ...]

    def draw(self, draws: Draws) -> dict[str, Any]:
        """Draw one trial: values by key, of the parameters that exist.

        Raises:
            ConfigError: If a level cannot have more groups than the one before it.
        """
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.exists(values):
                values[parameter.key] = self._draw(parameter, values, draws)
        return values

    def _draw(self, parameter: Parameter, values: Mapping[str, Any], draws: Draws) -> Any:  # noqa: ANN401
        key = parameter.key
        match parameter.distribution:
            case Choice(values=options):
                return draws.choice(key, options)
            case IntegerRange(high=high) as whole:
                return draws.whole(key, self._low(parameter, whole, values), high)
            case RealRange(low=low_real, high=high_real, log=log):
                return draws.real(key, low_real, high_real, log=log)

    def _low(self, parameter: Parameter, whole: IntegerRange, values: Mapping[str, Any]) -> int:
        low = max(whole.low, _groups_before(parameter.key, {**self.fixed, **values}) + 1)
        if low > whole.high:
            raise ConfigError(
                f"search space '{self.name}' is impossible: {parameter.key} is at most "
                f"{whole.high}, but the level before has {low - 1} groups, and a level must have "
                "more than the one before it"
            )
        return low

    def size(self) -> int | None:
        """Return the number of different trials; None if infinitely many."""
        if any(isinstance(parameter.distribution, RealRange) for parameter in self.parameters):
            return None
        return sum(1 for _ in self.grid())

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yield all trials, in the order of the file; impossible ones are left out.

        Raises:
            ConfigError: If there are infinitely many.
        """
        for parameter in self.parameters:
            if isinstance(parameter.distribution, RealRange):
                raise ConfigError(
                    f"search space '{self.name}' has no grid: {parameter.key} takes any number of "
                    "a range; give a choice, or search.searcher=optuna or random"
                )
        yield from self._grid({}, self.parameters)

    def _grid(
        self, values: Mapping[str, Any], rest: Sequence[Parameter]
    ) -> Iterator[dict[str, Any]]:
        if not rest:
            yield dict(values)
            return
        parameter, *others = rest
        if not parameter.exists(values):
            yield from self._grid(values, others)
            return
        for value in self._options(parameter, values):
            yield from self._grid({**values, parameter.key: value}, others)

    def _options(self, parameter: Parameter, values: Mapping[str, Any]) -> Sequence[Any]:
        if isinstance(parameter.distribution, Choice):
            return parameter.distribution.values
        if isinstance(parameter.distribution, IntegerRange):
            before = _groups_before(parameter.key, {**self.fixed, **values})
            low = max(parameter.distribution.low, before + 1)
            return range(low, parameter.distribution.high + 1)
        return ()

    def overrides(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration keys and values of a trial, the fixed ones first."""
        found = dict(self.fixed)
        lists: dict[str, dict[int, Any]] = {}
        for key, value in values.items():
            indexed = _INDEXED.match(key)
            if indexed is not None:
                lists.setdefault(indexed["key"], {})[int(indexed["index"])] = value
            elif key != LEVELS:
                found[key] = value
        for key, entries in lists.items():
            before = list(found.get(key, (1,) if key == GROUPS else ()))
            for index, value in sorted(entries.items()):
                before[index : index + 1] = [value]
            found[key] = before
        return found

    def most_groups(self) -> int | None:
        """Return the most groups that a level of any trial can have; None if not given."""
        numbers: list[int] = []
        for key, distribution in self._all():
            if key.partition("[")[0] == GROUPS:
                numbers += _largest(distribution)
        return max(numbers, default=None)

    def ranges(self) -> dict[str, dict[str, Any]]:
        """Return what is drawn, by flattened key: `values`, or `min` and `max`."""
        return {_flat_key(own.key): _range(own) for own in self.parameters}

    def _all(self) -> Iterator[tuple[str, Distribution]]:
        for key, value in self.fixed.items():
            yield key, Choice(values=(value,))
        for parameter in self.parameters:
            yield parameter.key, parameter.distribution


def read_space(name: str, data: object, cls: type) -> Space:
    """Read a search space from plain data.

    Args:
        name: Name that the user gives it.
        data: Content of its YAML file.
        cls: The configuration's dataclass.

    Raises:
        ConfigError: If a key is misspelt, a distribution cannot be drawn from, or it is empty.
    """
    parts = _mapping(name, "the file", data)
    strange = sorted(set(parts) - {"fixed", "parameters"})
    if strange:
        raise ConfigError(
            f"search space '{name}' has '{strange[0]}'; it may have fixed and parameters"
        )
    fixed = _mapping(name, "fixed", parts.get("fixed") or {})
    given = _mapping(name, "parameters", parts.get("parameters") or {})
    if not given:
        raise ConfigError(f"search space '{name}' is empty; give parameters to search over")
    for key in (*fixed, *given):
        _check(name, key, cls)
    parameters: list[Parameter] = []
    for key, entry in given.items():
        parameters.append(_parameter(name, key, entry, [own.key for own in parameters]))
    return Space(name=name, fixed=fixed, parameters=tuple(parameters))


def flatten(overrides: Mapping[str, Any], *, num_experts: int | None) -> dict[str, Scalar]:
    """Return overrides as scalars: the shape as `tree.levels`, `tree.k1`, ..., lists as JSON."""
    groups = list(overrides.get(GROUPS, ()))
    flat: dict[str, Scalar] = {}
    if groups:
        flat[LEVELS] = len(groups)
        flat |= {f"tree.k{level}": int(count) for level, count in enumerate(groups, start=1)}
    if num_experts is not None:
        flat["tree.num_experts"] = num_experts
    for key, value in overrides.items():
        if key != GROUPS:
            is_scalar = value is None or isinstance(value, str | int | float | bool)
            flat[key] = value if is_scalar else canonical_json(value)
    return flat


def _flat_key(key: str) -> str:
    """Return the name that `flatten` gives a parameter: `tree.k2` for `hierarchy.groups[1]`."""
    indexed = _INDEXED.match(key)
    if indexed is None or indexed["key"] != GROUPS:
        return "tree.shape" if key == GROUPS else key
    return f"tree.k{int(indexed['index']) + 1}"


def _range(parameter: Parameter) -> dict[str, Any]:
    match parameter.distribution:
        case Choice(values=values) if parameter.key == GROUPS:
            return {"values": [shape_in_words(groups) for groups in values]}
        case Choice(values=values):
            are_scalar = all(isinstance(own, str | int | float | bool | None) for own in values)
            return {"values": list(values) if are_scalar else [*map(canonical_json, values)]}
        case IntegerRange(low=low, high=high):
            return {"min": low, "max": high}
        case RealRange(low=least, high=most, log=log):
            kind = "log_uniform_values" if log else "uniform"
            return {"min": float(least), "max": float(most), "distribution": kind}


def apply(cls: type, base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as plain data with some dotted keys changed.

    Args:
        cls: Dataclass of it; a section that is null gets its defaults where a key lies below it.
        base: The whole configuration.
        overrides: New values by dotted key; a network's name comes with its own sizes.
    """
    data: dict[str, Any] = _copied(base)
    for path in renamed_sections(cls, overrides):
        set_key(data, path, {})
    for key, value in overrides.items():
        open_sections(cls, data, key)
        set_key(data, key, value)
    return data


def _copied(value: Any) -> Any:  # noqa: ANN401 - any plain data
    if isinstance(value, Mapping):
        return {key: _copied(own) for key, own in value.items()}
    return value


def _groups_before(key: str, values: Mapping[str, Any]) -> int:
    """Return the groups of the level before an entry of the shape; 0 where there is none."""
    indexed = _INDEXED.match(key)
    if indexed is None or indexed["key"] != GROUPS:
        return 0
    index = int(indexed["index"]) - 1
    found = values.get(f"{GROUPS}[{index}]")
    if found is not None:
        return int(found)
    before = list(values.get(GROUPS, (1,)))
    return int(before[index]) if 0 <= index < len(before) else 0


def _largest(distribution: Distribution) -> list[int]:
    if isinstance(distribution, Choice):
        return [max(v) if isinstance(v, Sequence) else int(v) for v in distribution.values]
    return [int(distribution.high)]


def _mapping(name: str, what: str, data: object) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ConfigError(f"search space '{name}': {what} must be keys and values, got {data!r}")
    return {str(key): value for key, value in data.items()}


def _check(name: str, key: str, cls: type) -> None:
    indexed = _INDEXED.match(key)
    plain = indexed["key"] if indexed is not None else key
    if plain == LEVELS:
        return
    try:
        check_key(cls, plain)
    except ConfigError as error:
        raise ConfigError(f"search space '{name}': {error}") from None
    if plain.partition(".")[0] not in SECTIONS or "." not in plain:
        raise ConfigError(
            f"search space '{name}' has '{key}'; trials may differ in "
            f"{', '.join(f'{section}.*' for section in SECTIONS)}, all else is given on the "
            "command line, for all of them"
        )


def _parameter(name: str, key: str, entry: object, earlier: Sequence[str]) -> Parameter:
    where = f"search space '{name}', {key}"
    parts = dict(_mapping(name, key, entry))
    conditions = _mapping(name, f"{key}.when", parts.pop("when", {}))
    for other in conditions:
        if other not in earlier:
            raise ConfigError(
                f"{where}: when names '{other}', which is no parameter before it; there are "
                f"{', '.join(earlier) or 'none'}"
            )
    if len(parts) != 1 or next(iter(parts)) not in _KINDS:
        raise ConfigError(
            f"{where} must have one of {', '.join(_KINDS)}, got {', '.join(parts) or 'none'}"
        )
    ((kind, given),) = parts.items()
    return Parameter(
        key=key,
        distribution=_distribution(where, kind, given),
        when={
            other: tuple(value) if isinstance(value, list) else (value,)
            for other, value in conditions.items()
        },
    )


_KINDS = ("choice", "int", "uniform", "log_uniform")


def _distribution(where: str, kind: str, given: object) -> Distribution:
    if not isinstance(given, list) or not given:
        raise ConfigError(f"{where}: {kind} must be a list that is not empty, got {given!r}")
    if kind == "choice":
        return Choice(values=tuple(given))
    numbers = [n for n in given if isinstance(n, int | float) and not isinstance(n, bool)]
    if len(numbers) != 2 or len(given) != 2 or not all(math.isfinite(n) for n in numbers):
        raise ConfigError(f"{where}: {kind} must be [lowest, highest], got {given}")
    low, high = numbers
    if low > high or (kind != "int" and low == high):
        raise ConfigError(f"{where} is empty: {kind} goes from {low} to {high}")
    if kind == "int":
        if low != int(low) or high != int(high):
            raise ConfigError(f"{where}: int takes whole numbers, got {given}")
        return IntegerRange(low=int(low), high=int(high))
    if kind == "log_uniform" and low <= 0:
        raise ConfigError(f"{where}: log_uniform must begin above 0, got {low}")
    return RealRange(low=float(low), high=float(high), log=kind == "log_uniform")
