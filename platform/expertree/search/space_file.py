"""Reads a search space from plain data, and checks it before use.

fixed:
  hierarchy.method: bisecting
parameters:
  tree.levels: {choice: [2, 3]}
  hierarchy.groups[1]: {int: [2, 6]}
  hierarchy.groups[2]: {int: [7, 16], when: {tree.levels: 3}}
  router.alpha: {log_uniform: [0.01, 1.0]}
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.config import check_key
from expertree.errors import ConfigError
from expertree.search.space import (
    GROUPS,
    INDEXED,
    LEVELS,
    SECTIONS,
    Choice,
    Distribution,
    IntegerRange,
    Parameter,
    RealRange,
    Space,
    level_of,
)


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
    for key, value in fixed.items():
        _check_groups(name, key, Choice(values=(value,)), [*fixed, *given])
    earlier: dict[str, Distribution | None] = dict.fromkeys(fixed)
    parameters: list[Parameter] = []
    for key, entry in given.items():
        parameter = _parameter(name, key, entry, earlier)
        _check_groups(name, key, parameter.distribution, list(earlier))
        parameters.append(parameter)
        earlier[key] = parameter.distribution
    return Space(name=name, fixed=fixed, parameters=tuple(parameters))


def _check_groups(name: str, key: str, distribution: Distribution, earlier: Sequence[str]) -> None:
    """Raise ConfigError for groups that are no whole numbers, or a level without those above it."""
    level = level_of(key)
    if level is None and key != GROUPS:
        return
    where = f"search space '{name}', {key}"
    given = distribution.values if isinstance(distribution, Choice) else ()
    if level is None:
        if not given or not all(isinstance(own, list) and _are_whole(own) for own in given):
            raise ConfigError(f"{where} must be a choice of lists of whole numbers, as [[1, 4]]")
        return
    if isinstance(distribution, RealRange) or not _are_whole(given):
        raise ConfigError(f"{where} is a number of groups; give int or a choice of whole numbers")
    above = [f"{GROUPS}[{number}]" for number in range(1, level)]
    missing = [own for own in above if own not in earlier and GROUPS not in earlier]
    if missing:
        raise ConfigError(
            f"{where} has no level above it: give {missing[0]} before it, or {GROUPS} whole"
        )


def _are_whole(values: Sequence[object]) -> bool:
    return all(isinstance(own, int) and not isinstance(own, bool) for own in values)


def _mapping(name: str, what: str, data: object) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ConfigError(f"search space '{name}': {what} must be keys and values, got {data!r}")
    return {str(key): value for key, value in data.items()}


def _check(name: str, key: str, cls: type) -> None:
    indexed = INDEXED.match(key)
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


def _parameter(
    name: str, key: str, entry: object, earlier: Mapping[str, Distribution | None]
) -> Parameter:
    where = f"search space '{name}', {key}"
    parts = dict(_mapping(name, key, entry))
    conditions = _mapping(name, f"{key}.when", parts.pop("when", {}))
    for other in conditions:
        if other not in earlier:
            raise ConfigError(
                f"{where}: when names '{other}', which is no parameter before it; there are "
                f"{', '.join(earlier) or 'none'}"
            )
    when = {
        other: tuple(value) if isinstance(value, list) else (value,)
        for other, value in conditions.items()
    }
    for other, values in when.items():
        _check_condition(where, other, values, earlier[other])
    if len(parts) != 1 or next(iter(parts)) not in _KINDS:
        raise ConfigError(
            f"{where} must have one of {', '.join(_KINDS)}, got {', '.join(parts) or 'none'}"
        )
    ((kind, given),) = parts.items()
    return Parameter(key=key, distribution=_distribution(where, kind, given), when=when)


def _check_condition(
    where: str, other: str, values: Sequence[object], distribution: Distribution | None
) -> None:
    """Raise ConfigError for a value that another parameter never has; what is fixed may differ."""
    known: Sequence[object]
    match distribution:
        case None:
            return
        case RealRange():
            raise ConfigError(
                f"{where}: when names '{other}', which takes any number of a range and so never "
                "the same twice; give a choice there"
            )
        case IntegerRange(low=low, high=high):
            known, told = range(low, high + 1), f"a whole number from {low} to {high}"
        case _:
            known, told = distribution.values, f"one of {', '.join(map(str, distribution.values))}"
    never = [value for value in values if value not in known]
    if never:
        lists = "; a list stands for alternatives, so write [[...]]" if other == GROUPS else ""
        raise ConfigError(
            f"{where}: when wants '{other}' to be {never[0]}, but it is {told}{lists}"
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
