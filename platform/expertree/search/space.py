"""Search spaces: distributions over configuration keys; `space_file` reads them.

A key is one of the configuration's, with an index where one entry of a list is meant. The only
other name is `tree.levels`, for use in conditions. Groups grow from level to level: the draw for a
level begins above the number drawn for the level before, and leaves room for those after it.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from expertree.config import canonical_json, open_sections, renamed_sections, set_key, value_at
from expertree.errors import ConfigError
from expertree.search.record import Scalar, shape_in_words

SPACES = Path(__file__).with_name("spaces")
"""The folder of the named spaces: a link to `search_spaces` in a clone, a folder in a wheel."""

GROUPS = "hierarchy.groups"
LEVELS = "tree.levels"
SECTIONS = ("hierarchy", "experts", "router")
"""The sections that a space may vary; images and embeddings are the same for all trials."""

INDEXED = re.compile(r"^(?P<key>[\w.]+)\[(?P<index>\d+)\]$")


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
        when: Values of earlier parameters and fixed keys with which this one exists.
    """

    key: str
    distribution: Distribution
    when: Mapping[str, tuple[Any, ...]]

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Return whether it is drawn, given what was drawn before it."""
        return all(key in values and values[key] in fits for key, fits in self.when.items())


class Draws(Protocol):
    """A source of drawn values."""

    def choice(self, key: str, values: Sequence[Any], possible: Sequence[Any]) -> Any:  # noqa: ANN401
        """Return one of the possible ones of some values."""

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

        A value is drawn only if all levels after it can still grow.

        Raises:
            ConfigError: If there is no such value.
        """
        values: dict[str, Any] = {}
        for place, parameter in enumerate(self.parameters, start=1):
            if parameter.exists({**self.fixed, **values}):
                rest = self.parameters[place:]
                values[parameter.key] = self._draw(parameter, values, rest, draws)
        return values

    def _draw(
        self,
        parameter: Parameter,
        values: Mapping[str, Any],
        rest: Sequence[Parameter],
        draws: Draws,
    ) -> Any:  # noqa: ANN401 - any plain value
        key = parameter.key
        if isinstance(parameter.distribution, RealRange):
            own = parameter.distribution
            return draws.real(key, own.low, own.high, log=own.log)
        possible = self._possible(parameter, values, rest)
        if not possible:
            raise ConfigError(
                f"search space '{self.name}' is impossible: {key} has no value with which groups "
                "grow from level to level, and a level must have more than the one before it"
            )
        if isinstance(parameter.distribution, Choice):
            return draws.choice(key, parameter.distribution.values, possible)
        drawn = draws.whole(key, possible[0], possible[-1])
        return drawn if drawn in possible else max(own for own in possible if own < drawn)

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
        if not parameter.exists({**self.fixed, **values}):
            yield from self._grid(values, others)
            return
        for value in self._possible(parameter, values, others):
            yield from self._grid({**values, parameter.key: value}, others)

    def _possible(
        self, parameter: Parameter, values: Mapping[str, Any], rest: Sequence[Parameter]
    ) -> Sequence[Any]:
        """Return the values of a choice or a range after which all levels can grow."""
        options = self._options(parameter, values)
        if parameter.key not in self._told and level_of(parameter.key) is None:
            return options
        key = parameter.key
        return [own for own in options if self._has_end({**values, key: own}, rest)]

    def _options(self, parameter: Parameter, values: Mapping[str, Any]) -> Sequence[Any]:
        """Return the values of a choice or a range that the level before leaves."""
        level = level_of(parameter.key)
        least = self._least(level, values) if level is not None else None
        match parameter.distribution:
            case Choice(values=options):
                return options if least is None else [own for own in options if own >= least]
            case IntegerRange(low=low, high=high):
                return range(low if least is None else max(low, least), high + 1)
            case RealRange():
                return ()

    def _has_end(self, values: Mapping[str, Any], rest: Sequence[Parameter]) -> bool:
        """Return whether the rest can be drawn such that groups grow."""
        if not self._shapes:
            return True
        if not rest:
            return self._grows(values)
        parameter, *others = rest
        is_real = isinstance(parameter.distribution, RealRange)
        if is_real or not parameter.exists({**self.fixed, **values}):
            return self._has_end(values, others)
        options = self._options(parameter, values)
        if options and parameter.key not in self._told:
            # Nothing asks for its value but the level after it, to which the least leaves most.
            options = [min(options) if level_of(parameter.key) is not None else options[0]]
        return any(self._has_end({**values, parameter.key: own}, others) for own in options)

    @property
    def _told(self) -> set[str]:
        """Keys whose values decide on more than the level after them."""
        return {GROUPS, *(key for own in self.parameters for key in own.when)}

    @property
    def _shapes(self) -> bool:
        """Whether single levels are given, and not only whole shapes, which builds check."""
        keys = (*self.fixed, *(own.key for own in self.parameters))
        return any(level_of(key) is not None for key in keys)

    def _least(self, level: int, values: Mapping[str, Any]) -> int:
        """Return the fewest groups that a level may have, by those before it."""
        before = _shape({**self.fixed, **values}, below=level)
        return before[level - 1] + 1 if 0 < level <= len(before) else 1

    def _grows(self, values: Mapping[str, Any]) -> bool:
        """Return whether a whole trial's groups grow, and no level is left out."""
        known = {**self.fixed, **values}
        groups = _shape(known)
        levels = [level for key in known if (level := level_of(key)) is not None]
        is_whole = all(level < len(groups) for level in levels)
        return is_whole and all(one < other for one, other in itertools.pairwise((0, *groups)))

    def overrides(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration keys and values of a trial, the fixed ones first.

        Groups are one list, from the level of the root on. Other keys keep their index: `apply`
        changes that entry of what is configured.
        """
        known = {**self.fixed, **values}
        found = {
            key: value for key, value in known.items() if key != LEVELS and level_of(key) is None
        }
        has_levels = any(level_of(key) is not None for key in known)
        return {**found, GROUPS: _shape(known)} if has_levels else found

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
    indexed = INDEXED.match(key)
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
        overrides: New values by dotted key; a network's name comes with its own sizes. A key with
            an index changes that entry, or appends one.

    Raises:
        ConfigError: If there is no such entry.
    """
    data: dict[str, Any] = _copied(base)
    for path in renamed_sections(cls, overrides):
        set_key(data, path, {})
    entries = {key: match for key in overrides if (match := INDEXED.match(key)) is not None}
    for key, value in overrides.items():
        if key not in entries:
            open_sections(cls, data, key)
            set_key(data, key, value)
    for key, match in entries.items():
        plain, index = match["key"], int(match["index"])
        open_sections(cls, data, plain)
        before = value_at(cls, data, plain)
        if not isinstance(before, Sequence) or isinstance(before, str) or index > len(before):
            raise ConfigError(
                f"{key} is no entry of {plain}={before!r}; change one that it has, or leave the "
                "index out and give it whole"
            )
        set_key(data, plain, [*before[:index], overrides[key], *before[index + 1 :]])
    return data


def _copied(value: Any) -> Any:  # noqa: ANN401 - any plain data
    if isinstance(value, Mapping):
        return {key: _copied(own) for key, own in value.items()}
    return value


def level_of(key: str) -> int | None:
    """Return the level whose groups a key gives, None for any other key."""
    indexed = INDEXED.match(key)
    return int(indexed["index"]) if indexed is not None and indexed["key"] == GROUPS else None


def _shape(known: Mapping[str, Any], *, below: int | None = None) -> list[int]:
    """Return the groups by level, as far as there is no gap: a whole shape with its changes.

    Args:
        known: Values by key.
        below: Level from which on changes do not count; all by default.
    """
    groups = list(known.get(GROUPS, (1,)))
    given = {level: known[key] for key in known if (level := level_of(key)) is not None}
    for level, count in sorted(given.items()):
        if level <= len(groups) and (below is None or level < below):
            groups[level : level + 1] = [count]
    return groups


def _largest(distribution: Distribution) -> list[int]:
    if isinstance(distribution, Choice):
        return [max(v) if isinstance(v, Sequence) else int(v) for v in distribution.values]
    return [int(distribution.high)]
