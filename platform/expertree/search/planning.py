"""Plans a trial of a search: cuts its tree, and finds which experts it needs."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from expertree.degradation.fresh import RealMaps
from expertree.errors import GroupingError
from expertree.events import EventLog
from expertree.hierarchy import ROOT, compositions, silhouette_rows, silhouettes
from expertree.owners import Owner
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.experts import ExpertPlan, Samples, own_experts, plan_experts
from expertree.pipeline.networks import label_of
from expertree.pipeline.runner import LocalRunner, Runner
from expertree.pipeline.score import Column
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import NotMadeError, Workbench, key_of
from expertree.pipeline.tables import read_labels
from expertree.pipeline.tree import Hierarchy, cut_tree, read_rows, shard_tree
from expertree.scheduling.tasks import TrainingTask
from expertree.search.lane_pieces import PieceWork, ScoreWork
from expertree.search.record import Node
from expertree.search.settings import SearchConfig, trial_config
from expertree.search.trial_plan import ExpertNeed, Milestone, TrialPlan
from expertree.storage import Storage

ROUTE, TRAIN = "route", "train"
SELECT_IN, SELECT_OUT = "select_in", "select_out"
SETS = (ROUTE, SELECT_IN, SELECT_OUT)
"""Patch sets that experts are scored on: those of the routers, and those that trees are chosen by,
which no report reads."""

_NUM_DOMINANT = 3
_NUM_SILHOUETTE = 2_000
"""Samples that a silhouette compares all pairs of; takes a second, and is good to a hundredth."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SearchSetup:
    """What all trials have in common, made by the driver before the first.

    Attributes:
        config: Configuration of the search.
        tables: Table of each patch set, by name.
        embeddings: Embeddings of each patch set, by name.
        inputs: Scores of the patches as they are, by patch set.
        measures: What routers read of the patches beside embeddings, by patch set.
        extractor: Extractor that made the embeddings.
        kinds: Degradations that a trial's mean is over: those that are synthesised, then the other
            kinds of pairs.
        most_groups: Most groups on the finest level of any trial; None where that is not known.
        notes: Directory where lanes leave a note of each piece that they trained.
        maps: Real maps for patches that are degraded anew during training.
        owner: Job in whose name results are held while they are made.
    """

    config: SearchConfig
    tables: Mapping[str, Storage]
    embeddings: Mapping[str, Storage]
    inputs: Mapping[str, Storage]
    measures: Mapping[str, Storage]
    extractor: Storage
    kinds: tuple[str, ...]
    most_groups: int | None
    notes: Storage
    maps: RealMaps
    owner: Owner | None = None


@contextlib.contextmanager
def quiet_bench(
    config: BuildConfig, runner: Runner | None, owner: Owner | None = None
) -> Iterator[Workbench]:
    """Open a workbench that reports no stages; without a runner it makes nothing."""
    with tempfile.TemporaryDirectory(prefix="expertree-") as folder:
        bench = Workbench(
            store=Storage.open(config.store),
            events=EventLog(Path(folder) / "events.jsonl"),
            runner=LocalRunner(config.cluster) if runner is None else runner,
            on_stage=lambda *_: None,
            owner=owner,
            is_dry=runner is None,
        )
        with bench:
            yield bench


