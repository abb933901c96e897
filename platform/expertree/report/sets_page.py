"""Renders the results on public sets as JSON, CSV, LaTeX and one HTML page without other files."""

import base64
import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from expertree.evaluation.public_sets import AVERAGES, Column, Grid, Result, Row, SetsTable, grids
from expertree.images.io import decode_u8, encode_png
from expertree.report import formatting
from expertree.report.html import environment, pairs, source
from expertree.report.tables import escaped

CSV_COLUMNS = (
    *("kind", "method", "setting", "column", "protocol", "psnr", "ssim", "note", "mark"),
    *("num_images", "is_whole", "parameters", "active_parameters", "multiply_adds_256"),
    *("training_samples", "source"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Photograph:
    """A photograph without ground truth.

    Attributes:
        name: Name in its set.
        title: Its set, for people.
        caption: What was done to it.
        both: PNG of its middle before, and below that after.
    """

    name: str
    title: str
    caption: str
    both: bytes


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SetsReport:
    """All that came of measuring a bundle on public sets.

    Attributes:
        table: Columns and rows.
        protocols: Published protocols, in a sentence each.
        origin: What is known of the model, as plain data.
        roots: Folder of each set.
        problems: For sets with parts that could not be measured, what is wrong with them.
        experts: For each part of a set the images that each expert restored.
        photographs: Photographs without ground truth.
        seconds: Seconds that all images took, each in one process.
    """

    table: SetsTable
    protocols: Mapping[str, str]
    origin: Mapping[str, Any]
    roots: Mapping[str, str]
    problems: Mapping[str, Sequence[str]]
    experts: Mapping[str, Mapping[str, int]]
    photographs: tuple[Photograph, ...]
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A photograph on the page; pictures as data URIs."""

    name: str
    caption: str
    before: str
    after: str
    width_px: int
    height_px: int


def render_sets(report: SetsReport) -> dict[str, bytes]:
    """Make all files; writes nothing.

    Returns:
        Content by file name: `sets.json`, `sets.csv`, `sets.tex`, `sets.html`.
    """
    return {
        "sets.json": _json(report).encode(),
        **tables_of(report.table),
        "sets.html": _html(report).encode(errors="backslashreplace"),  # names may be no text
    }


def tables_of(table: SetsTable) -> dict[str, bytes]:
    """Return the table as `sets.csv` and `sets.tex`, by file name."""
    return {"sets.csv": _csv(table).encode(), "sets.tex": _latex(table).encode()}


def title_in_text(column: Column) -> str:
    """Return a column's title for tables of text, which says where it is part of a set."""
    return column.title if column.is_whole else f"{column.title} (part)"


def best_of(grid: Grid, column: Column) -> float | None:
    """Return the best PSNR of a column as it is shown, to two digits; None for fewer than two."""
    found = [
        round(row.results[column.key].psnr, 2) for row in grid.rows if column.key in row.results
    ]
    return max(found) if len(found) > 1 else None


def _json(report: SetsReport) -> str:
    data = dataclasses.asdict(dataclasses.replace(report, photographs=()))
    del data["photographs"]
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _csv(table: SetsTable) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in table.rows:
        for column in table.columns:
            result = row.results.get(column.key)
            if result is not None:
                writer.writerow(_csv_line(row, column, result))
    return stream.getvalue()


def _csv_line(row: Row, column: Column, result: Result) -> tuple[object, ...]:
    return (
        *(row.kind, row.method, row.note, column.key, column.protocol, result.psnr, result.ssim),
        *(result.note, result.mark, column.num_images, column.is_whole, row.parameters),
        *(row.active_parameters, row.multiply_adds, row.training_samples, row.source),
    )


def _latex(table: SetsTable) -> str:
    parts = [_latex_table(grid) for grid in grids(table)]
    notes = [f"% {mark}: {text}" for mark, text in table.marks.items()]
    return "\n".join(("% Needs \\usepackage{booktabs}.", *notes, *parts))


def _latex_table(grid: Grid) -> str:
    head = ("method", "parameters", *(title_in_text(column) for column in grid.columns))
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escaped(grid.title)}: PSNR (dB) / SSIM.}}",
        f"  \\begin{{tabular}}{{lr{'c' * len(grid.columns)}}}",
        r"    \toprule",
        f"    {' & '.join(escaped(word) for word in head)} \\\\",
        r"    \midrule",
    ]
    for index, row in enumerate(grid.rows):
        if row.kind == "published" and index and grid.rows[index - 1].kind != "published":
            lines.append(r"    \midrule")
        cells = [_latex_cell(grid, row, column) for column in grid.columns]
        count = formatting.count(row.parameters).replace(formatting.NOT_MEASURED, "--")
        lines.append(f"    {' & '.join((escaped(row.method), count, *cells))} \\\\")
    return "\n".join((*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""))


def _latex_cell(grid: Grid, row: Row, column: Column) -> str:
    result = row.results.get(column.key)
    if result is None:
        return "--"
    psnr = f"{result.psnr:.2f}"
    if round(result.psnr, 2) == best_of(grid, column):
        psnr = f"\\textbf{{{psnr}}}"
    mark = f"$^{{{result.mark}}}$" if result.mark else ""
    ssim = "" if result.ssim is None else f" / {result.ssim:.3f}"
    return f"{psnr}{mark}{ssim}"


def _html(report: SetsReport) -> str:
    tables = grids(report.table)
    ours = next((row for row in report.table.rows if row.kind == "routed"), None)
    return (
        environment()
        .get_template("sets.html.j2")
        .render(
            report=report,
            table=report.table,
            grids=tables,
            ours=ours,
            num_sets=len({key.partition("/")[0] for key in report.experts}),
            averages=[key for key in AVERAGES if ours is not None and key in ours.results],
            best_of_ours={key: _best_of_ours(report.table, key) for key in AVERAGES},
            is_average=AVERAGES.__contains__,
            best_of=best_of,
            partial=[column for column in report.table.columns if not column.is_whole],
            pictures=[_picture(photograph) for photograph in report.photographs],
            pairs=pairs,
            f=formatting,
            style=source("report.css") + source("sets.css"),
            script=source("page.js"),
        )
    )


def _best_of_ours(table: SetsTable, column: str) -> float | None:
    """Return the best PSNR of a column among the input, the classical methods and the bundle."""
    found = [
        row.results[column].psnr
        for row in table.rows
        if row.kind not in ("published", "told") and column in row.results
    ]
    return max(found, default=None)


def _picture(photograph: Photograph) -> Picture:
    before, after = np.split(decode_u8(photograph.both), 2)
    uris = [
        "data:image/png;base64," + base64.b64encode(encode_png(half, level=6)).decode()
        for half in (before, after)
    ]
    return Picture(
        name=photograph.name,
        caption=f"{photograph.title}, {photograph.caption}",
        before=uris[0],
        after=uris[1],
        width_px=before.shape[1],
        height_px=before.shape[0],
    )
