"""Renders a comparison as JSON, CSV, LaTeX, and Markdown for a document or a terminal."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence

from expertree.comparison.costs import CostRow
from expertree.comparison.matching import UNITS
from expertree.comparison.record import INPUT, Choices, Comparison, Paired, Row, Table, Value
from expertree.evaluation.public_sets import Column, Grid, Result, grids
from expertree.report import formatting
from expertree.report.schema import DISTRIBUTIONS
from expertree.report.tables import escaped

CSV_COLUMNS = (
    *("distribution", "kind", "method", "told", "seed", "degradation"),
    *("psnr_rgb", "ssim", "harmed"),
)

COST_HEADS = (
    *("method", "network", "networks", "parameters", "active", "beside", "multiply-adds at 512²"),
    *("ms an image", "samples", "multiply-adds of training", "core-hours", "rate"),
    *("search for the rate", "to train routers"),
)


def as_json(record: Comparison) -> str:
    """Return the whole record."""
    return json.dumps(dataclasses.asdict(record), indent=1, allow_nan=False) + "\n"


def as_csv(record: Comparison) -> str:
    """Return a line for each method, seed and degradation."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in record.tables:
        for row in table.rows:
            seeds: Sequence[int | str] = [""] if row.method == INPUT else record.seeds
            for number, seed in enumerate(seeds):
                head = (table.distribution, table.kind, row.method, row.told, seed)
                for place, column in enumerate(table.columns):
                    lists = (row.psnr, row.ssim, row.harmed)
                    writer.writerow((*head, column, *(one[place].values[number] for one in lists)))
    return stream.getvalue()


def as_latex(record: Comparison) -> str:
    """Return the tables as LaTeX that needs the booktabs package."""
    parts = [_latex(table, record) for table in record.tables]
    return "\n".join(("% Needs \\usepackage{booktabs}.", *parts))


def as_markdown(record: Comparison) -> str:
    """Return the tables with the command, the commit and the date that they were made with."""
    seeds = "seed" if len(record.seeds) == 1 else "seeds"
    made = (
        f"{record.created[:10]}, commit `{record.commit}`, {record.machine}; as many "
        f"{UNITS[record.match]} for every method, {seeds} {', '.join(map(str, record.seeds))}."
    )
    parts = [
        f"    {record.command}",
        made,
        _markdown(COST_HEADS, [cost_cells(row) for row in record.costs]),
    ]
    for table in record.tables:
        columns = ("method", *map(formatting.name, table.columns), "SSIM", "harmed")
        rows = [result_cells(table, row) for row in table.rows]
        parts += [f"**{title_of(table)}**", _markdown(columns, rows)]
    parts += [_paired(paired) for paired in record.paired]
    if record.sets is not None:
        parts += [_of_sets(grid) for grid in grids(record.sets)]
    parts += [_choices(choices) for choices in record.choices]
    parts.append("\n".join(f"* {note}" for note in record.notes))
    return "\n\n".join(parts) + "\n"


def title_of(table: Table) -> str:
    """Return the heading of a table."""
    place = DISTRIBUTIONS[table.distribution]
    return f"{table.kind.capitalize()} degradations, {place}: PSNR in dB, mean (range) over seeds"


def cost_cells(row: CostRow) -> tuple[str, ...]:
    """Return a row of the table of costs, in the order of `COST_HEADS`."""
    least, most = row.least_multiply_adds_512, row.multiply_adds_512
    cost = formatting.count(most)
    if least != most:
        cost = f"{formatting.count(least)} to {cost}"
    searched = "none"
    if row.searched_samples:
        hours = formatting.number(row.searched_core_hours, 3)
        searched = f"{formatting.grouped(row.searched_samples)} samples, {hours} h"
    routers = "none"
    if row.routers_samples:
        work = formatting.count(row.routers_multiply_adds)
        routers = f"{formatting.grouped(row.routers_samples)} patches restored, {work}"
    return (
        method_cell(row.method, told=row.told),
        row.network,
        str(row.num_networks),
        formatting.count(row.num_parameters),
        formatting.count(row.num_active_parameters),
        formatting.count(row.num_beside),
        cost,
        formatting.number(row.latency_ms, 0),
        formatting.grouped(row.num_samples),
        formatting.count(row.training_multiply_adds),
        formatting.number(row.core_hours, 3),
        f"{row.rate:g}",
        searched,
        routers,
    )


def result_cells(table: Table, row: Row) -> tuple[str, ...]:
    """Return a row of results: PSNR by column, then SSIM and the share harmed on average."""
    best = best_of(table)
    cells = []
    for place, value in enumerate(row.psnr):
        text = words(value) if place == len(row.psnr) - 1 else formatting.number(value.mean)
        is_best = row.method != INPUT and _shown(value) == best[place]
        cells.append(f"**{text}**" if is_best else text)
    harmed = "" if row.method == INPUT else formatting.percent(row.harmed[-1].mean)
    ssim = formatting.number(row.ssim[-1].mean, 4)
    return (method_cell(row.method, told=row.told), *cells, ssim, harmed)


