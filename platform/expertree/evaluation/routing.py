"""Summarises where patches were sent, and what another choice would have given."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from expertree.evaluation.scores import AS_IS, Evaluated, Scores, methods
from expertree.evaluation.tables import columns_of
from expertree.hierarchy import Tree
from expertree.routing import node_table
from expertree.routing.losses import choice_nodes

_SHIFT_METHODS = (
    *("input", "one_network", "one_network_tree"),
    *("root", "finest_level", "routed", "best_level"),
)


def routing(tree: Tree, data: Evaluated, *, task_order: Sequence[str]) -> dict[str, Any]:
    """Return where each degradation was sent, and what the choice of level lost against the best.

    Returns:
        `rows` (tasks, then `mixed`); by row the share left as it is (`as_is`), and with it, adding
        up to 1, the shares sent to each of the `leaves` and of the `levels`; `mean_level` by row,
        of what was not left (None if all was); over all patches `share_as_is`,
        `agreement_with_best_level` (share that got at least the best level of its path) and
        `lost_db` (mean PSNR lost against it), as in the paper's table O.
    """
    leaves, levels, sent = data.leaves, data.levels, data.nodes != AS_IS
    groups = columns_of(data.tasks, "single", task_order)
    mixed = np.flatnonzero([len(tasks) > 1 for tasks in data.tasks])
    if len(mixed):
        groups["mixed"] = mixed
    reached = methods(tree, data)
    lost = reached["best_level"].scores.psnr_rgb - reached["routed"].scores.psnr_rgb
    some = {name: group[sent[group]] for name, group in groups.items()}
    return {
        "rows": list(groups),
        "as_is": [float((~sent[g]).mean()) for g in groups.values()],
        "leaves": [_shares(leaves[some[n]], tree.num_leaves, len(g)) for n, g in groups.items()],
        "levels": [_shares(levels[some[n]], tree.num_levels, len(g)) for n, g in groups.items()],
        "mean_level": [_mean(levels[own]) for own in some.values()],
        "share_as_is": float((~sent).mean()),
        "agreement_with_best_level": float((lost <= 0).mean()),
        "lost_db": float(lost.mean()),
    }


def shift(tree: Tree, points: Mapping[float, Evaluated]) -> dict[str, Any]:
    """Return levels and PSNR as inputs move out of distribution (paper 000, figure 5).

    Args:
        tree: The hierarchy.
        points: An evaluation set at each point, from 0 (mildest) to 1 (severest).

    Returns:
        For `single` and `mixed`, where there are such patches at every point, a list along the
        points for each of `point`, `mean_level` (of what was not left as it is),
        `best_mean_level` (of the best level on the path) and the mean PSNR in dB of the methods
        that were scored there, by name.
    """
    curves: dict[str, Any] = {}
    kinds: tuple[Literal["single", "mixed"], ...] = ("single", "mixed")
    for kind in kinds:
        made = [_at_point(tree, point, data, kind) for point, data in points.items()]
        if made and all(made):
            curves[kind] = {name: [one[name] for one in made] for name in made[0]}
    return curves


def clean_images(tree: Tree, data: Evaluated) -> dict[str, Any]:
    """Return what becomes of clean images, which need no restoration.

    Args:
        tree: The hierarchy.
        data: An evaluation set whose inputs are the clean images themselves.

    Returns:
        `num`; the share `left_as_is`; and of those that were not left the least and the mean PSNR
        against the input, `least_psnr_db` and `mean_changed_db`: None if all were left.
    """
    sent = data.nodes != AS_IS
    routed = methods(tree, data)["routed"].scores.psnr_rgb[sent]
    return {
        "num": len(sent),
        "left_as_is": float((~sent).mean()),
        "least_psnr_db": float(routed.min()) if len(routed) else None,
        "mean_changed_db": _mean(routed),
    }


def gains_over_parent(
    tree: Tree, leaves: Int[np.ndarray, " patches"], experts: Mapping[int, Scores]
) -> dict[int, float]:
    """Return each expert's held-out PSNR minus its parent's, on the expert's own patches.

    Args:
        tree: The hierarchy.
        leaves: The cluster (not the router's choice) of each patch.
        experts: Scores by node index.

    Returns:
        Gain in dB by expert; without the root, and without experts that no patch belongs to.
    """
    gains = {}
    for expert in tree.experts():
        parent = tree.parent_expert(expert)
        own = np.isin(leaves, tree.nodes[expert].leaves)
        if parent is not None and own.any():
            gain = experts[expert].psnr_rgb[own] - experts[parent].psnr_rgb[own]
            gains[expert] = float(gain.mean())
    return gains


def _at_point(
    tree: Tree, point: float, data: Evaluated, kind: Literal["single", "mixed"]
) -> dict[str, Any]:
    wanted = [len(tasks) == 1 if kind == "single" else len(tasks) > 1 for tasks in data.tasks]
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return {}
    reached = methods(tree, data)
    psnr = node_table(data.psnr_by_expert, tree)
    on_path = np.take_along_axis(psnr, choice_nodes(tree)[data.leaves], axis=1)[rows]
    sent = rows[data.nodes[rows] != AS_IS]
    return {
        "point": point,
        "mean_level": _mean(data.levels[sent]),
        "best_mean_level": _mean(on_path.argmax(axis=1)),
        **{
            name: float(reached[name].scores.psnr_rgb[rows].mean())
            for name in _SHIFT_METHODS
            if name in reached
        },
    }


def _mean(values: Float[np.ndarray, " some"] | Int[np.ndarray, " some"]) -> float | None:
    return float(values.mean()) if len(values) else None


def _shares(values: Int[np.ndarray, " some"], size: int, num_all: int) -> list[float]:
    return [float(share) for share in np.bincount(values, minlength=size) / max(num_all, 1)]
