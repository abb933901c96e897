"""Renders the results tables as CSV, as LaTeX, and as cells for a page or a terminal."""

import csv
import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

from expertree.evaluation import described
from expertree.report import formatting
from expertree.report.schema import DISTRIBUTIONS, CleanImages, Row, Run, Table

CSV_COLUMNS = (
    "distribution",
    "kind",
    "method",
    "degradation",
    "psnr_rgb",
    "psnr_y",
    "ssim",
    "harmed",
    "num_samples",
    "num_parameters",
    "multiply_adds_512",
)
MOST_HARMED = 0.05
"""A share of harmed images above this is marked."""

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
    """The result of one method on one degradation, in words.

    Attributes:
        psnr: PSNR over RGB in dB.
        ssim: SSIM.
        harmed: Share of images made worse than the input; empty for the input itself.
        is_harmful: Whether that share is more than `MOST_HARMED`.
        is_best: Whether its PSNR is the column's best among methods, limits left out.
    """

    psnr: str
    ssim: str
    harmed: str
    is_harmful: bool
    is_best: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One row of a table, in words.

    Attributes:
        method: Its name in the data.
        name: Its name on the page.
        short: Its name where there is little room.
        note: What the method is.
        is_bound: Whether it chooses with the clean image at hand.
        cells: One for each column of the table.
        quartiles: PSNR by quarter of the images, the worst inputs first.
        given: Samples seen in training, parameters, multiply-adds at 512 x 512.
    """

    method: str
    name: str
    short: str
    note: str
    is_bound: bool
    cells: tuple[Cell, ...]
    quartiles: tuple[str, ...]
    given: tuple[str, str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """One table, in words; `quartiles` are the headings of the quarters."""

    key: str
    title: str
    columns: tuple[str, ...]
    quartiles: tuple[str, ...]
    lines: tuple[Line, ...]


def grid(table: Table) -> Grid:
    """Turn a table of numbers into words, methods first and limits last."""
    columns = table.get("columns", ())
    rows = sorted(table.get("rows", ()), key=_is_bound)
    best = [_best_of_column(rows, column) for column in range(len(columns))]
    distribution, kind = table.get("distribution", ""), table.get("kind", "")
    place = DISTRIBUTIONS.get(distribution, distribution)
    return Grid(
        key=f"{kind}-{distribution}",
        title=f"{kind.capitalize()} degradations, {place}" if kind else place,
        columns=tuple(formatting.name(column) for column in columns),
        quartiles=_quartile_headings(table.get("quartile_bounds_db", ())),
        lines=tuple(_line(row, best) for row in rows),
    )


def over_words(method: str) -> str:
    """Return the name of what a gain is measured over, as it stands in a sentence."""
    return "the input" if method == "input" else described(method).name


def clean_sentence(clean: CleanImages) -> str:
    """Return a sentence that says what becomes of clean images."""
    said = (
        f"Of {clean['num']} clean images {formatting.percent(clean['left_as_is'])} are left as "
        "they are"
    )
    if not formatting.measured(clean["least_psnr_db"]):
        return f"{said}."
    least, mean = (formatting.number(clean[k]) for k in ("least_psnr_db", "mean_changed_db"))
    return f"{said}; the others come out at {mean} dB against the input, and at {least} at least."


def tables_csv(run: Run) -> str:
    """Return all tables of a run as one CSV: a line for each method and degradation."""
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
                        *(_value(row, m, column) for m in ("psnr_rgb", "psnr_y", "ssim", "harmed")),
                        row.get("num_samples"),
                        row.get("num_parameters"),
                        row.get("multiply_adds_512"),
                    )
                )
    return stream.getvalue()


def tables_latex(run: Run) -> str:
    """Return all tables of a run as LaTeX that needs the booktabs package."""
    parts = [_latex(grid(table)) for table in run.get("tables", ())]
    return "% Needs \\usepackage{booktabs}.\n" + "\n".join(parts)


def escaped(text: str) -> str:
    """Return text as LaTeX that shows it."""
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text)


def _latex(table: Grid) -> str:
    columns = ("method", *table.columns, "harmed", "samples", "parameters", "multiply-adds")
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escaped(table.title)}: PSNR (dB) / SSIM.}}",
        f"  \\begin{{tabular}}{{l{'c' * len(table.columns)}rrrr}}",
        r"    \toprule",
        f"    {' & '.join(escaped(column) for column in columns)} \\\\",
        r"    \midrule",
    ]
    for index, line in enumerate(table.lines):
        if line.is_bound and index and not table.lines[index - 1].is_bound:
            lines.append(r"    \midrule")
        given = (text.replace(formatting.NOT_MEASURED, "--") for text in line.given)
        harmed = line.cells[-1].harmed if line.cells else ""
        harmed = harmed.replace(formatting.NOT_MEASURED, "--") or "--"
        cells = (escaped(line.short), *map(_latex_cell, line.cells), escaped(harmed), *given)
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
    words, is_bound = described(method), _is_bound(row)
    values = [_value(row, "psnr_rgb", column) for column in range(len(best))]
    cells = tuple(
        Cell(
            psnr=formatting.number(value),
            ssim=formatting.number(_value(row, "ssim", column), 4),
            harmed="" if method == "input" else formatting.percent(_value(row, "harmed", column)),
            is_harmful=(_value(row, "harmed", column) or 0.0) > MOST_HARMED,
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
        name=words.name,
        short=words.short,
        note=words.note,
        is_bound=is_bound,
        cells=cells,
        quartiles=tuple(formatting.number(value) for value in row.get("quartiles_db", ())),
        given=cast("tuple[str, str, str]", given),
    )


def _is_bound(row: Row) -> bool:
    return described(row.get("method", "")).is_bound


def _quartile_headings(bounds_db: Sequence[float]) -> tuple[str, ...]:
    """Return headings such as `below 14.2`, `14.2 to 18.0`, `above 22.1`; none without bounds."""
    if not bounds_db:
        return ()
    bounds = [formatting.number(bound, 1) for bound in bounds_db]
    between = (f"{low} to {high}" for low, high in itertools.pairwise(bounds))
    return (f"below {bounds[0]}", *between, f"above {bounds[-1]}")


def _best_of_column(rows: Sequence[Row], column: int) -> float | None:
    values = [_value(row, "psnr_rgb", column) for row in rows if not _is_bound(row)]
    found = [value for value in values if formatting.measured(value)]
    return max(found) if len(found) > 1 else None


def _value(row: Row, metric: str, column: int) -> float | None:
    values = cast("Mapping[str, Any]", row).get(metric)
    return None if values is None else values[column]
