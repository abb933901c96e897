"""Conversion of plain data to typed configurations and back, with strict checks.

A configuration is a frozen dataclass, which may hold others, and each default lives in its field.
`load` takes the data of a YAML file or a command line and refuses a key that the dataclass does not
have; the message names the key's path and the nearest key that exists.

A section may be one of several dataclasses, by its key `name`: see `Named`.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from pydantic import GetCoreSchemaHandler, PlainValidator, TypeAdapter, ValidationError

from expertree.errors import ConfigError

T = TypeVar("T")

NAME = "name"
"""The key of a section that says which of several dataclasses it is."""

FINGERPRINT_LENGTH = 20
"""Hex digits of a fingerprint: 80 bits, no collision in any store that fits on a disk."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Named(Generic[T]):
    """Marks a section as one of several dataclasses, by its key `name`, and reads it.

    `Annotated[Base, Named(...)]` is the type of such a section. In plain data it is a preset's name
    and the fields that differ from it; a field that is null does not.

    Attributes:
        what: What the section is, for messages.
        presets: Dataclasses by name. Several may be of one class, each of whose instances has
            a field `name` that is a preset's. The first is taken where no name is given.
    """

    what: str
    presets: Mapping[str, T]

    def preset(self, name: str, given: Iterable[str] = ()) -> T:
        """Return a preset.

        Args:
            name: Its name.
            given: Fields that are to be changed in it.

        Raises:
            ValueError: If there is no such preset or it has no such field; names the nearest.
        """
        if name not in self.presets:
            hint = _hint(name, sorted(self.presets))
            raise ValueError(f"there is no {self.what} '{name}'; {hint}")
        preset, names = self.presets[name], _sizes(self.presets[name])
        for field in given:
            if field not in names:
                hint = _hint(str(field), list(names))
                raise ValueError(f"the {self.what} '{name}' has no '{field}'; {hint}")
        return preset

    def read(self, value: object) -> T:
        """Make the section from plain data, or return it if it is made already.

        Raises:
            ValueError: If a name or field is unknown, or a value does not fit.
        """
        classes = tuple({type(preset) for preset in self.presets.values()})
        if isinstance(value, classes):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(  # noqa: TRY004 - pydantic reports a ValueError
                f"a {self.what} is given by its name, {{name: ...}}, got {value!r}"
            )
        given = {key: own for key, own in value.items() if own is not None}
        name = str(given.pop(NAME, next(iter(self.presets))))
        preset = self.preset(name, given)
        return _adapter(type(preset)).validate_python(_sizes(preset) | given)

    def shorten(self, section: Mapping[str, Any]) -> dict[str, Any]:
        """Return the plain data of a section as the nearest preset's name, and what differs."""
        presets = {name: to_dict(preset) for name, preset in self.presets.items()}
        found = [
            {key: own for key, own in section.items() if own != preset[key]} | {NAME: name}
            for name, preset in presets.items()
            if preset[NAME] == section[NAME]
        ]
        return min(found, key=len)

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> Any:  # noqa: ANN401 - pydantic's
        """Have pydantic read such a section by `read`."""
        return PlainValidator(self.read).__get_pydantic_core_schema__(source, handler)


def load(cls: type[T], data: Mapping[str, Any]) -> T:
    """Make a configuration from plain data.

    Args:
        cls: A dataclass, nested dataclasses included.
        data: Mappings, sequences and scalars. Keys that are left out take their defaults.

    Returns:
        The configuration, its types checked.

    Raises:
        ConfigError: If a key is unknown or a value does not fit, as no infinite number does; the
            message has its path.
    """
    for path, known in _unknown_keys(cls, data, ()):
        raise ConfigError(unknown_key_message(path, known))
    try:
        config = _adapter(cls).validate_python(data)
    except ValidationError as error:
        raise ConfigError(_first_problem(error)) from None
    for path, value in _not_finite(config, ()):
        raise ConfigError(f"configuration: '{path}' = {value} cannot be used: it is not finite")
    return config


def _not_finite(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Yield the path and value of each number that no plain data can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        yield ".".join(path), value
    for key, item in _items(value):
        yield from _not_finite(item, (*path, str(key)))


def _items(value: object) -> Iterable[tuple[object, object]]:
    """Return what a section, list or mapping holds, by name or place; nothing for other values."""
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, tuple | list) else ()


def _adapter(cls: type[T]) -> TypeAdapter[T]:
    return cast("TypeAdapter[T]", _adapter_of(cast("Hashable", cls)))


