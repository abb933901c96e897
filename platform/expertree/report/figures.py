"""The report's charts as plotly's plain data.

Colours are names of CSS variables (`--routed`): the page puts in what the reader's colour scheme
says and draws again when it changes. plotly's own package is only asked for its JavaScript.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.evaluation import described, gain_over
from expertree.report import formatting
from expertree.report.schema import (
    DISTRIBUTIONS,
    ExpertSummary,
    Run,
    Span,
    Table,
    TreeNode,
)
from expertree.report.tree_drawing import node_colour

METHOD_COLOURS: Mapping[str, str] = {
    "input": "--input",
    "classical": "--classical",
    "one_network": "--alone",
    "one_network_tree": "--alone",
    "random_expert": "--finest",
    "root": "--finest",
    "finest_level": "--finest",
    "routed": "--routed",
    "best_level": "--bound",
    "best": "--bound",
}
METHOD_SYMBOLS: Mapping[str, str] = {
    "input": "line-ns-open",
    "classical": "square-open",
    "one_network": "circle-open",
    "one_network_tree": "circle",
    "finest_level": "circle-open",
    "routed": "circle",
    "best_level": "diamond-open",
    "best": "diamond-tall-open",
}
LEFT_OUT = frozenset({"root", "random_expert"})
"""Methods that are in the tables but would crowd the charts."""

LEVEL_COLOURS = ("--level-0", "--level-1", "--level-2", "--level-3")
MOST_CELLS_WITH_TEXT = 200
POINTS_LEFT = 20
"""A drawn loss curve is smoothed to about this many points; `report.json` has the measured one."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A chart: plotly's traces and layout, and the words around it.

    Attributes:
        least_width_px: Width below which the chart scrolls instead of shrinking with the page.
    """

    key: str
    title: str
    data: tuple[dict[str, Any], ...]
    layout: dict[str, Any]
    height_px: int
    least_width_px: int = 0


def degradation_figures(run: Run) -> list[Figure]:
    """Return a chart for each table: PSNR by degradation, a mark for each method."""
    return [_degradation_figure(t) for t in run.get("tables", ()) if len(t.get("rows", ())) > 1]


def routing_figures(run: Run) -> list[Figure]:
    """Return charts of the levels and leaves that each degradation's images were sent to."""
    figures = []
    for key, routing in run.get("routing", {}).items():
        rows = [formatting.name(row) for row in routing.get("rows", ())]
        levels, leaves = routing.get("levels", ()), routing.get("leaves", ())
        if not rows or not (levels or leaves):
            continue
        level_names = [f"level {n}" for n in range(len(levels[0]) if levels else 0)]
        as_is = routing.get("as_is", ())
        if levels and as_is:
            levels = [[share, *row] for share, row in zip(as_is, levels, strict=True)]
            level_names = ["as is", *level_names]
        num_levels, num_leaves = len(level_names), len(leaves[0]) if leaves else 0
        # The two heatmaps share the width by their numbers of columns, with a gap between.
        split = 0.96 * num_levels / max(num_levels + num_leaves, 1)
        leaf_names = _leaf_names(run, num_leaves)
        data = [
            _heatmap(rows, level_names, levels, ""),
            _heatmap(rows, leaf_names, leaves, "2"),
        ]
        top_px = 24 + 6 * max(map(len, [*leaf_names, "level 0"]))
        across = {
            "side": "top",
            "fixedrange": True,
            "showgrid": False,
            "ticks": "",
            "tickangle": -60,
        }
        layout = {
            "xaxis": {"domain": [0, split], **across},
            "xaxis2": {"domain": [split + 0.04, 1], **across},
            "yaxis": {
                "autorange": "reversed",
                "automargin": True,
                "fixedrange": True,
                "showgrid": False,
                "ticks": "",
            },
            "margin": {"t": top_px, "r": 30, "b": 8, "l": 8},
        }
        title = DISTRIBUTIONS.get(key, key).capitalize()
        height_px = top_px + 8 + 34 * len(rows)
        figure = _figure(f"routing-{key}", title, data, layout, height_px)
        least_width_px = 110 + 22 * (num_levels + num_leaves)
        figures.append(dataclasses.replace(figure, least_width_px=least_width_px))
    return figures


