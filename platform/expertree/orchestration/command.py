"""Between Hydra and the dataclasses: what every job does before it starts."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from expertree.config import check_key, load, open_sections, to_dict
from expertree.errors import ConfigError, ExpertreeError

T = TypeVar("T")

EXIT_FAILED, EXIT_USAGE = 1, 2
FLAGS = {"--dry-run": "dry_run=true", "--budget": "search.budget_hours"}
"""Ways to write an override that people are used to; a key without a value takes the flag's."""

GROUPS = ("experiment",)
"""Config groups that jobs have beside the keys of their dataclass."""


def prepare_hydra(defaults: object, name: str) -> None:
    """Give Hydra every default of a dataclass, and check the command line's keys against it.

    A key below a section that is null by default (`experts.adapter.rank=8`) gives the section.

    Ends the process with one sentence if a key is unknown: Hydra's own message does not say which
    key was meant.

    Args:
        defaults: An instance of the job's config class.
        name: Under which the job's YAML finds the defaults.
    """
    node = to_dict(defaults)
    with _errors_in_one_sentence():
        sys.argv[1:] = spell_out(sys.argv[1:])
        for key in _override_keys(sys.argv[1:]):
            check_key(type(defaults), key)
            open_sections(type(defaults), node, key)
    ConfigStore.instance().store(name=name, node=node)


def spell_out(arguments: Sequence[str]) -> list[str]:
    """Flags as overrides: `--dry-run`, `--budget 2` or `--budget=2`; all else as it is.

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


def run_job(config: DictConfig, cls: type[T], run: Callable[[T], int]) -> None:
    """Turn what Hydra composed into the dataclass, run the job with it, and end with its code."""
    with _errors_in_one_sentence():
        try:
            plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"configuration: {str(error).splitlines()[0]}") from None
        sys.exit(run(load(cls, plain)))


def _override_keys(arguments: list[str]) -> Iterator[str]:
    given = [argument for argument in arguments if "=" in argument and argument[0] != "-"]
    try:
        overrides = OverridesParser.create().parse_overrides(given)
    except HydraException as error:
        raise ConfigError(f"the command line: {str(error).splitlines()[0]}") from None
    for override in overrides:
        key = override.key_or_group
        if key not in GROUPS and not key.startswith("hydra"):
            yield key


@contextlib.contextmanager
def _errors_in_one_sentence() -> Iterator[None]:
    """Print an error of this package as a sentence, without a traceback, and end the process."""
    try:
        yield
    except ExpertreeError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED)
