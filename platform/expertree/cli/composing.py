"""Composing a configuration from a command line and YAML files; only this module uses Hydra.

The files in `conf` lie in the package, so that they are found wherever it is installed.
"""

import contextlib
import dataclasses
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from expertree.config import (
    NAME,
    Named,
    check_key,
    load,
    named_sections,
    open_sections,
    renamed_sections,
    to_dict,
)
from expertree.errors import ConfigError

T = TypeVar("T")

CONF = Path(__file__).with_name("conf")

FLAGS = {"--dry-run": "dry_run=true", "--budget": "search.budget_hours", "--sets": "sets"}
"""Flags that stand for overrides; a key without a value takes the flag's."""

GROUPS = ("experiment",)
"""Config groups that verbs have beside the keys of their dataclass."""

_TAKE_VALUES = frozenset(
    (
        *("-c", "--cfg", "-i", "--info", "-p", "--package", "--experimental-rerun"),
        *("-cd", "--config-dir", "-cn", "--config-name", "-cp", "--config-path"),
    )
)
"""Hydra's own options that take a value."""

_CONFIG_DIR = ("-cd", "--config-dir")

_NOTHING_LEFT_BEHIND = {
    "hydra.run.dir": ".",
    "hydra.output_subdir": "null",
    "hydra/job_logging": "none",
    "hydra/hydra_logging": "none",
}
"""Overrides that keep Hydra from making a folder `outputs` with logs and configurations."""


def compose(cls: type[T], arguments: Sequence[str], *, verb: str, config_name: str) -> T | None:
    """Compose a verb's configuration from its defaults, its YAML files and a command line.

    A key below a section that is null by default (`experts.adapter.rank=8`) creates the section. A
    name (`experts.backbone.name=restormer`) begins its section anew: it stands for sizes of its
    own, whatever YAML says of another, and those on the same command line hold.

    Args:
        cls: The verb's dataclass.
        arguments: `key=value`, flags of `FLAGS`, and Hydra's own (`--cfg job`, `--config-dir`).
        verb: Name of the verb; its YAML finds the dataclass's defaults as `<verb>_defaults`.
        config_name: The YAML file in `conf`, without `.yaml`.

    Returns:
        The configuration; None if the command line asked only to print (`--cfg job`).

    Raises:
        ConfigError: If a key is unknown or a value cannot work. The message is one sentence with
            the nearest key that exists, which Hydra's own lacks.
        StorageError: If a folder of YAML files at a URI cannot be read.
    """
    overrides, options = _apart(spell_out(arguments))
    node = to_dict(cls())
    parsed = _parsed(overrides)
    for key in _keys(parsed):
        check_key(cls, key)
        open_sections(cls, node, key)
    for path, named in named_sections(cls):
        _shorten(node, path, named)
    ConfigStore.instance().store(name=f"{verb}_defaults", node=node)
    # Hydra takes overrides in one run only, not with options between them.
    with _fetched(options) as local:
        command = [f"expertree {verb}", *_quiet(_with_names(cls, parsed)), *local]
        with _in_one_sentence(), _as_this_process(command):
            plain = _composed(config_name)
    return None if plain is None else load(cls, plain)


def experiments(cls: type, config_name: str) -> list[str]:
    """Return the names of the experiments that a verb can take: it knows all their sections.

    Args:
        cls: The verb's dataclass.
        config_name: The verb's YAML file in `conf`, without `.yaml`.
    """
    verb: Any = OmegaConf.load(CONF / f"{config_name}.yaml")
    takes = verb.get("defaults", [])
    if not any("experiment" in entry for entry in takes if not isinstance(entry, str)):
        return []
    known = {field.name for field in dataclasses.fields(cls)} | {"defaults"}
    paths = sorted((CONF / "experiment").glob("*.yaml"))
    return [path.stem for path in paths if known.issuperset(OmegaConf.load(path))]


def spell_out(arguments: Sequence[str]) -> list[str]:
    """Turn flags into overrides (`--dry-run`, `--budget 2`, `--budget=2`) and keep all else.

    Raises:
        ConfigError: If a flag lacks its value.
    """
    found: list[str] = []
    left = iter(arguments)
    for argument in left:
        flag, equals, value = argument.partition("=")
        key = FLAGS.get(flag)
        if key is None:
            found.append(argument)
        elif "=" in key:
            found.append(key)
        else:
            given = value if equals else next(left, None)
            if not given:
                raise ConfigError(f"the command line: {flag} needs a value")
            found.append(f"{key}={given}")
    return found


