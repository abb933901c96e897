"""The charts of a search as plain data: for plotly, and parallel coordinates for our own script."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.report.figures import Figure
from expertree.search.record import Scalar, Search, Trial
from expertree.search.words import (
    OBJECTIVES,
    hours,
    mean_psnr,
    parameter_name,
    scalar,
)

PSNR = ("psnr_in", "psnr_out")
LOG_FROM = 30.0
"""The ratio of largest to smallest from which an axis of positive numbers is logarithmic."""

MOST_TICKS = 9
_CHART_PX = 430


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One axis of the parallel coordinates.

    Attributes:
        places: Place of each trial, 0 at the bottom to 1 at the top; None where it has no value.
        texts: Value of each trial in words.
        ticks: Place and text of each tick.
        is_result: Whether it was measured, not chosen.
    """

    key: str
    name: str
    places: Sequence[float | None]
    texts: Sequence[str]
    ticks: Sequence[tuple[float, str]]
    is_result: bool


def axes(record: Search) -> list[Axis]:
    """Return axes for parameters that differ, the number of experts, and the objectives."""
    keys = [*record["parameters"]]
    if "tree.num_experts" not in keys:
        keys.append("tree.num_experts")
    trials = record["trials"]
    found = [
        _axis(key, parameter_name(key), [trial["parameters"].get(key) for trial in trials])
        for key in keys
    ]
    for key in ("gpu_hours", *PSNR):
        values = [_objective(trial, key) for trial in trials]
        name = f"{record['unit']}-hours" if key == "gpu_hours" else f"PSNR {key[5:]}"
        found.append(dataclasses.replace(_axis(key, name, values), is_result=True))
    return [axis for axis in found if any(place is not None for place in axis.places)]


def front_figures(record: Search) -> list[Figure]:
    """Return charts of PSNR against the cost of training the tree, one for each distribution."""
    done = [t for t in record["trials"] if t["status"] == "completed" and t["objectives"]]
    if not done:
        return []
    return [_front_figure(record, done, key) for key in PSNR]


def rung_figures(record: Search) -> list[Figure]:
    """Return charts of what each trial reached at each rung, one for each distribution."""
    if not any(trial["reached"] for trial in record["trials"]):
        return []
    return [_rung_figure(record, key) for key in PSNR]


def _axis(key: str, name: str, values: Sequence[Scalar]) -> Axis:
    numbers = [_number(value) for value in values]
    if all(n is not None or v is None for n, v in zip(numbers, values, strict=True)):
        place, ticks = _number_scale([n for n in numbers if n is not None])
        places = [None if n is None else place(n) for n in numbers]
    else:
        words = sorted({scalar(value) for value in values if value is not None})
        last = max(len(words) - 1, 1)
        ticks = [(index / last, word) for index, word in enumerate(words)]
        by_word = {word: at for at, word in ticks}
        places = [None if value is None else by_word[scalar(value)] for value in values]
    return Axis(
        key=key,
        name=name,
        places=places,
        texts=[scalar(value) for value in values],
        ticks=ticks,
        is_result=False,
    )


def _number_scale(numbers: Sequence[float]) -> tuple[Any, list[tuple[float, str]]]:
    if not numbers:
        return (lambda _: 0.5), []
    low, high = min(numbers), max(numbers)
    is_log = low > 0 and high / low >= LOG_FROM
    scale = math.log if is_log else float
    start, span = scale(low), scale(high) - scale(low)

    def place(number: float) -> float:
        return round((scale(number) - start) / span, 5) if span else 0.5

    different = sorted(set(numbers))
    shown = different if len(different) <= MOST_TICKS else _round_numbers(low, high, is_log=is_log)
    return place, [(place(number), scalar(float(f"{number:.10g}"))) for number in shown]


