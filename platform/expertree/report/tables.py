"""The results tables, written once as data, as CSV, LaTeX and cells for a page or a terminal."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any, cast

from expertree.report import formatting
from expertree.report.schema import BOUNDS, DISTRIBUTIONS, METHODS, SHOWN_NAMES, Row, Run, Table

CSV_COLUMNS = (
    "distribution",
    "kind",
    "method",
    "degradation",
    "psnr_rgb",
    "psnr_y",
    "ssim",
    "num_samples",
    "num_parameters",
    "multiply_adds_512",
)
_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One method on one degradation, in words.

    Attributes:
        psnr: PSNR over RGB in dB.
        ssim: SSIM.
        is_best: Whether its PSNR is the column's best among methods, limits left out.
    """

    psnr: str
    ssim: str
    is_best: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One row of a table, in words.

    Attributes:
        method: Its name in the data.
        name: Its name on the page.
        note: What the method is.
        is_bound: Whether it chooses with the clean image at hand.
        cells: One for each column of the table.
        given: Samples seen in training, parameters, multiply-adds at 512 x 512.
    """

    method: str
    name: str
    note: str
    is_bound: bool
    cells: tuple[Cell, ...]
    given: tuple[str, str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """One table, in words."""

    key: str
    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def grid(table: Table) -> Grid:
    """Turn a table of numbers into words, methods first and limits last."""
    columns = table.get("columns", ())
    rows = sorted(table.get("rows", ()), key=lambda row: row.get("method") in BOUNDS)
    best = [_best_of_column(rows, column) for column in range(len(columns))]
    distribution, kind = table.get("distribution", ""), table.get("kind", "")
    place = DISTRIBUTIONS.get(distribution, distribution)
    return Grid(
        key=f"{kind}-{distribution}",
        title=f"{kind.capitalize()} degradations, {place}" if kind else place,
        columns=tuple(formatting.name(column) for column in columns),
        lines=tuple(_line(row, best) for row in rows),
    )


def tables_csv(run: Run) -> str:
    """All tables of a run as one long table: a line for each method and degradation."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in run.get("tables", ()):
        for row in table.get("rows", ()):
            for column, degradation in enumerate(table.get("columns", ())):
                writer.writerow(
                    (
                        table.get("distribution"),
                        table.get("kind"),
                        row.get("method"),
                        degradation,
                        *(_value(row, m, column) for m in ("psnr_rgb", "psnr_y", "ssim")),
                        row.get("num_samples"),
                        row.get("num_parameters"),
                        row.get("multiply_adds_512"),
                    )
                )
    return stream.getvalue()


def tables_latex(run: Run) -> str:
    """All tables of a run for LaTeX with the booktabs package."""
    parts = [_latex(grid(table)) for table in run.get("tables", ())]
    return "% Needs \\usepackage{booktabs}.\n" + "\n".join(parts)


def _latex(table: Grid) -> str:
    columns = ("method", *table.columns, "samples", "parameters", "multiply-adds")
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{_escaped(table.title)}: PSNR (dB) / SSIM.}}",
        f"  \\begin{{tabular}}{{l{'c' * len(table.columns)}rrr}}",
        r"    \toprule",
        f"    {' & '.join(_escaped(column) for column in columns)} \\\\",
        r"    \midrule",
    ]
    for index, line in enumerate(table.lines):
        if line.is_bound and index and not table.lines[index - 1].is_bound:
            lines.append(r"    \midrule")
        given = (text.replace(formatting.NOT_MEASURED, "--") for text in line.given)
        cells = (_escaped(line.method), *map(_latex_cell, line.cells), *given)
        lines.append(f"    {' & '.join(cells)} \\\\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _latex_cell(cell: Cell) -> str:
    if cell.psnr == formatting.NOT_MEASURED:
        return "--"
    psnr = f"\\textbf{{{cell.psnr}}}" if cell.is_best else cell.psnr
    text = f"{psnr} / {cell.ssim.replace(formatting.NOT_MEASURED, '--')}"
    return text.replace(formatting.MINUS, "$-$")


def _line(row: Row, best: Sequence[float | None]) -> Line:
    method = row.get("method", "")
    is_bound = method in BOUNDS
    values = [_value(row, "psnr_rgb", column) for column in range(len(best))]
    cells = tuple(
        Cell(
            psnr=formatting.number(value),
            ssim=formatting.number(_value(row, "ssim", column), 4),
            is_best=not is_bound and value is not None and value == best[column],
        )
        for column, value in enumerate(values)
    )
    given = tuple(
        formatting.count(cast("Mapping[str, Any]", row).get(field))
        for field in ("num_samples", "num_parameters", "multiply_adds_512")
    )
    return Line(
        method=method,
        name=SHOWN_NAMES.get(method, method),
        note=METHODS.get(method, ""),
        is_bound=is_bound,
        cells=cells,
        given=cast("tuple[str, str, str]", given),
    )


def _best_of_column(rows: Sequence[Row], column: int) -> float | None:
    values = [_value(row, "psnr_rgb", column) for row in rows if row.get("method") not in BOUNDS]
    found = [value for value in values if formatting.measured(value)]
    return max(found) if len(found) > 1 else None


def _value(row: Row, metric: str, column: int) -> float | None:
    values = cast("Mapping[str, Any]", row).get(metric)
    return None if values is None else values[column]


def _escaped(text: str) -> str:
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text)
