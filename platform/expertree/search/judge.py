"""Judges a trial of a search: trains its routers, and measures what its tree reaches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from expertree.evaluation import average
from expertree.hierarchy import ROOT, Tree
from expertree.pipeline.routers import choose_stored, train_router_on
from expertree.pipeline.runner import OnDone, Runner
from expertree.pipeline.score_columns import read_scores
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench, key_of
from expertree.pipeline.tables import read_labels
from expertree.pipeline.tree import cut_tree
from expertree.routing import load_router, node_table, routed_scores
from expertree.routing.losses import choice_nodes
from expertree.scheduling.budget import device_hours
from expertree.search.planning import (
    ROUTE,
    SELECT_IN,
    SELECT_OUT,
    SETS,
    TRAIN,
    SearchSetup,
    quiet_bench,
)
from expertree.search.settings import trial_config
from expertree.search.trial_plan import TrialResult
from expertree.storage import Storage
from expertree.training import LOG


def judge_trial(
    setup: SearchSetup,
    overrides: Mapping[str, Any],
    experts: Mapping[int, Storage],
    num_samples: Mapping[int, int],
    runner: Runner,
) -> TrialResult:
    """Train a trial's routers on its experts' scores, and measure what the tree reaches.

    Args:
        setup: What all trials have in common.
        overrides: Overrides of the trial.
        experts: Experts that it needs as they are at a rung, by node; their scores are stored.
        num_samples: Samples that each expert sees in full, by node.
        runner: Runner that makes what is missing.
    """
    config = trial_config(setup.config, overrides)
    with quiet_bench(config, runner, setup.owner) as bench:
        hierarchy = cut_tree(config, bench, setup.extractor, setup.embeddings[TRAIN])
        served = {
            node: own for node, own in experts.items() if node != ROOT or config.hierarchy.has_root
        }

        def columns(name: str) -> dict[int, Storage]:
            table = key_of(setup.tables[name])
            return {
                node: bench.place("score", {"expert": key_of(own), "table": table})
                for node, own in served.items()
            }

        router_result = train_router_on(
            config,
            bench,
            hierarchy,
            embeddings=[setup.embeddings[ROUTE]],
            columns={node: [column] for node, column in columns(ROUTE).items()},
            inputs=[setup.inputs[ROUTE]],
            measures=[setup.measures[ROUTE]],
            training=[(setup.tables[TRAIN], setup.embeddings[TRAIN])],
        )
        validation = {name: columns(name) for name in SETS if name != ROUTE}
        found = _judge(setup, bench, hierarchy.tree, router_result, validation)
    num_parameters = sum(own.read_json("expert.json")["num_parameters"] for own in served.values())
    return TrialResult(
        psnr_in=found[SELECT_IN]["routed"],
        psnr_out=found[SELECT_OUT]["routed"],
        best_level_in=found[SELECT_IN]["best_level"],
        best_level_out=found[SELECT_OUT]["best_level"],
        gpu_hours=sum(
            _hours_in_full(own, num_samples[node], config) for node, own in experts.items()
        ),
        measured={"tree.num_parameters": float(num_parameters), **found[SELECT_IN]["sent"]},
    )


def _judge(
    setup: SearchSetup,
    bench: Workbench,
    tree: Tree,
    router: Storage,
    validation: Mapping[str, Mapping[int, Storage]],
) -> dict[str, Any]:
    """Return what the routed tree reaches on each validation set, from the store or made now."""
    spec = {
        "router": key_of(router),
        "scores": {
            name: [key_of(column) for column in own.values()] for name, own in validation.items()
        },
        "inputs": [key_of(setup.inputs[name]) for name in validation],
        "tasks": list(setup.kinds),
        "told": ["routed", "best_level", "sent"],
    }

    def make(result: Storage, _: OnDone) -> None:
        found = {name: _reached(setup, tree, router, name, own) for name, own in validation.items()}
        result.write_json("judged.json", found)

    found: dict[str, Any] = bench.run("judge", spec, make).read_json("judged.json")
    return found


def _reached(
    setup: SearchSetup,
    tree: Tree,
    router_result: Storage,
    name: str,
    columns: Mapping[int, Storage],
) -> dict[str, Any]:
    """Return what a trial reaches on a patch set.

    Returns:
        `routed` and `best_level`: mean PSNR (dB) over degradations, and with the best level of each
        path; what is left as it is counts with its input. `sent`: the share of each degradation's
        patches that goes to each level.
    """
    tasks = read_labels(setup.tables[name])
    router = load_router(router_result)
    routes = choose_stored(router, tree, setup.embeddings[name], setup.measures[name])
    by_expert = {node: read_scores(column).psnr_rgb for node, column in columns.items()}
    psnr = node_table(by_expert, tree, absent=np.min)
    paths = choice_nodes(tree)[[route.leaf for route in routes]]
    rows = np.arange(len(routes))
    inputs = read_scores(setup.inputs[name]).psnr_rgb

    def mean(values: Float[np.ndarray, " patches"]) -> float:
        return average(values, tasks, task_order=setup.kinds)

    return {
        "routed": mean(routed_scores(routes, psnr, inputs)),
        "best_level": mean(psnr[rows[:, None], paths].max(axis=1)),
        "sent": _sent(tree, tasks, [route.level for route in routes]),
    }


def _sent(tree: Tree, tasks: Sequence[tuple[str, ...]], levels: Sequence[int]) -> dict[str, float]:
    """Return the shares of single degradations' patches sent to each level.

    Keys are `routed.<degradation>.<level>`.
    """
    by_task: dict[str, list[int]] = {}
    for names, level in zip(tasks, levels, strict=True):
        if len(names) == 1:
            by_task.setdefault(names[0], []).append(level)
    return {
        f"routed.{task}.{level}": round(own.count(level) / len(own), 4)
        for task, own in by_task.items()
        for level in range(len(tree.groups))
    }


def _hours_in_full(expert: Storage, num_samples: int, config: BuildConfig) -> float:
    """Return the hours of training an expert on all its samples, by how long it took so far."""
    log = expert.read_json(LOG)
    seconds = float(log["seconds"]) / max(1, int(log["num_samples"])) * num_samples
    return device_hours(seconds, config.cluster.devices_per_lane)
