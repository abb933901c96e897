"""The results of a run for the terminal."""

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from expertree.report import formatting
from expertree.report.schema import DISTRIBUTIONS, Run
from expertree.report.tables import Cell, Grid, grid

WIDTH_FOR_COST = 105
"""Characters from which on parameters and multiply-adds stand beside the samples."""

WIDTH_FOR_ONE_LINE = 162
"""Characters from which on PSNR and SSIM of seven degradations fit on one line."""


def results_table(run: Run, *, width: int | None = None, colour: bool = False) -> str:
    """Draw a run's tables and its headline.

    Args:
        run: The run.
        width: Characters to a line; the terminal's own by default.
        colour: Whether to mark the best with terminal codes.

    Returns:
        Lines of text without a newline at the end; empty if nothing was measured.
    """
    console = console_of(width=width, colour=colour)
    parts: list[RenderableType] = []
    for table in run.get("tables", ()):
        parts += [_table(grid(table), console.width), ""]
    parts += _headline(run)
    return text_of(console, parts)


def console_of(*, width: int | None, colour: bool) -> Console:
    """A console that nobody sees; see `text_of`.

    Args:
        width: Characters to a line; the terminal's own by default.
        colour: Whether terminal codes may be used.
    """
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
    )


def empty_table(title: str) -> RichTable:
    """A table under its title, a line below the headings and none elsewhere."""
    return RichTable(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )


def text_of(console: Console, parts: Sequence[RenderableType]) -> str:
    """What a console would show of these parts, without a newline at the end."""
    with console.capture() as capture:
        console.print(Group(*parts), crop=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")


def _table(table: Grid, width: int) -> RichTable:
    num_given = 3 if width >= WIDTH_FOR_COST else 1
    separator = " / " if width >= WIDTH_FOR_ONE_LINE else "\n"
    drawn = empty_table(f"{table.title}: PSNR (dB) / SSIM")
    drawn.add_column("", no_wrap=True)
    for column in table.columns:
        # With a space a narrow terminal can break the heading; eighty columns hold just these.
        heading = "mean" if column == "average" else column.replace("-", " ")
        drawn.add_column(heading, justify="right")
    for column in ("samples", "params", "mult-adds")[:num_given]:
        drawn.add_column(column, justify="right", style="dim", no_wrap=True)
    for index, line in enumerate(table.lines):
        if line.is_bound and index and not table.lines[index - 1].is_bound:
            drawn.add_section()
        style = "dim" if line.is_bound else "bold" if line.method == "routed" else ""
        cells = (_cell(cell, separator, style) for cell in line.cells)
        drawn.add_row(Text(line.method, style), *cells, *line.given[:num_given])
    return drawn


def _cell(cell: Cell, separator: str, style: str) -> Text:
    ssim = cell.ssim.removeprefix("0")
    return Text(f"{cell.psnr}{separator}{ssim}", "bold green" if cell.is_best else style)


def _headline(run: Run) -> list[RenderableType]:
    gains = run.get("summary", {}).get("gain_db", {})
    return [
        Text(
            f"routed over one network: {formatting.gain(gains[key])} dB {place} "
            "(mean over single degradations)"
        )
        for key, place in DISTRIBUTIONS.items()
        if gains.get(key) is not None
    ]
