"""Renders what a search found for the terminal."""

from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from expertree.report import formatting
from expertree.report.terminal import console_of, empty_table, text_of
from expertree.search import words
from expertree.search.record import Search

MOST_LINES = 12
"""Most trials on the front that are listed; the page has all."""


def search_summary(record: Search, *, width: int | None = None, colour: bool = False) -> str:
    """Say what a search found.

    Args:
        record: The search.
        width: Characters to a line; the terminal's own by default.
        colour: Whether to mark the best with terminal codes.

    Returns:
        Lines of text without a newline at the end.
    """
    parts: list[RenderableType] = []
    if record["pareto"]:
        parts += [_front(record), ""]
    parts += [Text(line) for line in _lines(record)]
    if record["best_command"]:
        # To be copied, so on one line whatever the width.
        command = f"build    {record['best_command']}"
        parts.append(Text(command, no_wrap=True, overflow="ignore"))
    return text_of(console_of(width=width, colour=colour), parts)


def _front(record: Search) -> RichTable:
    trials = words.trials_by_number(record)
    front = [(trial, o) for n in record["pareto"] if (o := (trial := trials[n])["objectives"])]
    front.sort(key=lambda pair: pair[1]["gpu_hours"])
    best = words.best_trial(record)
    drawn = empty_table("Trees that no other one beats in everything")
    drawn.add_column("trial", justify="right", no_wrap=True)
    drawn.add_column("tree", no_wrap=True)
    for heading in ("experts", "PSNR in", "PSNR out", f"{record['unit']}-hours"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    chosen = [key for key in record["parameters"] if not key.startswith("tree.")]
    if chosen:
        drawn.add_column("chosen")
    for trial, objectives in front[:MOST_LINES]:
        is_best = best is not None and trial["number"] == best["number"]
        values = [
            f"{words.parameter_name(key)} {words.scalar(value)}"
            for key in chosen
            if (value := trial["parameters"].get(key)) is not None
        ]
        drawn.add_row(
            f"#{trial['number']}",
            trial["shape"],
            str(len(trial["experts"])),
            formatting.number(objectives["psnr_in"]),
            formatting.number(objectives["psnr_out"]),
            f"{objectives['gpu_hours']:.3g}",
            *([", ".join(values)] if chosen else []),
            style="bold green" if is_best else "",
        )
    return drawn


def _lines(record: Search) -> list[str]:
    cost = record["cost"]
    counts = ", ".join(f"{n} {words}" for words, n in words.status_counts(record))
    lines = [f"trials   {len(record['trials'])} of {record['num_trials']}: {counts or 'none yet'}"]
    more = words.times_fewer(record)
    if more is not None:
        times = f"{formatting.number(more, 1)} times as many" if more > 1.0 else "nothing in common"
        lines.append(
            f"experts  {cost['shared_trainings']} trained; each tree alone would have trained "
            f"{cost['naive_trainings']} ({times})"
        )
        lines.append(
            f"hours    {words.hours(cost['shared_hours'])} of a {record['unit']} spent, "
            f"{words.hours(cost['naive_hours'])} if nothing were shared"
        )
    if cost["duplicates"]:
        lines.append(f"twice    {cost['duplicates']} pieces of experts were trained twice")
    lines += [
        f"failed   #{trial['number']} {trial['shape']}: {trial['reason']}"
        for trial in record["trials"]
        if trial["status"] == "failed"
    ]
    strong = [
        f"{words.parameter_name(one['parameter'])} "
        f"({formatting.percent(one['share'])} of PSNR {one['objective'][5:]}, {one['trust']})"
        for one in record["importance"]
        if one["objective"].startswith("psnr") and one["trust"] != "none"
    ]
    if record["importance"]:
        lines.append(f"matters  {'; '.join(strong) or 'nothing clearly, with so few trials'}")
    return lines
