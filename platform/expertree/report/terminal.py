"""Renders the results of a run for the terminal."""

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from expertree.report import formatting
from expertree.report.schema import DISTRIBUTIONS, Run
from expertree.report.tables import Grid, Line, clean_sentence, grid, over_words

WIDTH_FOR_SAMPLES = 92
"""Width in characters from which the samples seen in training are shown too."""

WIDTH_FOR_COST = 112
"""Width in characters from which parameters and multiply-adds are shown too."""


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
    parts += [*_headline(run), *_clean(run)]
    return text_of(console, parts)


def console_of(*, width: int | None, colour: bool) -> Console:
    """Return a console that writes into memory; see `text_of`.

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
    """Return an empty table with a title, a line below the headings and none elsewhere."""
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
    """Return what a console would show of these parts, without a newline at the end."""
    with console.capture() as capture:
        console.print(Group(*parts), crop=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")


def _table(table: Grid, width: int) -> RichTable:
    num_given = 3 if width >= WIDTH_FOR_COST else 1 if width >= WIDTH_FOR_SAMPLES else 0
    drawn = empty_table(f"{table.title}: PSNR (dB), mean SSIM, share harmed")
    if width < WIDTH_FOR_SAMPLES:
        drawn.padding = (0, 0, 0, 0)
    drawn.add_column("", no_wrap=True)
    for column in table.columns:
        # With a space a narrow terminal can break the heading; eighty columns hold just these.
        heading = "mean" if column == "average" else column.replace("-", " ")
        drawn.add_column(heading, justify="right")
    for column in ("SSIM", "harm", *("samples", "params", "mult-adds")[:num_given]):
        drawn.add_column(column, justify="right", no_wrap=True)
    for index, line in enumerate(table.lines):
        if line.is_bound and index and not table.lines[index - 1].is_bound:
            drawn.add_section()
        style = "dim" if line.is_bound else "bold" if line.method == "routed" else ""
        cells = (Text(c.psnr, "bold green" if c.is_best else style) for c in line.cells)
        given = (Text(text, "dim") for text in line.given[:num_given])
        drawn.add_row(Text(line.short, style), *cells, *_means(line, style), *given)
    return drawn


def _means(line: Line, style: str) -> tuple[Text, Text]:
    """Return SSIM and the share of images harmed of the last column, which is the average."""
    if not line.cells:
        return Text(), Text()
    last = line.cells[-1]
    harmed = last.harmed.replace(" ", "")
    return (
        Text(last.ssim.removeprefix("0"), style),
        Text(harmed, "red" if last.is_harmful and not line.is_bound else style),
    )


def _headline(run: Run) -> list[RenderableType]:
    summary = run.get("summary", {})
    gains, over = summary.get("gain_db", {}), summary.get("gain_over", {})
    return [
        Text(
            f"routed over {over_words(over[key])}: {formatting.gain(gains[key])} dB {place} "
            "(mean over single degradations)"
        )
        for key, place in DISTRIBUTIONS.items()
        if gains.get(key) is not None
    ]


def _clean(run: Run) -> list[RenderableType]:
    clean = run.get("clean")
    if clean is None:
        return []
    return [Text(clean_sentence(clean))]
