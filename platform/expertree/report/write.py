"""Writes the files of a report."""

import json
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.report.page import render_page
from expertree.report.schema import Run, check_run
from expertree.report.tables import tables_csv, tables_latex
from expertree.storage import Storage

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
TABLES_CSV = "tables.csv"
TABLES_LATEX = "tables.tex"


def render_report(run: Run, images: Mapping[str, bytes]) -> dict[str, bytes]:
    """Make all files of a report; writes nothing.

    Args:
        run: Record of the run; see `schema.Run`. NumPy numbers are taken as numbers, and NaN and
            infinity as not measured.
        images: PNG files by name, at least those that the run's examples name.

    Returns:
        Content by file name: `report.html`, `report.json`, `tables.csv`, `tables.tex`.

    Raises:
        ValueError: If the run contradicts itself.
    """
    plain: Run = _plain(run)
    check_run(plain, images)
    return {
        REPORT_JSON: (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode(),
        TABLES_CSV: tables_csv(plain).encode(),
        TABLES_LATEX: tables_latex(plain).encode(),
        REPORT_HTML: render_page(plain, images).encode(),
    }


def write_report(run: Run, images: Mapping[str, bytes], directory: Storage) -> None:
    """Write a report; the same arguments as `render_report`.

    Raises:
        ValueError: If the run contradicts itself.
        StorageError: If the directory cannot be written.
    """
    for name, data in render_report(run, images).items():
        directory.write_bytes(name, data)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON in, the same JSON out
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, str | bool) or value is None:
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Sequence):
        return [_plain(entry) for entry in value]
    raise ValueError(f"report: {value!r} of type {type(value).__name__} cannot stand in JSON")
