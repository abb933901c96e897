"""Renders a run as one HTML page that needs no other file."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

from expertree.evaluation import described, gain_over
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
    Example,
    Routing,
    Run,
)
from expertree.report.shift_figures import shift_figures
from expertree.report.tables import clean_sentence, grid, over_words
from expertree.report.tree_drawing import colours_of, draw_tree

_WORDS_PERCENT = 18.0
"""Width of a method's name in percent of the scale's width."""

LADDER = ("input", "classical", "one_network_tree", "one_network", "routed", "best_level")
DEFAULT_DEGRADATIONS = ("low_light", "blur", "noise", "rain", "snow", "haze", "jpeg")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """The place of a method on a scale of PSNR, `left_percent` from its left end.

    Attributes:
        is_far: Whether its words move away from the line, past those of a neighbour on their side.
    """

    method: str
    name: str
    value: str
    left_percent: float
    difference: str = ""
    is_far: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Headline:
    """The gain on one distribution, and the two values that it is the difference of.

    Attributes:
        over: Method that it is measured over, in words; `base` is that method's PSNR.
        harmed: Share of images made worse than the input.
    """

    place: str
    note: str
    gain: str
    is_gain: bool
    over: str
    base: str
    routed: str
    harmed: str
    marks: tuple[Mark, ...]
    mixed_gain: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """The cost of the router's choice against the best one, on one distribution."""

    place: str
    agreement: str
    lost: str
    marks: tuple[Mark, ...]


def render_page(run: Run, images: Mapping[str, bytes]) -> str:
    """Render the page of a run.

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
        lefts=_lefts(run),
        clean=clean_sentence(run["clean"]) if "clean" in run else "",
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
    """Return the single degradations of a run, in the order that gives them their colours."""
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
    headlines = []
    for key, place in DISTRIBUTIONS.items():
        values = summary.get("psnr_rgb", {}).get(key, {})
        over = summary.get("gain_over", {}).get(key, "")
        base, routed = values.get(over), values.get("routed")
        if not formatting.measured(base) or not formatting.measured(routed):
            continue
        harmed = summary.get("harmed", {}).get(key, {}).get("routed")
        mixed = summary.get("mixed", {}).get("gain_db", {}).get(key)
        headlines.append(
            Headline(
                place=place,
                note=DISTRIBUTION_NOTES[key],
                gain=formatting.gain(routed - base),
                is_gain=routed > base,
                over=over_words(over),
                base=formatting.number(base),
                routed=formatting.number(routed),
                harmed=formatting.percent(harmed) if formatting.measured(harmed) else "",
                marks=apart(_marks(_ladder(values))),
                mixed_gain=formatting.gain(mixed) if formatting.measured(mixed) else "",
            )
        )
    return headlines


def _ladder(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the methods of the headline's scale, worst first; of two networks only one."""
    found = {name: v for name in LADDER if formatting.measured(v := values.get(name))}
    if "one_network_tree" in found:
        found.pop("one_network", None)
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def _audits(run: Run) -> list[Audit]:
    audits = []
    for table in run.get("tables", ()):
        if table.get("kind") != "single":
            continue
        key = table.get("distribution", "")
        routing = run.get("routing", {}).get(key, Routing())
        averages = {
            row.get("method", ""): row["psnr_rgb"][-1]
            for row in table.get("rows", ())
            if row.get("psnr_rgb") and row.get("method") != "input"
        }
        if "best_level" in averages:
            audits.append(
                Audit(
                    place=DISTRIBUTIONS.get(key, key),
                    agreement=formatting.percent(routing.get("agreement_with_best_level")),
                    lost=formatting.number(routing.get("lost_db")),
                    marks=_marks(averages, reference="routed"),
                )
            )
    return audits


def _lefts(run: Run) -> list[tuple[str, str]]:
    """Return each distribution, and the share of its images that were left as they are."""
    shares = {key: found.get("share_as_is") for key, found in run.get("routing", {}).items()}
    return [
        (DISTRIBUTIONS.get(key, key), formatting.percent(share))
        for key, share in shares.items()
        if formatting.measured(share)
    ]


def _brief(method: str) -> str:
    """Return a method's name for places with one network at most, so it need not say which."""
    return described(method).short.partition(",")[0]


def _marks(values: Mapping[str, float | None], reference: str = "") -> tuple[Mark, ...]:
    found = {method: v for method, v in values.items() if formatting.measured(v)}
    low, high = min(found.values()), max(found.values())
    span = max(high - low, 0.01)
    base = found.get(reference)
    return tuple(
        Mark(
            method=method,
            name=described(method).short if reference else _brief(method),
            value=formatting.number(value),
            left_percent=round(100 * (value - low) / span, 2),
            difference="" if base is None or method == reference else formatting.gain(value - base),
        )
        for method, value in found.items()
    )


def apart(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Return marks moved so that their words, below and above the scale in turn, do not meet."""
    placed: list[Mark] = []
    for mark in marks:
        before = placed[-2] if len(placed) > 1 else None
        is_near = before is not None and mark.left_percent - before.left_percent < _WORDS_PERCENT
        is_far = is_near and before is not None and not before.is_far
        placed.append(dataclasses.replace(mark, is_far=is_far))
    return tuple(placed)


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
        "names": {kind: _brief(kind) for kind in IMAGE_KINDS},
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
        "gain": _gain(psnr),
        "route": example.get("route"),
    }


def _gain(psnr: Mapping[str, float | None]) -> str:
    """Return the gain of an example, measured as the headline's; empty if it was not measured."""
    found = {name: value for name, value in psnr.items() if formatting.measured(value)}
    if "input" not in found or "routed" not in found:
        return ""
    return formatting.gain(found["routed"] - found[gain_over(found)])


def _first_of_equals(run: Run, images: Mapping[str, bytes]) -> dict[str, str]:
    """Return the first image of the same content for each image of an example, by name.

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
