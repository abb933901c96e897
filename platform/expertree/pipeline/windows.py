"""The stage that chooses by what windows each node's expert looks at large pictures.

Experts are trained on crops. Some of them judge a whole photograph best by the means over all of it
(how dark a room is), some by means over windows of about a crop's size (how dense haze is, near and
far). Which one does is measured, on pictures as large as photographs allow that no report shows.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from expertree.experts.backbones import has_windows
from expertree.experts.backbones.nafnet_layers import set_window
from expertree.experts.scoring import psnr_of
from expertree.hierarchy import Tree
from expertree.pipeline.earlier_build import FinishedBuild
from expertree.pipeline.experts import ExpertPlan
from expertree.pipeline.finetune import TakenOver
from expertree.pipeline.patch_sets import embed_tables, make_tables
from expertree.pipeline.runner import OnDone
from expertree.pipeline.score import PatchWorker, open_expert
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.sources import Material
from expertree.pipeline.stages import Workbench, key_of
from expertree.pipeline.tree import Hierarchy, assign_here
from expertree.storage import Storage

TIMES = (1.0, 1.5)
"""Sides of the windows that are tried, beside all of the picture, in sides of a patch. Smaller ones
would change what experts make of patches, which routers and reports are made by."""

MOST_PICTURES = 12
"""Pictures that an expert is tried on, at most."""

FEWEST_PICTURES = 4
"""An expert with fewer has the windows of its parent's."""

LEAST_GAIN_DB = 0.02
"""What windows must bring over all of the picture."""

ENOUGH = 0.9
"""Share of the best windows' gain that is enough for larger ones, which change a picture's parts
less differently."""

_WHOLE = "whole"
_FILE = "window.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Trial:
    """An expert to be tried with windows, on some pictures.

    Attributes:
        expert: The expert.
        table: Table of the pictures.
        rows: Pictures, by their places in the order of the ids.
        sides_px: Sides of the windows.
        directory: Directory for the result.
        spec: Plain data that says what the result is made from.
    """

    expert: Storage
    table: Storage
    rows: tuple[int, ...]
    sides_px: tuple[int, ...]
    directory: Storage
    spec: Mapping[str, Any]


def choose_windows(
    config: BuildConfig,
    bench: Workbench,
    *,
    material: Material,
    extractor: Storage,
    hierarchy: Hierarchy,
    serving: Mapping[int, ExpertPlan],
    past: FinishedBuild | None = None,
    taken: TakenOver | None = None,
) -> dict[int, int | None]:
    """Return the side in pixels of the windows of each node's expert; None for the whole picture.

    Where a build was grown or a bundle taken over, experts that serve the nodes that they served
    keep theirs. No expert has any whose network knows none. Where there are no pictures of 2.5
    sides of a patch, or `degradation.num_window` is 0, experts have those of the bundle, if any.

    Args:
        config: Configuration of the build.
        bench: The workbench.
        material: What the build is trained on.
        extractor: Result with the extractor, which says what node a picture belongs to.
        hierarchy: The tree.
        serving: The expert that serves each node, by node.
        past: The finished build that is grown.
        taken: What was taken over from a bundle.
    """
    able = {node: plan for node, plan in serving.items() if has_windows(plan.job.backbone)}
    known = {} if past is None else _windows_of(past, hierarchy)
    before: dict[int, int | None] = {}
    if taken is not None:
        known |= {(node, key_of(own)): taken.windows[node] for node, own in taken.experts.items()}
        served = {node: plan.node for node, plan in able.items() if plan.node is not None}
        before = {node: taken.windows[server] for node, server in served.items()}
    chosen = {node: known[node, p.key] for node, p in able.items() if (node, p.key) in known}
    wanted = {node: plan for node, plan in able.items() if node not in chosen}
    patch_set, large = config.degradation.window_set(), material
    if patch_set is not None:
        large = material.at_least(patch_set.patch_px)
    if patch_set is None or not wanted or not large.has_pictures(*patch_set.parts):
        return {node: chosen.get(node, before.get(node)) for node in serving}
    tables = make_tables(bench, {patch_set.name: patch_set}, large, seed=config.seed)
    embeddings = embed_tables(bench, tables, extractor)
    table, embedded = tables[patch_set.name], embeddings[patch_set.name]
    rows = rows_of_nodes(hierarchy.tree, assign_here(hierarchy.tree, embedded), wanted)
    found = _try_all(
        bench,
        {node: plan for node, plan in wanted.items() if len(rows[node]) >= FEWEST_PICTURES},
        rows,
        table,
        made_of={"embeddings": key_of(embedded), "tree": key_of(hierarchy.result)},
        patch_px=config.degradation.patch_px,
    )
    chosen |= {
        node: choose_window(result.read_json(_FILE)["psnr_db"]) for node, result in found.items()
    }
    chosen, tree = before | chosen, hierarchy.tree
    return {node: _own_or_parents(tree, node, chosen) if node in able else None for node in serving}


