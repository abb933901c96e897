"""Tell how a batch went: on standard output, and on a page if one is wanted."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from expertree.batch.manifest import PhotoRecord
from expertree.batch.page import write_page
from expertree.batch.settings import BatchConfig
from expertree.batch.summary import Summary, summary_json, summary_text
from expertree.batch.view import printable


def tell_summary(
    config: BatchConfig,
    summary: Summary,
    records: Sequence[PhotoRecord],
    source: Path,
    target: Path,
) -> bool:
    """Print a batch's summary, and write its page.

    Args:
        config: Settings of the batch.
        summary: Its summary.
        records: Records of its photographs, of this run and of earlier ones.
        source: The folder of the photographs.
        target: The folder of the restored ones.

    Returns:
        Whether nothing failed, the page included.
    """
    say((summary_json if config.as_json else summary_text)(summary))
    if config.report is not None:
        everything = sorted(records, key=lambda record: record.name)
        try:
            write_page(Path(config.report), summary, everything, source, target)
        except OSError as error:
            sys.stderr.write(printable(f"{config.report} cannot be written: {error.strerror}\n"))
            return False
    return not summary.failures


def say(text: str) -> None:
    """Write to standard output, whose reader may be gone."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(printable(text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # nor may Python fail when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
