"""Between Hydra and the dataclasses: what every job does before it starts."""

import contextlib
import sys
from collections.abc import Callable, Iterator
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
FLAGS = {"--dry-run": "dry_run=true"}
"""Ways to write an override that people are used to."""

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
    sys.argv[1:] = [FLAGS.get(argument, argument) for argument in sys.argv[1:]]
    node = to_dict(defaults)
    with _errors_in_one_sentence():
        for key in _override_keys(sys.argv[1:]):
            check_key(type(defaults), key)
            open_sections(type(defaults), node, key)
    ConfigStore.instance().store(name=name, node=node)


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