def loss_figure(run: Run, colours: Mapping[str, str]) -> Figure | None:
    """Return the loss curves of experts, each drawn from where its parent's training ended."""
    experts = [e for e in run.get("experts", ()) if e.get("curve", {}).get("loss")]
    if not experts:
        return None
    nodes = {node["index"]: node for node in run.get("tree", {}).get("nodes", ())}
    starts = _starts(experts)
    data = [_loss_trace(expert, nodes, starts, colours) for expert in experts]
    layout = {
        "xaxis": {"title": {"text": "samples seen along the path"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "training loss"}, "automargin": True},
        "showlegend": False,
        "hovermode": "closest",
    }
    return _figure("loss", "Loss", data, layout, 420)


def timeline_figure(run: Run) -> Figure | None:
    """Return a chart of when and on which lane each expert was trained, and how that ended."""
    spans = run.get("timeline", ())
    if not spans:
        return None
    nodes = {node["index"]: node for node in run.get("tree", {}).get("nodes", ())}
    experts = _by_any_name(run.get("experts", ()))
    on_machines = len({span.get("node") for span in spans}) > 1
    lanes = sorted(
        {_lane(s, on_machines=on_machines) for s in spans}, key=lambda lane: (len(lane), lane)
    )
    data = []
    for span in sorted(spans, key=lambda span: span.get("start_s", 0)):
        called = span.get("expert")
        expert = experts.get(str(called), {})
        index = called if isinstance(called, int) else expert.get("index")
        name = described(expert.get("comparison") or str(called)).short
        node = nodes.get(index) if index is not None else None
        data.append(_span_trace(span, name, node) | {"y": [_lane(span, on_machines=on_machines)]})
    layout = {
        "barmode": "overlay",
        "bargap": 0.28,
        "xaxis": {"title": {"text": "seconds since training began"}, "rangemode": "tozero"},
        "yaxis": {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": lanes[::-1],
            "automargin": True,
            "fixedrange": True,
        },
        "showlegend": False,
        "hovermode": "closest",
    }
    return _figure("timeline", "Timeline", data, layout, 96 + 46 * len(lanes))


def _degradation_figure(table: Table) -> Figure:
    columns = [formatting.name(column) for column in table.get("columns", ())]
    data = []
    for row in table.get("rows", ()):
        method = row.get("method", "")
        if method in LEFT_OUT:
            continue
        name, is_main = described(method).short, method in {"one_network_tree", "routed"}
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": list(row.get("psnr_rgb", ())),
                "y": columns,
                "marker": {
                    "color": METHOD_COLOURS.get(method, "--muted"),
                    "symbol": METHOD_SYMBOLS.get(method, "circle"),
                    "size": 13 if is_main else 10,
                    "line": {"width": 2, "color": METHOD_COLOURS.get(method, "--muted")},
                },
                "hovertemplate": "%{y}: %{x:.2f} dB<extra>" + name + "</extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": "PSNR (dB)"}},
        "yaxis": {"autorange": "reversed", "automargin": True, "fixedrange": True},
        "shapes": _links(table),
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
    }
    key = f"degradations-{table.get('kind', '')}-{table.get('distribution', '')}"
    return _figure(key, "PSNR by degradation", data, layout, 120 + 40 * len(columns))


def _links(table: Table) -> list[dict[str, Any]]:
    """Return lines as long as the gain: from what it is measured over to the routed experts."""
    rows = {row.get("method", ""): row.get("psnr_rgb", ()) for row in table.get("rows", ())}
    links = []
    for index in range(len(table.get("columns", ()))):
        column = {name: values[index] for name, values in rows.items() if values}
        found = {name: value for name, value in column.items() if formatting.measured(value)}
        if "input" not in found or "routed" not in found:
            continue
        links.append(
            {
                "type": "line",
                "layer": "below",
                "x0": found[gain_over(found)],
                "x1": found["routed"],
                "y0": index,
                "y1": index,
                "line": {"width": 5, "color": "--routed-soft"},
            }
        )
    return links


def _leaf_names(run: Run, num_leaves: int) -> list[str]:
    nodes = run.get("tree", {}).get("nodes", ())
    finest = max((node["level"] for node in nodes), default=0)
    leaves = [node for node in nodes if node["level"] == finest]
    if len(leaves) != num_leaves:
        return [f"leaf {number}" for number in range(num_leaves)]
    return [f"#{leaf['index']} {_kind(leaf)}".strip() for leaf in leaves]


def _kind(node: TreeNode) -> str:
    dominant = node.get("dominant", ())
    return formatting.shortened(formatting.name(dominant[0][0]), 16) if dominant else ""