def rows_of_nodes(
    tree: Tree, leaves: Int64[np.ndarray, " pictures"], nodes: Sequence[int] | Mapping[int, Any]
) -> dict[int, tuple[int, ...]]:
    """Return pictures of each node, at most `MOST_PICTURES`, spread over all that it has.

    Args:
        tree: The tree.
        leaves: Leaf of each picture.
        nodes: The nodes.
    """
    paths = np.array([tree.path(leaf) for leaf in range(tree.num_leaves)])
    found = {}
    for node in nodes:
        own = np.flatnonzero((paths[leaves] == node).any(axis=1))
        places = np.linspace(0, len(own) - 1, min(len(own), MOST_PICTURES)).round().astype(int)
        found[node] = tuple(own[places].tolist())
    return found


def sides_of(patch_px: int, multiple_px: int) -> tuple[int, ...]:
    """Return the sides of the windows that are tried, on the grid to which networks pad patches."""
    return tuple(math.ceil(times * patch_px / multiple_px) * multiple_px for times in TIMES)


def choose_window(psnr: Mapping[str, Sequence[float]]) -> int | None:
    """Return the side of the windows for some pictures, None for all of the picture.

    Args:
        psnr: PSNR of each picture in dB, by the side in pixels as text, or `whole`.
    """
    whole = float(np.mean(psnr[_WHOLE]))
    gains = {int(side): float(np.mean(own)) - whole for side, own in psnr.items() if side != _WHOLE}
    best = max(gains.values())
    if best < LEAST_GAIN_DB:
        return None
    return max(side for side, gain in gains.items() if gain >= ENOUGH * best)


def _windows_of(past: FinishedBuild, hierarchy: Hierarchy) -> dict[tuple[int, str], int | None]:
    """Return the windows of a finished build, by node of the grown tree and expert that served it.

    A build whose bundle is no longer in the store has none that are known.
    """
    bundle = past.directory("bundle")
    if hierarchy.growth is None or not bundle.is_done():
        return {}
    spec, nodes = bundle.done()["spec"], hierarchy.growth.nodes
    sides = spec.get("windows", {})
    return {(nodes[int(old)], key): sides.get(old) for old, key in spec["experts"].items()}


def _own_or_parents(tree: Tree, node: int, chosen: Mapping[int, int | None]) -> int | None:
    place: int | None = node
    while place is not None:
        if place in chosen:
            return chosen[place]
        place = tree.parent_expert(place)
    return None


def _try_all(
    bench: Workbench,
    plans: Mapping[int, ExpertPlan],
    rows: Mapping[int, tuple[int, ...]],
    table: Storage,
    *,
    made_of: Mapping[str, Any],
    patch_px: int,
) -> dict[int, Storage]:
    """Return the result of each node's expert, from the store or made now."""
    specs = {
        node: {"expert": plan.key, "table": key_of(table), "node": node, **made_of}
        for node, plan in plans.items()
    }

    def make(missing: Mapping[int, Storage], on_done: OnDone) -> None:
        trials = [
            _Trial(
                expert=plans[node].result,
                table=table,
                rows=rows[node],
                sides_px=sides_of(patch_px, plans[node].job.backbone.multiple_px),
                directory=result,
                spec=specs[node],
            )
            for node, result in missing.items()
        ]
        use_gpu = bench.cluster.use_gpu
        items = [{"trial": trial} for trial in trials]
        bench.runner.for_each(_Tries, items, on_done, on_gpu=use_gpu, arguments=(use_gpu,))

    return bench.run_many("window", specs, make)


class _Tries(PatchWorker):
    """A worker that tries experts with windows."""

    def __call__(self, item: Mapping[str, Any]) -> None:
        trial: _Trial = item["trial"]
        if trial.directory.is_done():
            return
        expert = open_expert(trial.expert).to(self.device)
        pictures = self.patches(trial.table)
        psnr: dict[str, list[float]] = {}
        for side_px in (None, *trial.sides_px):
            set_window(expert, side_px)
            name = _WHOLE if side_px is None else str(side_px)
            psnr[name] = psnr_of(expert, pictures, trial.rows)
        trial.directory.write_json(_FILE, {"psnr_db": psnr})
        trial.directory.commit(dict(trial.spec))
