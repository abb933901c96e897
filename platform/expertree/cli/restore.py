"""Restore photographs, each by the expert for what is wrong with it.

    expertree restore -i holiday.jpg -o restored.jpg
    expertree restore -i photos -o restored -r --report restored/report.html
    expertree restore -i photos -o restored -r --instruction rain --confidence 2
    expertree restore -i photos -o restored -r --strength 0.4
    expertree restore -i photos -o restored -r --insist
    expertree restore -i photos -o restored --format webp --quality 90 --suffix _restored
    expertree restore --watch inbox -o restored
    expertree restore -i - -o - < dark.png > bright.png
    expertree restore -i /shared/photos -o /shared/restored -r --cluster auto

Metadata stay as they were, and so do times and permissions unless --no-preserve is given. A
photograph that no expert is predicted to make better is copied byte for byte; --insist restores it
all the same. Run it again after any interruption: what is restored stays, what is left is done, and
what somebody has changed since is left alone. Ends with 0 if all was done, 1 if some photographs
failed or folders could not be read (they are named), 2 if nothing could begin. --watch goes on with
what comes into the folder until Ctrl-C or SIGTERM, and ends with 0 after the photograph at hand.
"""

import argparse
from collections.abc import Sequence

from expertree.batch.arguments import make_parser, parse
from expertree.batch.command import in_this_process, run
from expertree.batch.running import RunTask
from expertree.batch.settings import BatchConfig

_PROGRAM = "expertree restore"


def main(arguments: Sequence[str]) -> int:
    """Read the command line, restore, print how it went and return the exit code."""
    config = parse(arguments, program=_PROGRAM, description=__doc__ or "")
    return run(config, _work_of(config))


def parser() -> argparse.ArgumentParser:
    """Return the parser of its command line."""
    return make_parser(_PROGRAM, __doc__ or "")


def _work_of(config: BatchConfig) -> RunTask:
    """Return what restores, this process or a cluster; Ray is loaded only for a cluster."""
    if config.cluster is None:
        return in_this_process
    from expertree.orchestration.restore_files import on_cluster  # noqa: PLC0415

    return on_cluster
