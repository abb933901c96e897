"""Renders a search as one HTML page that needs no other file."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.report import formatting
from expertree.report.html import environment, plotly_compressed, script_json, source
from expertree.report.page import DEFAULT_DEGRADATIONS
from expertree.report.tree_drawing import colours_of, node_colour
from expertree.search import figures, words
from expertree.search.icicle import icicle
from expertree.search.record import Importance, Node, Search, Trial

MOST_SHARED = 6
"""Most experts that are named among those that most trials use."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A group of a small tree; `left` and `width` are percent of the tree's."""

    level: int
    left: float
    width: float
    colour: str
    title: str
    is_served: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SmallTree:
    """A small drawing of a tree: a row for each level, a box for each group."""

    num_levels: int
    boxes: tuple[Box, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """A trial as a line of the page's table, in words.

    Attributes:
        chosen: Names and values of its parameters besides the shape.
        rungs: Whether each rung of the search was reached.
        sort: Values that the table's columns are sorted by.
    """

    trial: Trial
    status: str
    chosen: tuple[tuple[str, str], ...]
    rungs: tuple[bool, ...]
    tree: SmallTree | None
    psnr_in: str
    psnr_out: str
    gpu_hours: str
    spent: str
    is_front: bool
    sort: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """The importance of one parameter for an objective, in words and percent."""

    name: str
    share_percent: float
    chance_percent: float
    trust: str
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The importance of all parameters for one objective."""

    title: str
    rows: tuple[Weight, ...]


TRUST: Mapping[str, str] = {
    "clear": "clear",
    "weak": "weak",
    "none": "may be chance",
}


def render_search_page(record: Search) -> str:
    """Render the page of a search.

    Args:
        record: The search, running or ended.

    Returns:
        HTML with its styles, scripts and data; the browser is forbidden to fetch anything.
    """
    colours = colours_of(_degradations(record))
    charts = {
        "front": figures.front_figures(record),
        "rungs": figures.rung_figures(record),
    }
    lines = [_line(record, trial, colours) for trial in record["trials"]]
    by_number = {line.trial["number"]: line for line in lines}
    best = words.best_trial(record)
    template = environment().get_template("search.html.j2")
    return template.render(
        record=record,
        counts=words.status_counts(record),
        lines=lines,
        best=by_number[best["number"]] if best else None,
        front=_front(record, by_number),
        champions=_champions(record),
        failed=[line for line in lines if line.trial["status"] == "failed"],
        weights=_weights(record["importance"]),
        charts=charts,
        times_fewer=words.times_fewer(record),
        spent=figures.spent(record),
        shared=_most_shared(record),
        legend=_legend(record, colours),
        f=formatting,
        w=words,
        style=source("report.css") + source("search.css"),
        script=source("page.js") + source("search.js"),
        plotly=plotly_compressed() if any(charts.values()) else "",
        data=script_json(
            {
                "figures": {
                    figure.key: {"data": figure.data, "layout": figure.layout}
                    for found in charts.values()
                    for figure in found
                },
                "parallel": figures.parallel_data(record),
            }
        ),
    )


def small_tree(nodes: Sequence[Node], colours: Mapping[str, str]) -> SmallTree | None:
    """Return a small drawing of a tree; None if the tree was not cut yet."""
    if not nodes:
        return None
    boxes = []
    for block in icicle(nodes):
        node = block.node
        kinds = ", ".join(
            f"{formatting.name(kind)} {formatting.percent(share)}"
            for kind, share in node["dominant"]
        )
        expert = f"expert {node['expert'][:8]}" if node["expert"] else "no expert of its own"
        boxes.append(
            Box(
                level=node["level"],
                left=round(100 * block.left, 3),
                width=round(100 * (block.right - block.left), 3),
                colour=node_colour({"dominant": node["dominant"]}, colours),
                title=f"#{node['index']}: {node['num_samples']:,} samples, {kinds}; {expert}",
                is_served=node["served"],
            )
        )
    return SmallTree(num_levels=1 + max(node["level"] for node in nodes), boxes=tuple(boxes))


def _line(record: Search, trial: Trial, colours: Mapping[str, str]) -> TrialRow:
    objectives = trial["objectives"]
    found: Mapping[str, Any] = objectives or {}
    chosen = tuple(
        (words.parameter_name(key), words.scalar(trial["parameters"].get(key)))
        for key in record["parameters"]
        if not key.startswith("tree.")
    )
    order = list(words.STATUSES)
    return TrialRow(
        trial=trial,
        status=words.STATUSES[trial["status"]],
        chosen=chosen,
        rungs=tuple(n < len(trial["reached"]) for n in range(len(record["fractions"]))),
        tree=small_tree(trial["tree"], colours),
        psnr_in=formatting.number(found.get("psnr_in")),
        psnr_out=formatting.number(found.get("psnr_out")),
        gpu_hours=words.hours(found.get("gpu_hours")),
        spent=words.hours(trial["trained_hours"]) if trial["trained_hours"] else "none",
        is_front=trial["number"] in record["pareto"],
        sort={
            "number": trial["number"],
            "status": order.index(trial["status"]),
            "psnr_in": found.get("psnr_in", -1.0),
            "psnr_out": found.get("psnr_out", -1.0),
            "gpu_hours": found.get("gpu_hours", -1.0),
            "spent": trial["trained_hours"],
        },
    )


def _front(record: Search, lines: Mapping[int, TrialRow]) -> list[TrialRow]:
    """Return the trials on the front, the cheapest first."""
    return sorted(
        (lines[number] for number in record["pareto"]), key=lambda line: line.sort["gpu_hours"]
    )


def _champions(record: Search) -> list[tuple[str, Trial, str]]:
    """Return the best by each single objective: words, trial, value in words."""
    trials = words.trials_by_number(record)
    return [
        (
            words.OBJECTIVES[best["objective"]],
            trials[best["trial"]],
            words.hours(best["value"])
            if best["objective"] == "gpu_hours"
            else f"{formatting.number(best['value'])} dB",
        )
        for best in record["best"]
        if best["objective"] in words.OBJECTIVES
    ]


def _weights(found: Sequence[Importance]) -> list[Weights]:
    by_objective = {
        objective: tuple(_weight(one) for one in found if one["objective"] == objective)
        for objective in words.OBJECTIVES
    }
    return [
        Weights(title=words.OBJECTIVES[objective].capitalize(), rows=rows)
        if objective == "gpu_hours"
        else Weights(title=words.OBJECTIVES[objective], rows=rows)
        for objective, rows in by_objective.items()
        if rows
    ]


def _weight(one: Importance) -> Weight:
    p_value = one["p_value"]
    p_text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    return Weight(
        name=words.parameter_name(one["parameter"]),
        share_percent=round(100 * min(max(one["share"], 0.0), 1.0), 1),
        chance_percent=round(100 * min(max(one["chance"], 0.0), 1.0), 1),
        trust=one["trust"],
        note=f"{TRUST[one['trust']]}, {p_text}; {one['num_values']} values in "
        f"{one['num_trials']} trials",
    )


def _most_shared(record: Search) -> list[tuple[str, int, str, str]]:
    """Return the experts that most trials use: label, number of trials, hours, origin."""
    experts = sorted(record["experts"], key=lambda e: (-len(e["trials"]), e["label"]))
    return [
        (
            expert["label"],
            len(expert["trials"]),
            words.hours(expert["hours"]),
            "was in the store" if expert["in_store"] else "trained here",
        )
        for expert in experts[:MOST_SHARED]
        if len(expert["trials"]) > 1
    ]


def _degradations(record: Search) -> list[str]:
    """Return all degradations that name a group, the usual ones first, so that colours stay."""
    named = {
        kind for trial in record["trials"] for node in trial["tree"] for kind, _ in node["dominant"]
    }
    return [*DEFAULT_DEGRADATIONS, *sorted(named - set(DEFAULT_DEGRADATIONS))]


def _legend(record: Search, colours: Mapping[str, str]) -> dict[str, str]:
    used = {
        node_colour({"dominant": node["dominant"]}, colours)
        for trial in record["trials"]
        for node in trial["tree"]
    }
    return {task: colour for task, colour in colours.items() if colour in used}
