"""The program `expertree`: lists its verbs, and starts the one that was asked for."""

import difflib
import importlib
import os
import select
import sys
from collections.abc import Callable, Sequence
from typing import cast

from expertree import __version__
from expertree.cli.codes import EXIT_DONE, EXIT_FAILED, EXIT_USAGE

VERBS = {
    "build": "Build a tree of restoration experts from clean photographs, and report on it.",
    "search": "Search over trees, and never train the same expert twice.",
    "status": "Say how a build or a search stands, from anywhere, by the files that it writes.",
    "restore": "Restore photographs, each by the expert for what is wrong with it.",
    "serve": "Serve a bundle over HTTP on this machine, or on a cluster that is running.",
    "evaluate": "Measure a bundle on data sets, each under its protocol: one, or all in a folder.",
    "bench": "Run one benchmark; its last line is one JSON object.",
    "compare": "Compare methods at equal cost: trees, one network, networks of other papers.",
    "study": "Run one study; its tables are printed, and written as Markdown and JSON.",
    "export": "Write a bundle's experts as files that other tools read, or all of it at half size.",
    "dashboard": "Make the dashboard of searches at Weights & Biases.",
    "completion": "Print a script with which a shell completes what is typed after expertree.",
}
"""The verbs, and the first line of each one's module in this package."""

_HELP = {"-h", "--help", "help"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb that a command line begins with.

    Args:
        arguments: Arguments without the program's name; those of this process by default.

    Returns:
        The exit code: 0 if all was done, 1 for a failure, 2 for wrong usage.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        if _is_read():
            raise
        # As behind `| head`. Python flushes once more as it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return code


def _run(given: Sequence[str]) -> int:
    if not given:
        sys.stderr.write(help_text())
        return EXIT_USAGE
    verb, *rest = given
    if verb in _HELP:
        sys.stdout.write(help_text())
        return EXIT_DONE
    if verb == "--version":
        sys.stdout.write(f"expertree {__version__}\n")
        return EXIT_DONE
    if verb not in VERBS:
        sys.stderr.write(f"error: {_unknown(verb)}\n")
        return EXIT_USAGE
    # A verb imports torch and Ray, for seconds: only the one that runs.
    module = importlib.import_module(f"expertree.cli.{verb}")
    return cast("Callable[[Sequence[str]], int]", module.main)(rest)


def _is_read() -> bool:
    """Return whether somebody still reads what is printed."""
    waiting = select.poll()
    waiting.register(sys.stdout.fileno(), 0)
    return not any(event & select.POLLERR for _, event in waiting.poll(0))


def help_text() -> str:
    """Return what `expertree --help` prints."""
    width = max(map(len, VERBS))
    lines = (f"  {verb:{width}}  {line}" for verb, line in VERBS.items())
    return "\n".join(
        (
            "usage: expertree VERB ...",
            "",
            "A tree of image-restoration experts: trained on Ray, served as one routed mixture.",
            "",
            *lines,
            "",
            "`expertree VERB --help` says what a verb takes.",
            "",
        )
    )


def _unknown(verb: str) -> str:
    nearest = difflib.get_close_matches(verb.lower(), VERBS, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"there are {', '.join(VERBS)}"
    return f"'{verb}' is no verb of expertree; {hint}"