def _round_numbers(low: float, high: float, *, is_log: bool) -> list[float]:
    """Return round numbers between two numbers, and always those two as well."""
    if is_log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [m * 10.0**power for power in powers for m in (1, 3)]
    else:
        step = 10 ** math.floor(math.log10(high - low))
        step = next(s for s in (step / 5, step / 2, step) if (high - low) / s <= MOST_TICKS - 2)
        found = [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    margin = 0.05
    inner = [
        n for n in found if low < n < high and min(_share(low, n, high, is_log=is_log)) > margin
    ]
    return [low, *inner, high]


def _share(low: float, number: float, high: float, *, is_log: bool) -> tuple[float, float]:
    scale = math.log if is_log else float
    share = (scale(number) - scale(low)) / (scale(high) - scale(low))
    return share, 1 - share


def _number(value: Scalar) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _objective(trial: Trial, key: str) -> float | None:
    objectives: Mapping[str, Any] = trial["objectives"] or {}
    return objectives.get(key)


def _front_figure(record: Search, done: Sequence[Trial], key: str) -> Figure:
    front = set(record["pareto"])
    marks = [
        _front_marks("on the front", [t for t in done if t["number"] in front], key, "--routed"),
        _front_marks(
            "beaten by another", [t for t in done if t["number"] not in front], key, "--input"
        ),
    ]
    layout = {
        "xaxis": {
            "title": {"text": f"{record['unit']}-hours to train the tree alone"},
            "rangemode": "tozero",
        },
        "yaxis": {"title": {"text": "PSNR (dB)"}, "automargin": True},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
        "margin": {"t": 40, "r": 24},
    }
    return Figure(
        key=f"front-{key}",
        title=OBJECTIVES[key],
        data=(_stairs(done, key), *(mark for mark in marks if mark["x"])),
        layout=layout,
        height_px=_CHART_PX,
    )


def _front_marks(name: str, trials: Sequence[Trial], key: str, colour: str) -> dict[str, Any]:
    is_front = colour == "--routed"
    return {
        "type": "scatter",
        "mode": "markers+text" if is_front else "markers",
        "name": name,
        "x": [_objective(trial, "gpu_hours") for trial in trials],
        "y": [_objective(trial, key) for trial in trials],
        "text": [f"#{trial['number']}" for trial in trials],
        "textposition": "top center",
        "textfont": {"size": 11.5, "color": "--muted"},
        "customdata": [[trial["number"], trial["shape"]] for trial in trials],
        "marker": {
            "color": colour,
            "symbol": "circle" if is_front else "circle-open",
            "size": 12 if is_front else 9,
            "line": {"width": 1.5, "color": colour},
        },
        "hovertemplate": "#%{customdata[0]} %{customdata[1]}<br>%{y:.2f} dB for %{x:.3g} h"
        f"<extra>{name}</extra>",
    }


def _stairs(done: Sequence[Trial], key: str) -> dict[str, Any]:
    """Return the trace of the best PSNR for at most so many hours."""
    x, y, best = [], [], -math.inf
    for trial in sorted(done, key=lambda t: (_objective(t, "gpu_hours") or 0, -_psnr(t, key))):
        if _psnr(trial, key) > best:
            best = _psnr(trial, key)
            x.append(_objective(trial, "gpu_hours"))
            y.append(best)
    most = max(_objective(trial, "gpu_hours") or 0.0 for trial in done)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "best for as much",
        "x": [*x, most],
        "y": [*y, best],
        "line": {"shape": "hv", "width": 5, "color": "--routed-soft"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _psnr(trial: Trial, key: str) -> float:
    value = _objective(trial, key)
    return -math.inf if value is None else value


def _rung_figure(record: Search, key: str) -> Figure:
    front = set(record["pareto"])
    trials = sorted(
        record["trials"], key=lambda t: (t["status"] == "completed", t["number"] in front)
    )
    layout = {
        "xaxis": {
            "title": {"text": "share of their samples that its experts have seen"},
            "tickvals": list(record["fractions"]),
            "ticktext": [f"{100 * share:.3g} %" for share in record["fractions"]],
            "range": [0, 1.04],
        },
        "yaxis": {"title": {"text": "PSNR (dB)"}, "automargin": True},
        "showlegend": False,
        "hovermode": "closest",
    }
    data = [_rung_trace(trial, key, is_front=trial["number"] in front) for trial in trials]
    return Figure(
        key=f"rungs-{key}",
        title=OBJECTIVES[key],
        data=tuple(trace for trace in data if trace["x"]),
        layout=layout,
        height_px=_CHART_PX,
    )


def _rung_trace(trial: Trial, key: str, *, is_front: bool) -> dict[str, Any]:
    is_done = trial["status"] == "completed"
    colour = "--routed" if is_front else "--level-3" if is_done else "--input"
    if trial["status"] == "failed":
        colour = "--bad"
    reached = trial["reached"]
    values: list[Mapping[str, Any]] = [one["objectives"] for one in reached]
    # The end of a trial that did not go on is marked: there it was given up.
    symbols = ["circle"] * max(len(reached) - 1, 0) + ["circle" if is_done else "x-thin-open"]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": f"#{trial['number']} {trial['shape']}",
        "x": [one["fraction"] for one in reached],
        "y": [value[key] for value in values],
        "line": {"color": colour, "width": 2.4 if is_front else 1.4},
        "marker": {
            "symbol": symbols[: len(reached)],
            "size": 7,
            "color": colour,
            "line": {"width": 1.6, "color": colour},
        },
        "hovertemplate": f"#{trial['number']} {trial['shape']}, {trial['status']}<br>"
        "%{y:.2f} dB at %{x:.0%}<extra></extra>",
    }


def parallel_data(record: Search) -> dict[str, Any]:
    """Return the data that the page's script draws parallel coordinates from."""
    means = [mean_psnr(t["objectives"]) if t["objectives"] else None for t in record["trials"]]
    done = [
        mean
        for mean, trial in zip(means, record["trials"], strict=True)
        if mean is not None and trial["status"] == "completed"
    ]
    low, span = (min(done), max(done) - min(done)) if done else (0.0, 0.0)
    front = set(record["pareto"])
    return {
        "axes": [dataclasses.asdict(axis) for axis in axes(record)],
        "trials": [
            {
                "number": trial["number"],
                "shape": trial["shape"],
                "status": trial["status"],
                "front": trial["number"] in front,
                # From worst to best of those that are comparable, which the completed ones are.
                "quality": round((mean - low) / span, 4) if mean is not None and span else 0.5,
            }
            for trial, mean in zip(record["trials"], means, strict=True)
        ],
    }


def spent(record: Search) -> list[tuple[str, str, float, str]]:
    """Return hours of training as bars: a class, words, share of the longest, hours in words."""
    cost = record["cost"]
    rows = [
        ("shared", "this search", cost["shared_hours"]),
        ("naive", "each trial its own experts", cost["naive_hours"]),
        ("full", "and none stopped early", cost["naive_full_hours"]),
    ]
    if cost["budget_hours"] is not None:
        rows.append(("budget", "budget", cost["budget_hours"]))
    longest = max(value for *_, value in rows) or 1.0
    return [(kind, words, value / longest, hours(value)) for kind, words, value in rows]