def _composed(config_name: str) -> Any | None:  # noqa: ANN401 - plain data, checked by `load`
    """Return what Hydra composes from this process's arguments, resolved while its keys exist."""
    found: list[Any] = []
    problems: list[OmegaConfBaseException] = []

    def keep(config: DictConfig) -> None:
        try:
            found.append(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
        except OmegaConfBaseException as error:  # Hydra would print its own words about it.
            problems.append(error)

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(keep)()
    if problems:
        raise problems[0]
    return found[0] if found else None


def _apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate overrides from Hydra's own options and their values.

    Raises:
        ConfigError: If several runs were asked for.
    """
    overrides: list[str] = []
    options: list[str] = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if argument in {"-m", "--multirun"}:
            raise ConfigError(f"{argument} is not supported; `expertree search` tries many trees")
        is_option = argument.startswith("-") or before in _TAKE_VALUES
        (options if is_option else overrides).append(argument)
    return overrides, options


@contextlib.contextmanager
def _fetched(options: Sequence[str]) -> Iterator[list[str]]:
    """Copy the YAML files of a `--config-dir` at a URI, and give the options with their folder.

    Raises:
        ConfigError: If there are none.
        StorageError: If they cannot be read.
    """
    with contextlib.ExitStack() as stack:
        found: list[str] = []
        for before, option in zip(("", *options), options, strict=False):
            name, equals, value = option.partition("=")
            is_joined = bool(equals) and name in _CONFIG_DIR
            place = value if is_joined else option if before in _CONFIG_DIR else ""
            if "://" not in place:
                found.append(option)
                continue
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="expertree-conf-"))
            _copy_yaml(place, Path(folder))
            found.append(f"{name}={folder}" if is_joined else folder)
        yield found


def _copy_yaml(uri: str, folder: Path) -> None:
    from expertree.storage import Storage  # noqa: PLC0415 - pyarrow, which completion does without

    source = Storage.open(uri)
    names = source.list_files(".yaml")
    if not names:
        raise ConfigError(f"--config-dir {source.where()}: there is no YAML file")
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source.read_bytes(name))


def _parsed(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    return [_parsed_one(parser, override) for override in overrides]


def _parsed_one(parser: OverridesParser, override: str) -> Override:
    """Parse one override; where its value would be right in quotes, the error says so.

    Raises:
        ConfigError: If it cannot be parsed.
    """
    try:
        return parser.parse_override(override)
    except HydraException as error:
        key, equals, value = override.partition("=")
        quoted = f"{key}={_in_quotes(value)}"
        with contextlib.suppress(HydraException):
            parser.parse_override(quoted)
            if equals and not value.startswith(("[", "{")):  # which want their ends, not quotes
                raise ConfigError(
                    f"the command line: the value of {key} has letters that mean something here; "
                    f"put it in quotes: {shlex.quote(quoted)}"
                ) from error
        raise ConfigError(f"the command line: {str(error).partition(chr(10))[0]}") from error


def _in_quotes(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _keys(overrides: Sequence[Override]) -> Iterator[str]:
    """Yield the keys of the verb's dataclass that overrides change."""
    for override in overrides:
        key = override.key_or_group
        if key not in GROUPS and not key.startswith("hydra"):
            yield key


def _shorten(node: dict[str, Any], path: str, named: Named[Any]) -> None:
    """Write a section as its name and what differs, so that YAML can lay another name over it."""
    *above, last = path.split(".")
    for name in above:
        node = node[name] or {}
    if node.get(last):
        node[last] = named.shorten(node[last])


def _with_names(cls: type, overrides: Sequence[Override]) -> list[str]:
    """Return overrides as text, such that a name empties its section before all else is set."""
    named = dict(named_sections(cls))
    keys = [override.key_or_group for override in overrides]
    whole = [
        override.key_or_group
        for override in overrides
        if override.key_or_group in named
        and isinstance(value := override.value(), Mapping)
        and NAME in value
    ]
    emptied = dict.fromkeys([*renamed_sections(cls, keys), *whole])
    found = [f"++{path}=null" for path in emptied]
    for override in overrides:
        line = str(override.input_line)
        is_inside = {override.key_or_group, override.key_or_group.rpartition(".")[0]} & named.keys()
        # Which keys such a section has is known when it has a name; Hydra would refuse new ones.
        found.append(f"++{line.lstrip('+')}" if is_inside and not override.is_delete() else line)
    return found


def _quiet(overrides: Sequence[str]) -> list[str]:
    """Return the overrides after those that keep Hydra from leaving files, unless given."""
    named = {override.partition("=")[0].lstrip("+") for override in overrides}
    own = [f"{key}={value}" for key, value in _NOTHING_LEFT_BEHIND.items() if key not in named]
    return [*own, *overrides]


@contextlib.contextmanager
def _as_this_process(arguments: list[str]) -> Iterator[None]:
    """Set the arguments that Hydra reads from the process, and let it raise its errors."""
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = arguments, "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


@contextlib.contextmanager
def _in_one_sentence() -> Iterator[None]:
    """Turn Hydra's errors into this package's own.

    Raises:
        ConfigError: With the first line of what Hydra says.
    """
    try:
        yield
    except MissingConfigException as error:
        there_are = f"; there are {', '.join(error.options)}" if error.options else ""
        missing = error.missing_cfg_file or "a configuration file"
        raise ConfigError(f"configuration: there is no {missing}{there_are}") from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"the command line: {reason}") from None