def plan_stored(setup: SearchSetup, trials: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many of the experts of trials are in the store, and how many there are.

    Only trials whose trees are in the store count; nothing is made.
    """
    found: dict[str, bool] = {}
    for overrides in trials:
        with contextlib.suppress(NotMadeError):
            plan = plan_trial(setup, overrides, None)
            found |= {need.key: need.stops[-1].result.is_done() for need in plan.needs}
    return sum(found.values()), len(found)


def plan_trial(
    setup: SearchSetup, overrides: Mapping[str, Any], runner: Runner | None
) -> TrialPlan:
    """Cut a trial's tree and say which experts it needs.

    Args:
        setup: What all trials have in common.
        overrides: Overrides of the trial.
        runner: Runner that cuts the tree and copies its images; without one nothing is made.

    Raises:
        ExpertreeError: If there can be no such tree; one sentence says why.
    """
    config = trial_config(setup.config, overrides)
    table = setup.tables[TRAIN]
    with quiet_bench(config, runner, setup.owner) as bench:
        hierarchy = cut_tree(config, bench, setup.extractor, setup.embeddings[TRAIN])
        shards, shard_leaves = _shards(setup, config, bench, hierarchy)
        plans = plan_experts(
            bench,
            config,
            hierarchy.tree,
            Samples(
                leaf_of=hierarchy.leaf_of,
                table=table,
                shards=shards,
                shard_leaves=shard_leaves,
                extractor=setup.extractor,
            ),
        )
        own = own_experts(plans)
        served = set(own) if config.hierarchy.has_root else set(own) - {ROOT}
        needed = _with_parents(own, served)
        needs = tuple(
            _need(setup, bench, node, plan, shards, served=node in served)
            for node, plan in own.items()
            if node in needed
        )
    return TrialPlan(
        tree=tuple(_nodes(setup, hierarchy, own, served)),
        needs=needs,
        measured={} if runner is None else _silhouettes(setup, hierarchy),
    )


def _shards(
    setup: SearchSetup, config: BuildConfig, bench: Workbench, hierarchy: Hierarchy
) -> tuple[Storage, dict[int, list[int]] | None]:
    """Return the training images by leaf, and which of their leaves each leaf of the tree is.

    Cuts of one dendrogram share the shards of the finest cut, so that images are written once.
    """
    table = setup.tables[TRAIN]
    if config.hierarchy.method == "bisecting" and setup.most_groups:
        with contextlib.suppress(GroupingError):
            shape = (1, setup.most_groups) if setup.most_groups > 1 else (1,)
            finest = cut_tree(
                dataclasses.replace(
                    config, hierarchy=dataclasses.replace(config.hierarchy, groups=shape)
                ),
                bench,
                setup.extractor,
                setup.embeddings[TRAIN],
            )
            shard_leaves = leaves_below(hierarchy.leaves, finest.leaves)
            if shard_leaves is not None:
                return shard_tree(bench, table, finest), shard_leaves
    return shard_tree(bench, table, hierarchy), None


def leaves_below(
    leaves: np.ndarray[Any, np.dtype[np.int64]], finer: np.ndarray[Any, np.dtype[np.int64]]
) -> dict[int, list[int]] | None:
    """Return the leaves of a finer tree that make up each leaf; None if they do not nest.

    Args:
        leaves: Leaf of each sample.
        finer: Leaf of each of the same samples in the finer tree.
    """
    pairs = np.unique(np.stack([finer, leaves], axis=1), axis=0)
    if len(np.unique(pairs[:, 0])) < len(pairs):
        return None
    below: dict[int, list[int]] = {}
    for fine, leaf in pairs.tolist():
        below.setdefault(leaf, []).append(fine)
    return below


def _with_parents(plans: Mapping[int, ExpertPlan], served: set[int]) -> set[int]:
    """Return the nodes of experts that may be chosen, and of those that they start from."""
    node_of = {plan.key: node for node, plan in plans.items()}
    needed = set(served)
    waiting = list(served)
    while waiting:
        parent = plans[waiting.pop()].parent
        if parent is not None and node_of[parent] not in needed:
            needed.add(node_of[parent])
            waiting.append(node_of[parent])
    return needed


def _need(
    setup: SearchSetup,
    bench: Workbench,
    node: int,
    plan: ExpertPlan,
    shards: Storage,
    *,
    served: bool,
) -> ExpertNeed:
    work = ExpertWork(
        job=plan.job,
        shards=shards,
        files=plan.files,
        directory=plan.result,
        spec=plan.spec,
        device="cuda" if bench.cluster.use_gpu else "cpu",
        maps=setup.maps,
        owner=setup.owner,
    )
    ends = [round(f * plan.job.num_samples) for f in setup.config.search.fractions]
    parts = []
    for num_samples in ends[:-1]:
        spec = {"expert": plan.key, "num_samples": num_samples}
        parts.append((num_samples, bench.place("snapshot", spec), spec))
    results = [*(snapshot for _, snapshot, _ in parts), plan.result]
    return ExpertNeed(
        key=plan.key,
        label=plan.label,
        node=node,
        served=served,
        parent=plan.parent,
        stops=tuple(
            _stop(
                setup,
                bench,
                plan,
                result,
                PieceWork(
                    expert=work,
                    parts=tuple(parts[: rung + 1]),
                    in_full=result is plan.result,
                    notes=setup.notes,
                ),
                end=end,
            )
            for rung, (end, result) in enumerate(zip(ends, results, strict=True))
        ),
    )


def _stop(
    setup: SearchSetup,
    bench: Workbench,
    plan: ExpertPlan,
    result: Storage,
    work: PieceWork,
    *,
    end: int,
) -> Milestone:
    columns = []
    for name in SETS:
        spec = {"expert": key_of(result), "table": key_of(setup.tables[name])}
        columns.append(
            Column(
                expert=result,
                table=setup.tables[name],
                directory=bench.place("score", spec),
                spec=spec,
            )
        )
    key = f"{plan.key}@{end}"
    score_work = ScoreWork(expert=result, columns=tuple(columns), device=work.expert.device)
    return Milestone(
        key=key,
        num_samples=end,
        result=result,
        train=TrainingTask(key=key, label=plan.label, cost=float(end), work=work),
        score=TrainingTask(
            key=f"{key} scored",
            label=f"{plan.label}, scored",
            cost=0.0,
            is_urgent=True,  # a trial waits for it, maybe to be stopped
            work=score_work,
        ),
        columns={name: column.directory for name, column in zip(SETS, columns, strict=True)},
    )


def _silhouettes(setup: SearchSetup, hierarchy: Hierarchy) -> dict[str, float]:
    """Return the silhouette of each level's groups, by `tree.silhouette.<level>`."""
    rows = silhouette_rows(len(hierarchy.leaves), max_samples=_NUM_SILHOUETTE)
    sample = read_rows([setup.embeddings[TRAIN]], rows)
    found = silhouettes(hierarchy.tree, sample, hierarchy.leaves[rows])
    return {
        f"tree.silhouette.{level}": round(value, 4)
        for level, value in enumerate(found)
        if value is not None
    }


def _nodes(
    setup: SearchSetup,
    hierarchy: Hierarchy,
    plans: Mapping[int, ExpertPlan],
    served: set[int],
) -> Iterator[Node]:
    tree = hierarchy.tree
    labels = read_labels(setup.tables[TRAIN]).map(label_of)
    made_of = compositions(tree, hierarchy.leaves, labels)
    for node in tree.nodes:
        expert = tree.expert_of(node.index)
        yield Node(
            index=node.index,
            level=node.level,
            parent=node.parent,
            num_samples=node.num_samples,
            dominant=[
                (name, round(share, 4))
                for name, share in made_of[node.index].shares[:_NUM_DOMINANT]
            ],
            served=expert in served,
            expert=plans[expert].key if expert in served else None,
        )
