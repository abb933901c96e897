"""Print a script with which a shell completes what is typed after expertree.

    expertree completion bash > ~/.local/share/bash-completion/completions/expertree
    expertree completion zsh > "${fpath[1]}/_expertree"
    expertree completion fish > ~/.config/fish/completions/expertree.fish

It completes verbs, options with their choices, names of degradations, settings and names of
experiments. All of it stands in the script, which starts no Python: print it anew after an upgrade.
"""

import argparse
import sys
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE
from expertree.cli.shells import SCRIPTS


def main(arguments: Sequence[str]) -> int:
    """Read the command line, print the script and return the exit code."""
    given = parser().parse_args(arguments)
    # Of all verbs, which import torch and Ray: not where only help is asked for.
    from expertree.cli.words import every_verb  # noqa: PLC0415

    sys.stdout.write(SCRIPTS[given.shell](every_verb()))
    return EXIT_DONE


def parser() -> argparse.ArgumentParser:
    """Return the parser of its command line."""
    own = argparse.ArgumentParser(
        prog="expertree completion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.add_argument("shell", choices=tuple(SCRIPTS), help="the shell that the script is for")
    return own
