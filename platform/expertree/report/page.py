"""A run as one HTML page that needs nothing but itself."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

from expertree.report import figures, formatting
from expertree.report.embedding_figures import embedding_figures
from expertree.report.html import (
    environment,
    pairs,
    plotly_compressed,
    quantity,
    script_json,
    source,
)
from expertree.report.schema import (
    DISTRIBUTION_NOTES,
    DISTRIBUTIONS,
    IMAGE_KINDS,
    SHOWN_NAMES,
    Example,
    Run,
)
from expertree.report.shift_figures import shift_figures
from expertree.report.tables import grid
from expertree.report.tree_drawing import colours_of, draw_tree

LADDER = ("degraded", "root", "routed", "oracle")
DEFAULT_DEGRADATIONS = ("low_light", "blur", "noise", "rain", "snow", "haze", "jpeg")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A method's place on a scale of PSNR, `left_percent` from its left end."""

    method: str
    name: str
    value: str
    left_percent: float
    difference: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """The gain on one distribution, and the values between which it lies."""

    place: str
    note: str
    gain: str
    is_gain: bool
    root: str
    routed: str
    marks: tuple[Mark, ...]
    mixed_gain: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What the router's choice costs on one distribution."""

    place: str
    agreement: str
    lost: str
    marks: tuple[Mark, ...]


def render_page(run: Run, images: Mapping[str, bytes]) -> str:
    """Make the page.

    Args:
        run: The run, already checked.
        images: PNG files by name.

    Returns:
        HTML with its styles, its scripts and its images inside. A content security policy in it
        forbids the browser to fetch anything.
    """
    colours = colours_of(_degradations(run))
    firsts = _first_of_equals(run, images)
    charts = {
        "degradations": figures.degradation_figures(run),
        "routing": figures.routing_figures(run),
        "shift": shift_figures(run),
        "embeddings": embedding_figures(run, colours),
        "loss": _one(figures.loss_figure(run, colours)),
        "timeline": _one(figures.timeline_figure(run)),
    }
    stage_times = [stage.get("seconds", 0.0) for stage in run.get("stages", ())]
    inside = {name: base64.b64encode(images[name]).decode() for name in sorted({*firsts.values()})}
    template = environment().get_template("report.html.j2")
    return template.render(
        run=run,
        headlines=_headlines(run),
        grids=[grid(table) for table in run.get("tables", ())],
        drawing=draw_tree(run.get("tree", {}), colours),
        legend=colours,
        charts=charts,
        audits=_audits(run),
        num_experts=len({node.get("expert", node["index"]) for node in _nodes(run)}),
        slowest_stage_s=max(stage_times, default=0.0),
        pairs=pairs,
        quantity=quantity,
        f=formatting,
        style=source("report.css"),
        script=source("page.js") + source("report.js"),
        plotly=plotly_compressed() if any(charts.values()) else "",
        data=script_json(_page_data(run, firsts, [f for found in charts.values() for f in found])),
        images=script_json(inside),
    )


def _degradations(run: Run) -> Sequence[str]:
    """The single degradations of a run, in the order that gives them their colours."""
    found = [
        *(t.get("columns", ()) for t in run.get("tables", ()) if t.get("kind") == "single"),
        *(routing.get("rows", ()) for routing in run.get("routing", {}).values()),
        DEFAULT_DEGRADATIONS,
    ]
    first = next(names for names in found if names)
    return [name for name in first if name not in {"average", "mixed"}]


def _nodes(run: Run) -> Sequence[Mapping[str, Any]]:
    return run.get("tree", {}).get("nodes", ())


def _one(figure: figures.Figure | None) -> list[figures.Figure]:
    return [] if figure is None else [figure]