@functools.lru_cache(maxsize=256)  # pydantic makes one in 100 times the time that reading takes
def _adapter_of(cls: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def unknown_key_message(path: str, known: list[str]) -> str:
    """Return the message that a key is unknown, with the nearest key that exists.

    Args:
        path: The dotted key as it was given.
        known: The dotted keys that exist at that place.
    """
    return f"unknown configuration key '{path}'; {_hint(path, known)}"


def check_key(cls: type, path: str) -> None:
    """Raise ConfigError unless a dotted key exists in a configuration class.

    Keys of a `Named` section pass: which there are depends on the name, and `load` checks them.

    Args:
        cls: The dataclass at the root.
        path: For example `experts.recipe.batch_size`.

    Raises:
        ConfigError: If it does not exist; names the nearest one among all keys.
    """
    known = sorted({*all_keys(cls)})
    if path not in known and path.rpartition(".")[0] not in dict(named_sections(cls)):
        raise ConfigError(unknown_key_message(path, known))


def open_sections(cls: type, data: dict[str, Any], path: str) -> None:
    """Fill each null section above a dotted key with the defaults of its class.

    Args:
        cls: The dataclass at the root.
        data: A configuration of that class as plain data; changed in place.
        path: A key that exists.
    """
    name, _, rest = path.partition(".")
    section = _section_of(_hints(cls)[name])
    if not rest or section is None:
        return
    if isinstance(section, Named):
        data[name] = data[name] or {}
        return
    if data[name] is None:
        data[name] = to_dict(section())
    open_sections(section, data[name], rest)


def set_key(data: dict[str, Any], path: str, value: object) -> None:
    """Set a dotted key of plain data whose sections are there."""
    *above, last = path.split(".")
    for name in above:
        data = data[name]
    data[last] = value


def value_at(cls: type, data: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - plain data
    """Return the value of a dotted key of plain data whose sections are there.

    A field that a `Named` section leaves out is that of its preset.

    Args:
        cls: The dataclass at the root.
        data: A configuration of that class as plain data.
        path: A key that exists.

    Raises:
        ConfigError: If the section's name is unknown, or it has no such field.
    """
    above, _, last = path.rpartition(".")
    place: Mapping[str, Any] = functools.reduce(lambda own, name: own[name], above.split("."), data)
    named = dict(named_sections(cls)).get(above)
    if last in place or named is None:
        return place[last]
    try:
        preset = named.preset(str(place.get(NAME, next(iter(named.presets)))), [last])
    except ValueError as error:
        raise ConfigError(f"configuration: '{above}' cannot be used: {error}") from None
    return to_dict(preset)[last]


def all_keys(cls: type, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a configuration class, sections included."""
    for name, hint in _hints(cls).items():
        path, section = f"{prefix}{name}", _section_of(hint)
        yield path
        if isinstance(section, Named):
            yield f"{path}.{NAME}"
            for preset in section.presets.values():
                yield from (f"{path}.{key}" for key in _sizes(preset))
        elif section is not None:
            yield from all_keys(section, f"{path}.")


def known_values(cls: type, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the dotted keys of a configuration class that have few values, with these as text."""
    for name, hint in _hints(cls).items():
        path, section = f"{prefix}{name}", _section_of(hint)
        if isinstance(section, Named):
            yield f"{path}.{NAME}", tuple(section.presets)
        elif section is not None:
            yield from known_values(section, f"{path}.")
        elif hint is bool:
            yield path, ("true", "false")
        elif typing.get_origin(hint) is typing.Literal:
            yield path, tuple(map(str, typing.get_args(hint)))


def named_sections(cls: type, prefix: str = "") -> Iterator[tuple[str, Named[Any]]]:
    """Yield the dotted key of every `Named` section of a configuration class, with its mark."""
    for name, hint in _hints(cls).items():
        path, section = f"{prefix}{name}", _section_of(hint)
        if isinstance(section, Named):
            yield path, section
        elif section is not None:
            yield from named_sections(section, f"{path}.")


def renamed_sections(cls: type, keys: Iterable[str]) -> list[str]:
    """Return the `Named` sections whose name is among some dotted keys.

    Whoever changes a name begins the section anew: fields of the old name mean nothing to the new
    one, or something else.
    """
    given = set(keys)
    return [path for path, _ in named_sections(cls) if f"{path}.{NAME}" in given]


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


def _hint(key: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean '{nearest[0]}'?" if nearest else f"known here: {', '.join(known)}"


def _sizes(config: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """Return the fields of a `Named` section besides its name."""
    names = [field.name for field in dataclasses.fields(config) if field.name != NAME]
    return {name: getattr(config, name) for name in names}


def _hints(cls: type) -> dict[str, Any]:
    """Return the annotations of a dataclass's fields, in their order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _section_of(hint: object) -> type | Named[Any] | None:
    """Return the section in an annotation such as `Section | None`; None if there is none."""
    is_union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    for option in typing.get_args(hint) if is_union else (hint,):
        marks = getattr(option, "__metadata__", ())
        if named := next((mark for mark in marks if isinstance(mark, Named)), None):
            return named
        if typing.get_origin(option) is typing.Annotated:
            option = typing.get_args(option)[0]  # noqa: PLW2901 - without its marks
        if dataclasses.is_dataclass(option):
            return cast("type", option)
    return None


def _section_in_sequence(hint: object) -> type | Named[Any] | None:
    """Return the section in an annotation such as `tuple[Section, ...]`; None without one."""
    if typing.get_origin(hint) is not tuple:
        return None
    return _section_of(typing.get_args(hint)[0])


def _unknown_keys(
    cls: type, data: Mapping[str, Any], parents: tuple[str, ...]
) -> Iterator[tuple[str, list[str]]]:
    hints = _hints(cls)
    for key, value in data.items():
        path = ".".join((*parents, str(key)))
        if key not in hints:
            yield path, [".".join((*parents, name)) for name in hints]
            continue
        section = _section_of(hints[key])
        if isinstance(section, type) and isinstance(value, Mapping):
            yield from _unknown_keys(section, value, (*parents, str(key)))
        entry = _section_in_sequence(hints[key])
        if isinstance(entry, type) and isinstance(value, Sequence):
            for index, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from _unknown_keys(entry, item, (*parents, str(key), str(index)))


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    path = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    where = f"'{path}' = {problem['input']!r}" if path else "the configuration"
    return f"configuration: {where} cannot be used: {message[:1].lower()}{message[1:]}"
