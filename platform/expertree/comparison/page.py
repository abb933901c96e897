"""Renders a comparison as one HTML page that needs no other file, and all files of a comparison."""

import dataclasses

from expertree.comparison.files import (
    COST_HEADS,
    as_csv,
    as_json,
    as_latex,
    as_markdown,
    best_of,
    cost_cells,
    information_of,
    words,
)
from expertree.comparison.matching import UNITS
from expertree.comparison.record import INPUT, Comparison, Paired, Table
from expertree.evaluation.paired import Interval
from expertree.evaluation.public_sets import AVERAGES, grids
from expertree.report import formatting
from expertree.report.html import environment, pairs, source
from expertree.report.schema import DISTRIBUTIONS
from expertree.report.sets_page import best_of as best_of_sets
from expertree.report.sets_page import tables_of


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tab:
    """A table with the words on its tab."""

    title: str
    table: Table
    best: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """An interval on a line, all in percent of its width."""

    left: float
    width: float
    mean: float


def render_comparison(record: Comparison) -> dict[str, bytes]:
    """Make all files; writes nothing.

    Returns:
        Content by file name: `compare.json`, `.csv`, `.tex`, `.md` and `.html`; with public sets
        also `sets.csv` and `sets.tex`.
    """
    return {
        "compare.json": as_json(record).encode(),
        "compare.csv": as_csv(record).encode(),
        "compare.tex": as_latex(record).encode(),
        "compare.md": as_markdown(record).encode(),
        "compare.html": _html(record).encode(),
        **({} if record.sets is None else tables_of(record.sets)),
    }


def _html(record: Comparison) -> str:
    tabs = [
        Tab(
            title=f"{table.kind}, {DISTRIBUTIONS[table.distribution]}",
            table=table,
            best=best_of(table),
        )
        for table in record.tables
    ]
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            record=record,
            tabs=tabs,
            costs=[cost_cells(row) for row in record.costs],
            cost_heads=COST_HEADS,
            unit=UNITS[record.match],
            input=INPUT,
            words=words,
            bars={paired.distribution: _bars(paired) for paired in record.paired},
            places=DISTRIBUTIONS,
            information_of=information_of,
            grids=() if record.sets is None else grids(record.sets),
            best_of=best_of_sets,
            is_average=AVERAGES.__contains__,
            partial=record.sets is not None and not all(c.is_whole for c in record.sets.columns),
            pairs=pairs,
            f=formatting,
            style=source("report.css") + source("sets.css") + source("compare.css"),
            script=source("page.js"),
        )
    )


def _bars(paired: Paired) -> dict[str, Bar]:
    """Return each method's interval on a line from the least of all to the most, or zero."""
    intervals: dict[str, Interval] = {row.method: row.interval for row in paired.rows}
    low = min([0.0, *(one.low for one in intervals.values())])
    high = max([0.0, *(one.high for one in intervals.values())])
    size = max(high - low, 1e-9)

    def percent(value: float) -> float:
        return round(100.0 * value / size, 2)

    return {
        method: Bar(
            left=percent(one.low - low),
            width=percent(one.high - one.low),
            mean=percent(one.mean - low),
        )
        for method, one in intervals.items()
    }
