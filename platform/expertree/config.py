"""Conversion of plain data to typed configurations and back, with strict checks.

A configuration is a frozen dataclass, which may hold others, and each default lives in its field.
`load` takes the data of a YAML file or a command line and refuses a key that the dataclass does not
have; the message names the key's path and the nearest key that exists.
"""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from expertree.errors import ConfigError

T = TypeVar("T")

FINGERPRINT_LENGTH = 20
"""Hex digits of a fingerprint: 80 bits, no collision in any store that fits on a disk."""


def load(cls: type[T], data: Mapping[str, Any]) -> T:
    """Make a configuration from plain data.

    Args:
        cls: A dataclass, nested dataclasses included.
        data: Mappings, sequences and scalars. Keys that are left out take their defaults.

    Returns:
        The configuration, its types checked.

    Raises:
        ConfigError: If a key is unknown or a value does not fit; the message has its path.
    """
    for path, known in _unknown_keys(cls, data, ()):
        raise ConfigError(unknown_key_message(path, known))
    try:
        return TypeAdapter(cls).validate_python(data)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None


def unknown_key_message(path: str, known: list[str]) -> str:
    """Return the message that a key is unknown, with the nearest key that exists.

    Args:
        path: The dotted key as it was given.
        known: The dotted keys that exist at that place.
    """
    nearest = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known here: {', '.join(known)}"
    return f"unknown configuration key '{path}'; {hint}"


def check_key(cls: type, path: str) -> None:
    """Raise ConfigError unless a dotted key exists in a configuration class.

    Args:
        cls: The dataclass at the root.
        path: For example `experts.recipe.batch_size`.

    Raises:
        ConfigError: If it does not exist; names the nearest one among all keys.
    """
    known = sorted(all_keys(cls))
    if path not in known:
        raise ConfigError(unknown_key_message(path, known))


def open_sections(cls: type, data: dict[str, Any], path: str) -> None:
    """Fill each null section above a dotted key with the defaults of its class.

    Args:
        cls: The dataclass at the root.
        data: A configuration of that class as plain data; changed in place.
        path: A key that exists.
    """
    name, _, rest = path.partition(".")
    section = _dataclass_of(typing.get_type_hints(cls)[name])
    if rest and section is not None:
        if data[name] is None:
            data[name] = to_dict(section())
        open_sections(section, data[name], rest)


def all_keys(cls: type, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a configuration class, sections included."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        path = f"{prefix}{field.name}"
        yield path
        section = _dataclass_of(hints[field.name])
        if section is not None:
            yield from all_keys(section, f"{path}.")


def to_dict(config: object) -> dict[str, Any]:
    """Return a configuration as plain data that JSON and YAML can hold (tuples become lists)."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ValueError(f"to_dict takes a dataclass instance, got {config!r}")
    return cast("dict[str, Any]", json.loads(canonical_json(dataclasses.asdict(config))))


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, dataclasses as objects."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def fingerprint(value: object) -> str:
    """Return a hash of plain data or dataclasses that depends on their content alone.

    Returns:
        The first 20 hex digits of the SHA-256 of its canonical JSON.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:FINGERPRINT_LENGTH]


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} is not plain data: {value!r}")


def _dataclass_of(hint: object) -> type | None:
    """Return the dataclass in an annotation such as `Section | None`; None if there is none."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    found = [option for option in options if dataclasses.is_dataclass(option)]
    return cast("type", found[0]) if found else None


def _dataclass_in_sequence(hint: object) -> type | None:
    """Return the dataclass in an annotation such as `tuple[Section, ...]`; None without one."""
    if typing.get_origin(hint) is not tuple:
        return None
    return _dataclass_of(typing.get_args(hint)[0])


def _unknown_keys(
    cls: type, data: Mapping[str, Any], parents: tuple[str, ...]
) -> Iterator[tuple[str, list[str]]]:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    for key, value in data.items():
        path = ".".join((*parents, str(key)))
        if key not in names:
            yield path, [".".join((*parents, name)) for name in names]
            continue
        section = _dataclass_of(hints[key])
        if section is not None and isinstance(value, Mapping):
            yield from _unknown_keys(section, value, (*parents, str(key)))
        entry = _dataclass_in_sequence(hints[key])
        if entry is not None and isinstance(value, Sequence):
            for index, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from _unknown_keys(entry, item, (*parents, str(key), str(index)))


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    where = f"'{path}' = {problem['input']!r}" if path else "the configuration"
    return f"configuration: {where} cannot be used: {message[:1].lower()}{message[1:]}"
