"""Makes the results tables and the headline: means of what each method reached."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from expertree.evaluation.methods import gain_over
from expertree.evaluation.scores import Evaluated, methods
from expertree.hierarchy import Tree

METRICS = ("psnr_rgb", "psnr_y", "ssim")
AVERAGED = (*METRICS, "harmed")
"""Lists of a row that run along the columns and end with the average."""

_NUM_QUARTILES = 4


def table(
    tree: Tree,
    data: Evaluated,
    *,
    kind: Literal["single", "mixed"],
    task_order: Sequence[str],
    given: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return one table of the report: methods by degradation, and the average over degradations.

    Args:
        tree: The hierarchy.
        data: The evaluation set.
        kind: `single` has a column a task, `mixed` a column a number of tasks.
        task_order: Order of the columns of `single`.
        given: For each method what it was given (samples in training, parameters, ...).

    Returns:
        `columns`, the last one `average`; `quartile_bounds_db`, the input's PSNR where a quartile
        of all patches of the table ends and the next begins; and `rows` with, for each `method`,
        `psnr_rgb`, `psnr_y`, `ssim` and `harmed` (share of patches) along the columns, PSNR by
        quartile (`quartiles_db`, the worst inputs first), and what it was given.
    """
    groups = columns_of(data.tasks, kind, task_order)
    quartiles = _quartiles(data.inputs.psnr_rgb, list(groups.values()))
    rows = []
    for name, reached in methods(tree, data).items():
        values = {metric: getattr(reached.scores, metric) for metric in METRICS}
        values["harmed"] = reached.harmed
        row: dict[str, Any] = {"method": name}
        for metric, by_patch in values.items():
            means = [float(by_patch[index].mean()) for index in groups.values()]
            row[metric] = [*means, float(np.mean(means))] if means else []
        row["quartiles_db"] = [float(reached.scores.psnr_rgb[part].mean()) for part in quartiles]
        rows.append(row | dict(given.get(name, {})))
    return {
        "columns": [*groups, "average"] if groups else [],
        "quartile_bounds_db": [float(data.inputs.psnr_rgb[q].min()) for q in quartiles[1:]],
        "rows": rows,
    }


def average(
    values: Float[np.ndarray, " patches"],
    tasks: Sequence[tuple[str, ...]],
    *,
    task_order: Sequence[str],
) -> float:
    """Return the mean over degradations of the mean over their patches: a table's last column.

    Args:
        values: Value of each patch.
        tasks: Degradations of each patch.
        task_order: Single degradations to average over. If no patch has one alone, the mean is over
            mixtures, grouped by their number of degradations.
    """
    groups = columns_of(tasks, "single", task_order) or columns_of(tasks, "mixed", task_order)
    return float(np.mean([values[index].mean() for index in groups.values()]))


def summary(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the headline numbers, from tables that also have `distribution` and `kind`.

    Returns:
        Averages by metric, distribution and method; `gain_db` of the routed experts by
        distribution, and the method that it is `gain_over`. The same in `mixed` for mixed
        degradations.
    """
    out: dict[str, Any] = {metric: {} for metric in AVERAGED}
    out["mixed"] = {metric: {} for metric in AVERAGED}
    for entry in tables:
        place = out if entry["kind"] == "single" else out["mixed"]
        for metric in AVERAGED:
            averages = {row["method"]: row[metric][-1] for row in entry["rows"] if row[metric]}
            if averages:
                place[metric][entry["distribution"]] = averages
    for place in (out, out["mixed"]):
        psnr = place["psnr_rgb"]
        place["gain_over"] = {name: gain_over(values) for name, values in psnr.items()}
        place["gain_db"] = {
            name: values["routed"] - values[place["gain_over"][name]]
            for name, values in psnr.items()
        }
    return out


def columns_of(
    tasks: Sequence[tuple[str, ...]], kind: Literal["single", "mixed"], task_order: Sequence[str]
) -> dict[str, Int[np.ndarray, " _"]]:
    """Return the patches of each column of a table, by the column's name; no empty columns."""
    if kind == "single":
        names = {name: [t == (name,) for t in tasks] for name in task_order}
    else:
        sizes = sorted({len(t) for t in tasks if len(t) > 1})
        names = {f"{size} at once": [len(t) == size for t in tasks] for size in sizes}
    return {name: np.flatnonzero(mask) for name, mask in names.items() if any(mask)}


def _quartiles(
    input_db: Float[np.ndarray, " patches"], groups: Sequence[Int[np.ndarray, " _"]]
) -> list[Int[np.ndarray, " _"]]:
    """Return the patches of a table in four equal parts by input PSNR, the worst first."""
    patches = np.concatenate(groups) if groups else np.empty(0, dtype=np.int64)
    if len(patches) < _NUM_QUARTILES:
        return []
    ordered = patches[np.argsort(input_db[patches], kind="stable")]
    return np.array_split(ordered, _NUM_QUARTILES)
