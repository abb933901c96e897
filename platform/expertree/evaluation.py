"""From scores and routes to the numbers of a run: tables, routing, gains. Pure functions.

A score is what one network reached on one patch. All networks are scored on all patches once, so
that each method of a table (root, routed, oracle, ...) is only a choice among columns.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from expertree.hierarchy import Tree
from expertree.routing import Route, audit_routes, node_table
from expertree.routing.losses import choice_nodes

METRICS = ("psnr_rgb", "psnr_y", "ssim")
_FIELDS = ("l1", *METRICS)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scores:
    """What one network (or the degraded input itself) reached on N patches.

    Attributes:
        l1: Mean absolute error, of images in [0, 1].
        psnr_rgb: dB, 8 bit.
        psnr_y: dB, BT.601 luma.
        ssim: Structural similarity in [-1, 1].
    """

    l1: Float[np.ndarray, " patches"]
    psnr_rgb: Float[np.ndarray, " patches"]
    psnr_y: Float[np.ndarray, " patches"]
    ssim: Float[np.ndarray, " patches"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluated:
    """One evaluation set: its patches, every network's scores on them, and the routes.

    Attributes:
        tasks: For each patch its degradations in order.
        degraded: Scores of the inputs.
        root: Scores of the root's network trained as long as a whole path (the comparison).
        experts: Scores of each expert, by node index.
        routes: The router's choice for each patch.
    """

    tasks: Sequence[tuple[str, ...]]
    degraded: Scores
    root: Scores
    experts: Mapping[int, Scores]
    routes: Sequence[Route]

    @property
    def leaves(self) -> Int[np.ndarray, " patches"]:
        """The leaf that the degradation router chose for each patch."""
        return np.array([route.leaf for route in self.routes])

    @property
    def levels(self) -> Int[np.ndarray, " patches"]:
        """The level that the granularity router chose for each patch."""
        return np.array([route.level for route in self.routes])


def choices(tree: Tree, data: Evaluated) -> dict[str, Int[np.ndarray, " patches"]]:
    """The node that each way of choosing takes, patch by patch.

    Returns:
        `tree root` (the tree's own root expert); `finest level` (the degradation router alone);
        `routed`; `oracle` (the best level on the chosen path, paper table O); `best of all`.
    """
    psnr = node_table(_by_expert(data, "psnr_rgb"), tree)
    paths = choice_nodes(tree)[data.leaves]
    everyone = np.broadcast_to(np.arange(len(tree.nodes)), (len(paths), len(tree.nodes)))
    return {
        "tree root": np.zeros(len(paths), dtype=np.int64),
        "finest level": paths[:, -1],
        "routed": np.array([route.node for route in data.routes]),
        "oracle": _best(psnr, paths),
        "best of all": _best(psnr, everyone),
    }


def methods(tree: Tree, data: Evaluated) -> dict[str, Scores]:
    """The scores of each row of a table, patch by patch.

    Returns:
        `degraded`; `root` (one network of the same size, trained as long as a whole path); and the
        rows of `choices`.
    """
    columns = {name: node_table(_by_expert(data, name), tree) for name in _FIELDS}
    chosen = {name: _choose(columns, nodes) for name, nodes in choices(tree, data).items()}
    return {"degraded": data.degraded, "root": data.root, **chosen}


def table(
    tree: Tree,
    data: Evaluated,
    *,
    kind: Literal["single", "mixed"],
    task_order: Sequence[str],
    given: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """One table of the report: methods by degradation, and the average over degradations.

    Args:
        tree: The hierarchy.
        data: The evaluation set.
        kind: `single` has a column a task, `mixed` a column a number of tasks.
        task_order: Order of the columns of `single`.
        given: For each method what it was given (samples in training, parameters, ...).
    """
    groups = _columns(data.tasks, kind, task_order)
    rows = []
    for name, scores in methods(tree, data).items():
        row: dict[str, Any] = {"method": name}
        for metric in METRICS:
            values = getattr(scores, metric)
            means = [float(values[index].mean()) for index in groups.values()]
            row[metric] = [*means, float(np.mean(means))] if means else []
        rows.append(row | dict(given.get(name, {})))
    return {"columns": [*groups, "average"] if groups else [], "rows": rows}


def average(
    values: Float[np.ndarray, " patches"],
    tasks: Sequence[tuple[str, ...]],
    *,
    task_order: Sequence[str],
) -> float:
    """The mean over degradations of the mean over their patches: a table's last column.

    Args:
        values: One for each patch.
        tasks: For each patch its degradations.
        task_order: Degradations by themselves; where there are no such patches, those of several at
            once are averaged, by how many they are.
    """
    groups = _columns(tasks, "single", task_order) or _columns(tasks, "mixed", task_order)
    return float(np.mean([values[index].mean() for index in groups.values()]))


def summary(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The headline numbers, from the tables (each with `distribution` and `kind` beside)."""
    out: dict[str, Any] = {metric: {} for metric in METRICS}
    out["mixed"] = {metric: {} for metric in METRICS}
    for entry in tables:
        place = out if entry["kind"] == "single" else out["mixed"]
        for metric in METRICS:
            averages = {r["method"]: r[metric][-1] for r in entry["rows"] if r[metric]}
            if averages:
                chosen = {m.replace(" ", "_"): averages[m] for m in averages}
                place[metric][entry["distribution"]] = chosen
    for place in (out, out["mixed"]):
        place["gain_db"] = {
            distribution: values["routed"] - values["root"]
            for distribution, values in place["psnr_rgb"].items()
        }
    return out


def routing(tree: Tree, data: Evaluated, *, task_order: Sequence[str]) -> dict[str, Any]:
    """Where each degradation was sent, and what the choice of level lost against the best one.

    Returns:
        `rows` (tasks, then `mixed`), `leaves` and `levels` (shares by row), `mean_level` by row,
        `agreement_with_oracle` (share of patches sent to the best level of their path) and
        `lost_db` (mean PSNR lost against it), as in the paper's table O.
    """
    leaves, levels = data.leaves, data.levels
    groups = _columns(data.tasks, "single", task_order)
    mixed = np.flatnonzero([len(tasks) > 1 for tasks in data.tasks])
    if len(mixed):
        groups["mixed"] = mixed
    psnr = node_table(_by_expert(data, "psnr_rgb"), tree)
    audit = audit_routes(data.routes, psnr, tree, inputs=data.degraded.psnr_rgb)
    return {
        "rows": list(groups),
        "leaves": [_shares(leaves[g], tree.num_leaves) for g in groups.values()],
        "levels": [_shares(levels[g], tree.num_levels) for g in groups.values()],
        "mean_level": [float(levels[g].mean()) for g in groups.values()],
        "agreement_with_oracle": audit.agreement,
        "lost_db": audit.lost_level_db,
    }


def shift(tree: Tree, points: Mapping[float, Evaluated]) -> dict[str, Any]:
    """Levels and PSNR as inputs move out of distribution (paper 000, figure 5).

    Args:
        tree: The hierarchy.
        points: An evaluation set at each point, from 0 (mildest) to 1 (severest).

    Returns:
        For `single` and `mixed`, where there are such patches at every point, a list along the
        points for each of `point`, `mean_level`, `best_mean_level` (of the best level on the path)
        and the mean PSNR in dB of `degraded`, `root` (one network), `tree_root`, `finest`, `routed`
        and `oracle`.
    """
    curves: dict[str, Any] = {}
    for kind in ("single", "mixed"):
        made = [_at_point(tree, point, data, kind) for point, data in points.items()]
        if made and all(made):
            curves[kind] = {name: [one[name] for one in made] for name in made[0]}
    return curves


def _at_point(tree: Tree, point: float, data: Evaluated, kind: str) -> dict[str, float]:
    wanted = [(len(tasks) > 1) == (kind == "mixed") for tasks in data.tasks]
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return {}
    psnr = node_table(_by_expert(data, "psnr_rgb"), tree)[rows]
    inputs = data.degraded.psnr_rgb[rows]
    audit = audit_routes([data.routes[row] for row in rows.tolist()], psnr, tree, inputs=inputs)
    return {
        "point": point,
        "mean_level": audit.mean_level,
        "best_mean_level": audit.best_mean_level,
        "degraded": float(data.degraded.psnr_rgb[rows].mean()),
        "root": float(data.root.psnr_rgb[rows].mean()),
        "tree_root": audit.psnr_root,
        "finest": audit.psnr_finest,
        "routed": audit.psnr_routed,
        "oracle": audit.psnr_best_level,
    }


def gains_over_parent(
    tree: Tree, leaves: Int[np.ndarray, " patches"], experts: Mapping[int, Scores]
) -> dict[int, float]:
    """Held-out PSNR of each expert minus that of the one above it, on the expert's own patches.

    Args:
        tree: The hierarchy.
        leaves: The cluster (not the router's choice) of each patch.
        experts: Scores by node index.

    Returns:
        dB by expert; without the root, and without experts that no patch belongs to.
    """
    gains = {}
    for expert in tree.experts():
        parent = tree.parent_expert(expert)
        own = np.isin(leaves, tree.nodes[expert].leaves)
        if parent is not None and own.any():
            gain = experts[expert].psnr_rgb[own] - experts[parent].psnr_rgb[own]
            gains[expert] = float(gain.mean())
    return gains


def _by_expert(data: Evaluated, name: str) -> dict[int, Float[np.ndarray, " patches"]]:
    return {node: getattr(scores, name) for node, scores in data.experts.items()}


def _best(
    psnr: Float[np.ndarray, "patches nodes"], candidates: Int[np.ndarray, "patches candidates"]
) -> Int[np.ndarray, " patches"]:
    """Of each row's candidates the node with the best PSNR; of equals the first."""
    choice = np.take_along_axis(psnr, candidates, axis=1).argmax(axis=1)
    return np.take_along_axis(candidates, choice[:, None], axis=1)[:, 0]


def _choose(
    columns: Mapping[str, Float[np.ndarray, "patches nodes"]], nodes: Int[np.ndarray, " patches"]
) -> Scores:
    rows = np.arange(len(nodes))
    return Scores(**{name: column[rows, nodes] for name, column in columns.items()})


def _columns(
    tasks: Sequence[tuple[str, ...]], kind: Literal["single", "mixed"], task_order: Sequence[str]
) -> dict[str, Int[np.ndarray, " some"]]:
    if kind == "single":
        names = {name: [t == (name,) for t in tasks] for name in task_order}
    else:
        sizes = sorted({len(t) for t in tasks if len(t) > 1})
        names = {f"{size} at once": [len(t) == size for t in tasks] for size in sizes}
    return {name: np.flatnonzero(mask) for name, mask in names.items() if any(mask)}


def _shares(values: Int[np.ndarray, " some"], size: int) -> list[float]:
    return [float(share) for share in np.bincount(values, minlength=size) / max(len(values), 1)]
