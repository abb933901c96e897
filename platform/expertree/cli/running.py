"""Running a verb that has settings: its help, its errors as one sentence, and its exit code."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from expertree.cli.codes import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from expertree.cli.composing import compose
from expertree.config import all_keys
from expertree.errors import ConfigError, ExpertreeError

T = TypeVar("T")

_HELP = frozenset({"-h", "--help"})
_FLAGS = {
    "dry_run": ("--dry-run", "say what would be done, and start nothing"),
    "search.budget_hours": ("--budget HOURS", "of lanes, for training in all"),
    "sets": ("--sets FOLDER", "measure every known set below a folder"),
    "": ("--cfg job", "print the settings as they would be, and end"),
}
"""Flags and their help texts, by the key that a verb's settings must have for them."""


def run_verb(
    arguments: Sequence[str],
    *,
    verb: str,
    text: str,
    cls: type[T],
    run: Callable[[T], int],
    config_name: str | None = None,
) -> int:
    """Compose a verb's settings and run it with them, or print its help.

    Args:
        arguments: Arguments of the command line after the verb.
        verb: Name of the verb.
        text: What it does, with examples: the docstring of its module.
        cls: The dataclass of its settings.
        run: Function that does the work and returns the exit code.
        config_name: Name of its YAML file, if it differs from the verb's.

    Returns:
        The exit code. An error of this package becomes a sentence on standard error and the code 2
        for wrong usage, 1 for a failure. All others are raised.
    """
    given = list(arguments)
    try:
        if not _HELP.isdisjoint(given):
            sys.stdout.write(_help_text(verb, text, cls))
            given = [*(argument for argument in given if argument not in _HELP), "--cfg", "job"]
        config = compose(cls, given, verb=verb, config_name=config_name or verb)
        return EXIT_DONE if config is None else run(config)
    except ExpertreeError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED


def _help_text(verb: str, text: str, cls: type) -> str:
    keys = {"", *all_keys(cls)}
    flags = [f"  {flag:17}{what}" for key, (flag, what) in _FLAGS.items() if key in keys]
    lines = (
        f"usage: expertree {verb} [KEY=VALUE ...] [flags]",
        "",
        text.strip(),
        "",
        *flags,
        "  --config-dir FOLDER --config-name NAME",
        f"  {'':17}settings from a YAML file of yours, FOLDER/NAME.yaml",
        "",
        f"Settings (what they mean: {cls.__module__}.{cls.__qualname__}) are, with what was given:",
        "",
    )
    return "\n".join((*lines, ""))
