"""Runs a comparison: what is common, rates, all trainings at once, scores, routers, latency.

Each result is stored by the hash of what made it, as in a build: a comparison that was killed goes
on where it was, and a method that is added trains only itself.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from expertree.comparison.choosing import make_choices
from expertree.comparison.latency import measure_latency
from expertree.comparison.matching import (
    Cost,
    Kind,
    cost_of_sample,
    ends_of,
    kinds_of,
    steady_speed,
)
from expertree.comparison.plan import (
    RATES,
    ROUTE,
    VAL_IN,
    VAL_OUT,
    Common,
    Training,
    make_common,
    plan_search,
    plan_timed,
    plan_training,
    united,
)
from expertree.comparison.routers import Routed, makes_bundle, train_routers
from expertree.comparison.settings import CompareConfig
from expertree.evaluation import AS_IS, Evaluated, Scores, average, chosen_scores
from expertree.hierarchy import assign
from expertree.pipeline.bundles import make_bundle
from expertree.pipeline.costs import budget_of
from expertree.pipeline.experts import ExpertPlan, own_experts, train_experts
from expertree.pipeline.patch_sets import score_tables
from expertree.pipeline.routers import choose_stored
from expertree.pipeline.runner import OnStatus
from expertree.pipeline.score import INPUTS, MEASURES, Measured, Scored, ToldExpert
from expertree.pipeline.score_columns import read_scores
from expertree.pipeline.sources import Material
from expertree.pipeline.stages import NotMadeError, Workbench, key_of
from expertree.pipeline.tables import read_embeddings, read_labels, read_pictures
from expertree.routing import load_router
from expertree.routing.losses import choice_nodes
from expertree.storage import Storage
from expertree.training import LOG

REPORTED = (VAL_IN, VAL_OUT)

Nodes = Int[np.ndarray, " patches"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reached:
    """What a method reached with one seed.

    Attributes:
        training: Its training.
        scores: Its scores, patch by patch, by patch set.
        nodes: For a tree, the node that each patch of a set was sent to; `AS_IS` for none.
        routed: For a tree with a router, the trained one and the experts that serve.
    """

    training: Training
    scores: Mapping[str, Scores]
    nodes: Mapping[str, Nodes] = dataclasses.field(default_factory=dict)
    routed: Routed | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Compared:
    """Everything that a comparison made.

    Attributes:
        common: What methods have in common.
        num_photographs: Photographs, and pairs, that the reported patches are cut from.
        searched: Trainings with each rate, by method.
        reached: What each method reached with each seed, methods in order.
        inputs: Scores of the patches as they are, by patch set.
        tasks: Degradations of each patch, by patch set.
        choices: Stored choices of networks that make some, by key.
        latency_ms: Milliseconds for an image, by key of the network or extractor; those of routers'
            measures by `latency.MEASURES`.
        bundles: Bundle of each method that makes one, with the first seed, by method.
    """

    common: Common
    num_photographs: int
    searched: Mapping[str, Sequence[Training]]
    reached: Sequence[Reached]
    inputs: Mapping[str, Scores]
    tasks: Mapping[str, Sequence[tuple[str, ...]]]
    choices: Mapping[str, Storage]
    latency_ms: Mapping[str, float]
    bundles: Mapping[str, Storage]


def compare(
    config: CompareConfig, material: Material, bench: Workbench, on_status: OnStatus
) -> Compared:
    """Run all stages; what is in the store is taken from it."""
    common = make_common(config, bench, material)
    cost = _cost(config, bench, common, on_status)
    searched = _search(config, bench, common, cost, on_status)
    trainings = [
        plan_training(
            config,
            bench,
            common,
            method,
            cost,
            seed=seed,
            factor=_best_factor(bench, common, searched.get(method.name, ())),
        )
        for method in config.methods
        for seed in config.seeds
    ]
    plans = united(trainings)
    _train(config, bench, common, plans, on_status, stage="experts")
    scores = _score(config, bench, common, trainings)
    reached = [_reach(bench, common, training, scores) for training in trainings]
    choices = make_choices(bench, common, trainings)
    first = [t.plans[0] for t in trainings if t.seed == config.seeds[0]]
    latency = measure_latency(
        bench,
        {plan.key: plan.result for plan in first},
        common.extractor,
        side_px=config.latency_px,
        measures=config.router.reads_measures and any(one.routed for one in reached),
    )
    bundles = {
        one.training.method.name: _bundle(bench, common, one, scores)
        for one in reached
        if makes_bundle(config, one.training)
    }
    return Compared(
        common=common,
        num_photographs=len(set[str]().union(*(read_pictures(common.tables[n]) for n in REPORTED))),
        searched=searched,
        reached=reached,
        inputs={name: read_scores(scores[INPUTS, name]) for name in REPORTED},
        tasks={name: list(read_labels(common.tables[name])) for name in REPORTED},
        choices=choices,
        latency_ms=latency,
        bundles=bundles,
    )


def _cost(config: CompareConfig, bench: Workbench, common: Common, on_status: OnStatus) -> Cost:
    """Return the cost of a sample; with `match=seconds` after measuring speeds, one at a time."""
    rates: dict[Kind, float] = {}
    if config.match == "seconds":
        timed = plan_timed(config, bench, common, kinds_of(config))
        for kind, own in timed.items():
            _train(config, bench, common, own, on_status, stage="speed")
            ends = ends_of(kind, config.experts.recipe)
            rates[kind] = steady_speed(own[-1].result.read_json(LOG), ends)
    return cost_of_sample(config.match, config.experts.recipe, rates)


def _search(
    config: CompareConfig, bench: Workbench, common: Common, cost: Cost, on_status: OnStatus
) -> dict[str, list[Training]]:
    """Train every method with every rate, and score what they give on the patches for choosing."""
    if not config.rates:
        return {}
    found = {
        method.name: plan_search(config, bench, common, method, cost) for method in config.methods
    }
    plans = united(training for own in found.values() for training in own)
    _train(config, bench, common, plans, on_status, stage="rates")
    score_tables(
        bench,
        common.tables,
        {plan.key: plan.result for plan in plans},
        [(plan.key, RATES) for plan in plans],
    )
    return found


def _best_factor(bench: Workbench, common: Common, searched: Sequence[Training]) -> float:
    """Return the rate that is best on the patches for choosing; 1 where none was searched."""
    if not searched:
        return 1.0
    table = common.tables[RATES]
    tasks = read_labels(table)

    def reached(training: Training) -> float:
        spec = {"expert": training.plans[0].key, "table": key_of(table)}
        psnr = read_scores(bench.place("score", spec)).psnr_rgb
        return average(psnr, tasks, task_order=common.kinds)

    return max(searched, key=reached).factor


def _train(
    config: CompareConfig,
    bench: Workbench,
    common: Common,
    plans: Sequence[ExpertPlan],
    on_status: OnStatus,
    *,
    stage: str,
) -> None:
    """Train the networks that are not in the store, in one go, whatever method they are of."""
    cached = all(plan.result.is_done() for plan in plans)
    if bench.is_dry and not cached:
        raise NotMadeError(stage, plans)
    with bench.timed(stage, cached=cached):
        train_experts(
            bench,
            plans,
            common.shards,
            on_status,
            config=config,
            tree=key_of(common.tree.result),
            budget=budget_of(config.cluster, plans),
            maps=common.maps,
        )


def _score(
    config: CompareConfig, bench: Workbench, common: Common, trainings: Sequence[Training]
) -> dict[tuple[str, str], Storage]:
    """Return the scores of all networks on the sets that are reported, and routers' on theirs.

    The keys are those of `_scored_as` and names of patch sets.
    """
    sets = (ROUTE, *REPORTED)
    experts: dict[str, Scored] = {INPUTS: None, MEASURES: Measured.like(common.extractor)}
    wanted = [(key, name) for key in experts for name in sets]
    for training in trainings:
        chooses = training.method.tree and training.method.choice == "router"
        routed = chooses or makes_bundle(config, training)
        for plan in training.plans:
            key = _scored_as(training, plan)
            experts[key] = ToldExpert(expert=plan.result) if training.method.told else plan.result
            wanted += [(key, name) for name in (sets if routed else REPORTED)]
    return score_tables(bench, common.tables, experts, list(dict.fromkeys(wanted)))


def _scored_as(training: Training, plan: ExpertPlan) -> str:
    return f"{plan.key}, told" if training.method.told else plan.key


def _reach(
    bench: Workbench,
    common: Common,
    training: Training,
    scores: Mapping[tuple[str, str], Storage],
) -> Reached:
    if not training.method.tree:
        key = _scored_as(training, training.plans[0])
        return Reached(
            training=training,
            scores={name: read_scores(scores[key, name]) for name in REPORTED},
        )
    tree = training.hierarchy.tree
    routed = None
    if training.method.choice == "router":
        routed = train_routers(bench, common, training, scores)
    serving = own_experts(training.plans) if routed is None else routed.serving
    found, nodes = {}, {}
    for name in REPORTED:
        data = Evaluated(
            tasks=read_labels(common.tables[name]),
            inputs=read_scores(scores[INPUTS, name]),
            comparisons={},
            experts={node: read_scores(scores[own.key, name]) for node, own in serving.items()},
            routes=[],
        )
        nodes[name] = _nodes(common, training, routed, name, scores)
        found[name] = chosen_scores(tree, data, nodes[name])
    return Reached(training=training, scores=found, nodes=nodes, routed=routed)


def _bundle(
    bench: Workbench,
    common: Common,
    reached: Reached,
    scores: Mapping[tuple[str, str], Storage],
) -> Storage:
    """Return a method as a bundle; one network gets routers that may leave an image as it is."""
    training = reached.training
    routed = reached.routed or train_routers(bench, common, training, scores)
    tree = training.hierarchy.result
    return make_bundle(bench, common.extractor, tree, routed.router, routed.serving)


def _nodes(
    common: Common,
    training: Training,
    routed: Routed | None,
    name: str,
    scores: Mapping[tuple[str, str], Storage],
) -> Nodes:
    """Return the node that each patch of a set is sent to."""
    tree, embeddings = training.hierarchy.tree, common.embeddings[name]
    if routed is None:
        found: Nodes = choice_nodes(tree)[assign(tree, read_embeddings(embeddings)[1]), -1]
        return found
    router = load_router(routed.router)
    routes = choose_stored(router, tree, embeddings, scores[MEASURES, name])
    sent = [AS_IS if route.expert is None else route.node for route in routes]
    return np.array(sent, dtype=np.int64)
