"""Writes the files of a search's report."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from expertree.search.page import render_search_page
from expertree.search.record import Search
from expertree.storage import Storage

SEARCH_HTML = "search.html"
TRIALS_CSV = "trials.csv"


def render_search(record: Search) -> dict[str, bytes]:
    """Make the files that people read of a search; writes nothing.

    Args:
        record: The search, running or ended; `search.json` is this.

    Returns:
        Content by file name: `search.html`, `trials.csv`.
    """
    return {
        TRIALS_CSV: trials_csv(record).encode(),
        SEARCH_HTML: render_search_page(record).encode(),
    }


def write_search(record: Search, directory: Storage) -> None:
    """Write a search's report; see `render_search`.

    Raises:
        StorageError: If the directory cannot be written.
    """
    for name, data in render_search(record).items():
        directory.write_bytes(name, data)


def trials_csv(record: Search) -> str:
    """Return CSV with a line for each trial: its parameters, what it reached, how it ended."""
    keys = sorted({key for trial in record["trials"] for key in trial["parameters"]})
    results = ("psnr_in", "psnr_out", "gpu_hours")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ("trial", "shape", *keys, "status", "rungs", *results, "trained_hours", "front", "reason")
    )
    for trial in record["trials"]:
        objectives: Mapping[str, Any] = trial["objectives"] or {}
        writer.writerow(
            (
                trial["number"],
                trial["shape"],
                *(trial["parameters"].get(key) for key in keys),
                trial["status"],
                len(trial["reached"]),
                *(objectives.get(key) for key in results),
                trial["trained_hours"],
                int(trial["number"] in record["pareto"]),
                trial["reason"],
            )
        )
    return stream.getvalue()
