"""Say how a build or a search stands, from anywhere, by the files that it writes.

    expertree status runs/mine
    expertree status s3://bucket/first --json
    watch -n 10 expertree status runs/mine

Which stages are done, which experts are trained on which lanes and how fast, about how long it will
take, whether the run lives, what went wrong, and where the results are. Neither Ray nor the cluster
is asked: OUTPUT is the run's `output`, a folder or a storage URI. Ends with 0 if there is a run,
whatever its state, 1 if the storage cannot be read, 2 if there is none.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from expertree.cli.codes import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from expertree.errors import ArtefactError, ExpertreeError
from expertree.status import read_status, status_json, status_text
from expertree.storage import Storage


def main(arguments: Sequence[str]) -> int:
    """Read the command line, print how the run stands and return the exit code."""
    given = parser().parse_args(arguments)
    try:
        status = read_status(Storage.open(given.output))
    except ExpertreeError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE if isinstance(error, ArtefactError) else EXIT_FAILED
    if given.json:
        sys.stdout.write(json.dumps(status_json(status)) + "\n")
    else:
        sys.stdout.write(status_text(status) + "\n")
    return EXIT_DONE


def parser() -> argparse.ArgumentParser:
    """Return the parser of its command line."""
    own = argparse.ArgumentParser(
        prog="expertree status",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.add_argument("output", metavar="OUTPUT", help="output folder or URI of the run")
    own.add_argument("--json", action="store_true", help="print one JSON object")
    return own