def _headlines(run: Run) -> list[Headline]:
    summary = run.get("summary", {})
    mixed = summary.get("mixed", {}).get("psnr_rgb", {})
    headlines = []
    for key, place in DISTRIBUTIONS.items():
        values = summary.get("psnr_rgb", {}).get(key, {})
        root, routed = values.get("root"), values.get("routed")
        if not formatting.measured(root) or not formatting.measured(routed):
            continue
        headlines.append(
            Headline(
                place=place,
                note=DISTRIBUTION_NOTES[key],
                gain=formatting.gain(routed - root),
                is_gain=routed > root,
                root=formatting.number(root),
                routed=formatting.number(routed),
                marks=_marks({method: values.get(method) for method in LADDER}),
                mixed_gain=_difference(mixed.get(key, {}), "routed", "root"),
            )
        )
    return headlines


def _audits(run: Run) -> list[Audit]:
    audits = []
    for table in run.get("tables", ()):
        if table.get("kind") != "single":
            continue
        key = table.get("distribution", "")
        routing = run.get("routing", {}).get(key, {})
        averages = {
            row.get("method", ""): row["psnr_rgb"][-1]
            for row in table.get("rows", ())
            if row.get("psnr_rgb") and row.get("method") != "degraded"
        }
        if "oracle" in averages:
            audits.append(
                Audit(
                    place=DISTRIBUTIONS.get(key, key),
                    agreement=formatting.percent(routing.get("agreement_with_oracle")),
                    lost=formatting.number(routing.get("lost_db")),
                    marks=_marks(averages, reference="routed"),
                )
            )
    return audits


def _marks(values: Mapping[str, float | None], reference: str = "") -> tuple[Mark, ...]:
    found = {method: v for method, v in values.items() if formatting.measured(v)}
    low, high = min(found.values()), max(found.values())
    span = max(high - low, 0.01)
    base = found.get(reference)
    return tuple(
        Mark(
            method=method,
            name=SHOWN_NAMES.get(method, method),
            value=formatting.number(value),
            left_percent=round(100 * (value - low) / span, 2),
            difference="" if base is None or method == reference else formatting.gain(value - base),
        )
        for method, value in found.items()
    )


def _page_data(
    run: Run, firsts: Mapping[str, str], charts: Sequence[figures.Figure]
) -> dict[str, Any]:
    nodes = [
        {
            "index": node["index"],
            "level": node["level"],
            "parent": node.get("parent"),
            "label": formatting.name(node["dominant"][0][0]) if node.get("dominant") else "",
        }
        for node in _nodes(run)
    ]
    return {
        "figures": {f.key: {"data": f.data, "layout": f.layout} for f in charts},
        "nodes": nodes,
        "examples": [_example(example, firsts) for example in run.get("examples", ())],
    }


def _example(example: Example, firsts: Mapping[str, str]) -> dict[str, Any]:
    psnr = example.get("psnr", {})
    tasks = example.get("task", "").split(" + ")
    task = tasks[0] if len(tasks) == 1 else f"{len(tasks)} at once"
    return {
        "caption": example.get("caption") or formatting.name(example.get("task", "")),
        "task": formatting.name(task),
        "place": DISTRIBUTIONS.get(example.get("distribution", ""), ""),
        "images": {
            kind: firsts[cast("Mapping[str, str]", example)[kind]]
            for kind in IMAGE_KINDS
            if kind in example
        },
        "psnr": {kind: value for kind, value in psnr.items() if value is not None},
        "gain": _difference(psnr, "routed", "root"),
        "route": example.get("route"),
    }


def _difference(values: Mapping[str, float | None], upper: str, lower: str) -> str:
    """The difference in dB in words; empty where one of the two was not measured."""
    high, low = values.get(upper), values.get(lower)
    if not formatting.measured(high) or not formatting.measured(low):
        return ""
    return formatting.gain(high - low)


def _first_of_equals(run: Run, images: Mapping[str, bytes]) -> dict[str, str]:
    """For each image of an example the first one of the same content.

    Examples share photographs, and so clean images: each is written once.
    """
    named = [
        cast("Mapping[str, str]", example)[kind]
        for example in run.get("examples", ())
        for kind in IMAGE_KINDS
        if kind in example
    ]
    owners: dict[bytes, str] = {}
    return {name: owners.setdefault(images[name], name) for name in named}