def _heatmap(
    rows: Sequence[str], columns: Sequence[str], shares: Sequence[Sequence[float]], axis: str
) -> dict[str, Any]:
    num_cells = len(rows) * len(columns)
    trace: dict[str, Any] = {
        "type": "heatmap",
        "x": list(columns),
        "y": list(rows),
        "z": [list(row) for row in shares],
        "zmin": 0,
        "zmax": 1,
        "xgap": 2,
        "ygap": 2,
        "xaxis": f"x{axis}",
        "colorscale": [[0, "--heat-0"], [0.5, "--heat-1"], [1, "--heat-2"]],
        "showscale": False,
        "hovertemplate": "%{y} to %{x}: %{z:.1%}<extra></extra>",
    }
    if num_cells <= MOST_CELLS_WITH_TEXT:
        trace["text"] = [[f"{100 * v:.0f}" if v >= 0.005 else "" for v in row] for row in shares]
        trace["texttemplate"] = "%{text}"
    return trace


def _starts(experts: Sequence[ExpertSummary]) -> Mapping[int | None, float]:
    """Return the samples behind the weights that each node's expert started from."""
    own = {expert["index"]: expert for expert in experts if expert.get("index") is not None}

    def start(index: int | None) -> float:
        parent = own[index].get("parent")
        if parent is None:
            return 0.0
        before = own[parent]["curve"]["samples"][-1] if parent in own else 0.0
        return before + (start(parent) if parent in own else 0.0)

    return {index: start(index) for index in own}


def _loss_trace(
    expert: ExpertSummary,
    nodes: Mapping[int, TreeNode],
    starts: Mapping[int | None, float],
    colours: Mapping[str, str],
) -> dict[str, Any]:
    index = expert.get("index")
    node = nodes.get(index) if index is not None else None
    name, colour, width = described(expert.get("comparison") or "").short, "--alone", 2.5
    if node is not None:
        colour = node_colour(node, colours) if node["level"] > 0 else "--ink"
        name = f"#{index} {_kind(node)}" if node["level"] > 0 else f"#{index}"
        width = max(2.6 - 0.5 * node["level"], 1.2)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [starts.get(index, 0.0) + samples for samples in expert["curve"]["samples"]],
        "y": _smoothed(expert["curve"]["loss"]),
        "line": {"color": colour, "width": width, "dash": "solid" if node else "dot"},
        "hovertemplate": "%{x:,} samples: %{y:.4f}<extra>" + name + "</extra>",
    }


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return the exponential mean, divided by the sum of its weights to remove the start's bias."""
    past = max(1 - POINTS_LEFT / max(len(values), 1), 0.0)
    total, weight, smooth = 0.0, 0.0, []
    for value in values:
        total = past * total + (1 - past) * value
        weight = past * weight + (1 - past)
        smooth.append(round(total / weight, 6))
    return smooth


def _span_trace(span: Span, name: str, node: TreeNode | None) -> dict[str, Any]:
    outcome = span.get("outcome", "done")
    level = node["level"] if node else 0
    seconds = span.get("end_s", 0.0) - span.get("start_s", 0.0)
    name = f"#{node['index']}" if node else name
    colour = LEVEL_COLOURS[min(level, len(LEVEL_COLOURS) - 1)] if node else "--alone"
    is_done = outcome == "done"
    return {
        "type": "bar",
        "orientation": "h",
        "base": [span.get("start_s", 0.0)],
        "x": [seconds],
        "text": [name if is_done else f"{name} {outcome}"],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "constraintext": "inside",
        "textangle": 0,
        "marker": {
            "color": colour if is_done else "--bad",
            "line": {"width": 1, "color": "--surface"},
            "pattern": {
                "shape": "" if is_done else "/",
                "fillmode": "overlay",
                "fgcolor": "--surface",
            },
        },
        "hovertemplate": (
            f"expert {name}, attempt {span.get('attempt', 1)}: {outcome}<br>"
            f"{formatting.duration(span.get('start_s'))} to "
            f"{formatting.duration(span.get('end_s'))}<extra></extra>"
        ),
    }


def _by_any_name(experts: Sequence[ExpertSummary]) -> dict[str, ExpertSummary]:
    """Return the experts by each name that a span may call them by: key and label."""
    return {
        name: expert
        for expert in experts
        for name in (expert.get("key"), expert.get("label"))
        if name is not None
    }


def _lane(span: Span, *, on_machines: bool) -> str:
    lane = str(span.get("lane", ""))
    name = f"lane {lane}" if lane.isdigit() else lane.replace("-", " ")
    return f"{name} on {span.get('node')}" if on_machines else name


def _figure(
    key: str, title: str, data: Sequence[dict[str, Any]], layout: dict[str, Any], height_px: int
) -> Figure:
    return Figure(key=key, title=title, data=tuple(data), layout=layout, height_px=height_px)