def best_of(table: Table) -> tuple[float | None, ...]:
    """Return the best PSNR of each column among methods that are not told, as it is shown."""
    rows = [row for row in table.rows if row.method != INPUT and not row.told]
    return tuple(
        max((_shown(row.psnr[place]) for row in rows), default=None)
        for place in range(len(table.columns))
    )


def method_cell(method: str, *, told: bool) -> str:
    """Return a method's name, with a mark if it is told what is wrong."""
    return f"{method} †" if told else method


def words(value: Value) -> str:
    """Return a mean and its range over seeds; without a range for one seed."""
    mean = formatting.number(value.mean)
    if len(value.values) == 1:
        return mean
    return f"{mean} ({formatting.number(value.low)} to {formatting.number(value.high)})"


def _shown(value: Value) -> float:
    return round(value.mean, 2)


def _paired(paired: Paired) -> str:
    rows = [
        (
            one.method,
            formatting.gain(one.interval.mean),
            f"{formatting.gain(one.interval.low)} to {formatting.gain(one.interval.high)}",
        )
        for one in paired.rows
    ]
    place = DISTRIBUTIONS[paired.distribution]
    title = f"**PSNR less that of {paired.best}, image by image, {place}**"
    return f"{title}\n\n" + _markdown(("method", "dB", "95 % interval"), rows)


def _of_sets(grid: Grid) -> str:
    """Return a table of public sets without what others published, which the page shows."""
    rows = [
        (row.method, *(_psnr_of(row.results.get(column.key)) for column in grid.columns))
        for row in grid.rows
        if row.kind != "published"
    ]
    columns = [_of_part(column) for column in grid.columns]
    return f"**{grid.title}, public sets: PSNR in dB**\n\n{_markdown(('method', *columns), rows)}"


def _of_part(column: Column) -> str:
    """Return a column's title, and what it has if that is not all."""
    if column.is_whole:
        return column.title
    number = f"{column.num_images} of its images" if column.num_images else "of parts of sets"
    return f"{column.title}, {number}"


def _psnr_of(result: Result | None) -> str:
    return "" if result is None else formatting.number(result.psnr)


def _choices(choices: Choices) -> str:
    rows = [
        (formatting.name(name), *(formatting.percent(share) for share in shares))
        for name, shares in zip(choices.degradations, choices.shares, strict=True)
    ]
    columns = ("degradation", *choices.experts)
    title = f"**Where {choices.method} sends images, choice {choices.place}**"
    return f"{title}\n\n{_markdown(columns, rows)}\n\n{information_of(choices)}"


def information_of(choices: Choices) -> str:
    """Return in a sentence how much a method's choices have to do with degradations."""
    bits = ", ".join(words(value) for value in choices.information)
    what = "Its choice tells" if len(choices.information) == 1 else "Its choices tell, in order,"
    return (
        f"{what} {bits} of {formatting.number(choices.most)} bits of the degradation; chance "
        f"alone shows about {formatting.number(choices.chance)} at choice {choices.place}."
    )


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _caption(table: Table, record: Comparison) -> str:
    what = f"{table.kind.capitalize()} degradations, {DISTRIBUTIONS[table.distribution]}"
    return f"{what}: PSNR (dB) / SSIM, means over {len(record.seeds)} seeds."


def _latex(table: Table, record: Comparison) -> str:
    columns = ("method", *map(formatting.name, table.columns), "harmed")
    lines = [
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escaped(_caption(table, record))}}}",
        f"  \\begin{{tabular}}{{l{'c' * len(table.columns)}r}}",
        r"    \toprule",
        f"    {' & '.join(escaped(column) for column in columns)} \\\\",
        r"    \midrule",
    ]
    best = best_of(table)
    for row in table.rows:
        cells = []
        for place, (psnr, ssim) in enumerate(zip(row.psnr, row.ssim, strict=True)):
            text = formatting.number(psnr.mean)
            if row.method != INPUT and _shown(psnr) == best[place]:
                text = f"\\textbf{{{text}}}"
            cells.append(f"{text} / {formatting.number(ssim.mean, 3)}")
        harmed = "--" if row.method == INPUT else formatting.percent(row.harmed[-1].mean)
        name = escaped(row.method) + (r"$^\dagger$" if row.told else "")
        lines.append(f"    {' & '.join((name, *cells, escaped(harmed)))} \\\\")
    return "\n".join((*lines, r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""))
