"""The charts of levels and PSNR as inputs move out of distribution (paper 000, figure 5)."""

from collections.abc import Mapping, Sequence
from typing import Any

from expertree.evaluation import described
from expertree.report.figures import METHOD_COLOURS, Figure
from expertree.report.schema import Run, ShiftCurves

KINDS: Mapping[str, str] = {"single": "single degradations", "mixed": "mixed degradations"}

PSNR_METHODS = ("input", "one_network_tree", "one_network", "finest_level", "routed", "best_level")
"""Lines of the chart of PSNR, where they were measured."""

LEVEL_LINES: Mapping[str, tuple[str, str]] = {
    "mean_level": ("chosen", "--routed"),
    "best_mean_level": ("best on the chosen path", "--bound"),
}
"""Lines of the chart of levels: name and colour."""

_HEIGHT_PX = 340
_FROM_TO = "shift, from the mildest in distribution to the severest out of it"


def shift_figures(run: Run) -> list[Figure]:
    """Return a chart of PSNR and one of levels, for single and for mixed degradations."""
    found = []
    for kind, title in KINDS.items():
        curves = run.get("shift", {}).get(kind)
        if curves:
            found += [_psnr_figure(kind, title, curves), _level_figure(kind, title, curves, run)]
    return found


def _psnr_figure(kind: str, title: str, curves: ShiftCurves) -> Figure:
    data = [
        _line(curves, method, described(method).short, METHOD_COLOURS[method], " dB")
        for method in PSNR_METHODS
        if method in curves
    ]
    return _figure(f"shift-psnr-{kind}", f"PSNR, {title}", data, {"title": {"text": "PSNR (dB)"}})


def _level_figure(kind: str, title: str, curves: ShiftCurves, run: Run) -> Figure:
    data = [_line(curves, key, name, colour, "") for key, (name, colour) in LEVEL_LINES.items()]
    finest = max((node["level"] for node in run.get("tree", {}).get("nodes", ())), default=1)
    axis = {"title": {"text": "mean level, 0 is the root"}, "range": [finest + 0.1, -0.1]}
    return _figure(f"shift-level-{kind}", f"Level, {title}", data, axis)


def _line(curves: ShiftCurves, key: str, name: str, colour: str, unit: str) -> dict[str, Any]:
    values: Sequence[float] = curves[key]  # type: ignore[literal-required]
    dash = "dot" if colour == "--bound" else "dash" if key == "one_network" else "solid"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(curves["point"]),
        "y": list(values),
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"color": colour, "size": 6},
        "hovertemplate": "%{x:.2f}: %{y:.2f}" + unit + "<extra>" + name + "</extra>",
    }


def _figure(key: str, title: str, data: Sequence[dict[str, Any]], axis: dict[str, Any]) -> Figure:
    layout = {
        "xaxis": {"title": {"text": _FROM_TO}},
        "yaxis": {**axis, "automargin": True},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
    }
    return Figure(key=key, title=title, data=tuple(data), layout=layout, height_px=_HEIGHT_PX)
