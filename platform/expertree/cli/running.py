"""Running a verb that has settings: its help, its errors as one sentence, and its exit code."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from expertree.cli.codes import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from expertree.cli.composing import compose
from expertree.config import all_keys
from expertree.errors import ConfigError, ExpertreeError

T = TypeVar("T")

_HELP = frozenset({"-h", "--help"})
FLAGS = {
    "dry_run": ("--dry-run", "say what would be done, and start nothing"),
    "search.budget_hours": ("--budget HOURS", "of lanes, for training in all"),
    "sets": ("--sets FOLDER", "measure every known set below a folder"),
    "": ("--cfg job", "print the settings as they would be, and end"),
}
"""Flags and their help texts, by the key that a verb's settings must have for them."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SettingsVerb(Generic[T]):
    """A verb that takes settings.

    Attributes:
        name: Its name.
        text: What it does, with examples: the docstring of its module.
        cls: The dataclass of its settings.
        config_name: Its YAML file in `conf`, without `.yaml`.
        values: What a setting may be, by its dotted key, where its type does not say it.
    """

    name: str
    text: str
    cls: type[T]
    config_name: str
    values: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


def run_verb(arguments: Sequence[str], verb: SettingsVerb[T], run: Callable[[T], int]) -> int:
    """Compose a verb's settings and run it with them, or print its help.

    Args:
        arguments: Arguments of the command line after the verb.
        verb: The verb.
        run: Function that does the work and returns the exit code.

    Returns:
        The exit code. An error of this package becomes a sentence on standard error and the code 2
        for wrong usage, 1 for a failure. All others are raised.
    """
    given = list(arguments)
    try:
        if not _HELP.isdisjoint(given):
            sys.stdout.write(_help_text(verb))
            given = [*(argument for argument in given if argument not in _HELP), "--cfg", "job"]
        config = compose(verb.cls, given, verb=verb.name, config_name=verb.config_name)
        return EXIT_DONE if config is None else run(config)
    except ExpertreeError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def _help_text(verb: SettingsVerb[T]) -> str:
    keys, meaning = {"", *all_keys(verb.cls)}, f"{verb.cls.__module__}.{verb.cls.__qualname__}"
    flags = [f"  {flag:17}{what}" for key, (flag, what) in FLAGS.items() if key in keys]
    lines = (
        f"usage: expertree {verb.name} [KEY=VALUE ...] [flags]",
        "",
        verb.text.strip(),
        "",
        *flags,
        "  --config-dir FOLDER --config-name NAME",
        f"  {'':17}settings from a YAML file of yours, FOLDER/NAME.yaml",
        "",
        f"Settings (what they mean: {meaning}) are, with what was given:",
        "",
    )
    return "\n".join((*lines, ""))
