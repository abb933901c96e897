"""Runs a build, from photographs to a bundle, stage by stage.

Each stage's result is stored by the hash of what made it. So a build that was killed goes on where
it was, a second one finds everything, and one with another setting makes only what that changes.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from expertree.degradation.fresh import RealMaps
from expertree.degradation.table import CLEAN_SET
from expertree.errors import ResourceError
from expertree.hierarchy import ROOT
from expertree.pipeline.bundles import make_bundle
from expertree.pipeline.classical import choose_classical
from expertree.pipeline.costs import budget_of
from expertree.pipeline.earlier_build import FinishedBuild
from expertree.pipeline.experts import ExpertPlan, Kept, Samples, plan_experts, train_experts
from expertree.pipeline.extractor import make_extractor
from expertree.pipeline.finetune import TakenOver, assign_to_tree, take_over
from expertree.pipeline.follow_training import prepare_tracking
from expertree.pipeline.grow import grow_tree, keep_experts, past_of
from expertree.pipeline.networks import check_weights
from expertree.pipeline.patch_sets import embed_tables, make_tables, score_tables
from expertree.pipeline.routers import serving_plans, train_router_on
from expertree.pipeline.runner import OnStatus
from expertree.pipeline.score import CLASSICAL, INPUTS, MEASURES, Measured, Scored
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.sources import Material, list_material
from expertree.pipeline.stages import NotMadeError, Workbench, key_of
from expertree.pipeline.tree import Hierarchy, cut_tree, shard_tree
from expertree.pipeline.windows import choose_windows
from expertree.routing import (
    Router,
    load_router,
)
from expertree.storage import Storage

VALIDATION = ("val_in", "val_out")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Built:
    """Everything that a build made; directories are results in the store.

    `serving` has the expert that restores for each node: its own, unless that was pruned.
    `classical` has the name of the classical method of each degradation.
    `past` is the finished build that was grown, or None. `training` has the tables and embeddings
    of all patches that experts were trained on: this build's, then those of the builds before.
    """

    material: Material
    tables: Mapping[str, Storage]
    extractor: Storage
    embeddings: Mapping[str, Storage]
    hierarchy: Hierarchy
    shards: Storage
    experts: Sequence[ExpertPlan]
    serving: Mapping[int, ExpertPlan]
    classical: Mapping[str, str]
    scores: Mapping[tuple[str, str], Storage]
    router_result: Storage
    bundle: Storage
    past: FinishedBuild | None
    training: Sequence[tuple[Storage, Storage]]

    @property
    def router(self) -> Router:
        """The trained router."""
        return load_router(self.router_result)

    @property
    def comparisons(self) -> dict[str, ExpertPlan]:
        """The networks that the tree is compared with, by method."""
        return {plan.comparison: plan for plan in self.experts if plan.comparison is not None}


def prepare(config: BuildConfig, *, is_dry: bool = False) -> Material:
    """Check the configuration before any work starts, and list what to train on.

    Args:
        config: Configuration of the build.
        is_dry: Whether to leave nothing in the store, not even notes of the photographs; no GPU is
            needed then.

    Raises:
        ExpertreeError: If the build cannot run; one sentence says what is wrong and what to do.
    """
    Storage.open(config.store).check_writable()
    Storage.open(config.output).check_writable()
    check_weights(config.experts)
    prepare_tracking(config.tracking, config.output)
    joins = config.cluster.address is not None
    if config.cluster.use_gpu and not (joins or is_dry or torch.cuda.is_available()):
        raise ResourceError(
            "cluster.use_gpu=true, but this machine has no GPU that torch can use; set "
            "cluster.use_gpu=false, or give cluster.address of a cluster that has some"
        )
    return list_material(config, is_dry=is_dry)


def build(config: BuildConfig, material: Material, bench: Workbench, on_status: OnStatus) -> Built:
    """Run all stages up to the bundle."""
    past, taken = past_of(config), take_over(bench, config)
    given = _given_extractor(bench, past, taken)
    sets = config.degradation.patch_sets()
    if given is not None:
        del sets["extractor"]
    tables = make_tables(bench, sets, material, seed=config.seed)
    extractor = make_extractor(config, bench, tables) if given is None else given
    embedded = {name: table for name, table in tables.items() if name != "extractor"}
    embeddings = embed_tables(bench, embedded, extractor)
    hierarchy, kept = _tree(config, bench, past or taken, extractor, embeddings["train"])
    shards = shard_tree(bench, tables["train"], hierarchy)
    plans = plan_experts(
        bench,
        config,
        hierarchy.tree,
        Samples(
            leaf_of=hierarchy.leaf_of,
            table=tables["train"],
            shards=shards,
            extractor=extractor,
        ),
        kept=kept,
    )
    _train_experts(config, bench, material, hierarchy, plans, shards=shards, on_status=on_status)
    seen = _given_to_routers(tables, embeddings, past)
    kinds = material.kinds(config.degradation.tasks)
    classical = choose_classical(bench, kinds, tables["route"])
    measured = Measured.like(extractor) if config.router.reads_measures else None
    validation = _validation_sets(config, tables)
    experts, wanted = _wanted_scores(plans, seen, validation, classical, measured)
    scores = score_tables(bench, {**tables, **seen.tables}, experts, wanted)
    serving = serving_plans(
        hierarchy.tree,
        plans,
        embeddings=seen.embeddings,
        scores=scores,
        prune=config.experts.prune,
    )
    router_result = _train_router(
        config, bench, hierarchy, given=seen, serving=serving, scores=scores
    )
    windows = choose_windows(
        config,
        bench,
        material=material,
        extractor=extractor,
        hierarchy=hierarchy,
        serving=serving,
        past=past,
        taken=taken,
    )
    bundle = make_bundle(bench, extractor, hierarchy.result, router_result, serving, windows)
    return Built(
        material=material,
        tables=tables,
        extractor=extractor,
        embeddings=embeddings,
        hierarchy=hierarchy,
        shards=shards,
        experts=plans,
        serving=serving,
        classical=classical,
        scores=scores,
        router_result=router_result,
        bundle=bundle,
        past=past,
        training=seen.training,
    )


def _given_extractor(
    bench: Workbench, past: FinishedBuild | None, taken: TakenOver | None
) -> Storage | None:
    """Return the extractor of an earlier build or a bundle; None where one is to be trained."""
    if past is not None:
        with bench.timed("extractor", cached=True):
            return past.directory("extractor")
    return None if taken is None else taken.extractor


def _tree(
    config: BuildConfig,
    bench: Workbench,
    before: FinishedBuild | TakenOver | None,
    extractor: Storage,
    embeddings: Storage,
) -> tuple[Hierarchy, Kept | None]:
    """Return a new tree and None, or that of an earlier build or a bundle, and its experts."""
    if before is None:
        return cut_tree(config, bench, extractor, embeddings), None
    if isinstance(before, TakenOver):
        return assign_to_tree(bench, config, before, embeddings)
    hierarchy, growth = grow_tree(bench, config, before, embeddings)
    return hierarchy, keep_experts(before, growth)


def _train_experts(
    config: BuildConfig,
    bench: Workbench,
    material: Material,
    hierarchy: Hierarchy,
    plans: Sequence[ExpertPlan],
    *,
    shards: Storage,
    on_status: OnStatus,
) -> None:
    cached = all(plan.result.is_done() for plan in plans)
    if bench.is_dry and not cached:
        raise NotMadeError("experts", plans)
    with bench.timed("experts", cached=cached):
        budget = budget_of(config.cluster, plans)
        train_experts(
            bench,
            plans,
            shards,
            on_status,
            config=config,
            tree=key_of(hierarchy.result),
            budget=budget,
            maps=RealMaps.of(config.photographs.maps, material.maps),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    """The patches that routers are trained on, and those that experts were trained on.

    Attributes:
        tables: Table of each patch set like `route`, by name.
        embeddings: Embeddings of the same sets, by name, in the same order.
        training: Tables and embeddings of what experts were trained on; see `Built`.
    """

    tables: Mapping[str, Storage]
    embeddings: Mapping[str, Storage]
    training: Sequence[tuple[Storage, Storage]]


def _given_to_routers(
    tables: Mapping[str, Storage],
    embeddings: Mapping[str, Storage],
    past: FinishedBuild | None,
) -> _Given:
    """Return the routers' patch sets: this build's, then those of the builds it was grown from."""
    before = {name: past.all_sets(name) if past is not None else [] for name in ("route", "train")}
    # Growing on the same photographs and degradations may give a set that was there before.
    routes, training = (
        list(dict.fromkeys([(tables[name], embeddings[name]), *sets]))
        for name, sets in before.items()
    )
    names = ["route", *(f"route, earlier {n}" for n in range(len(routes) - 1))]
    return _Given(
        tables={name: table for name, (table, _) in zip(names, routes, strict=True)},
        embeddings={name: found for name, (_, found) in zip(names, routes, strict=True)},
        training=training,
    )


def _validation_sets(config: BuildConfig, tables: Mapping[str, Storage]) -> list[str]:
    clean = [CLEAN_SET] if CLEAN_SET in tables else []
    return [*VALIDATION, *clean, *config.degradation.shift_sets()]


def _wanted_scores(
    plans: Sequence[ExpertPlan],
    given: _Given,
    validation: Sequence[str],
    classical: Mapping[str, str],
    measured: Measured | None,
) -> tuple[dict[str, Scored], list[tuple[str, str]]]:
    """Return what to score and on which patch sets; comparisons skip the routers' sets."""
    experts: dict[str, Scored] = {INPUTS: None, CLASSICAL: classical}
    wanted = [(INPUTS, name) for name in (*given.tables, *validation)]
    wanted += [(CLASSICAL, name) for name in VALIDATION]
    for plan in plans:
        experts[plan.key] = plan.result
        names = validation if plan.node is None else (*given.tables, *validation)
        wanted += [(plan.key, name) for name in names]
    if measured is not None:
        experts[MEASURES] = measured
        wanted += [(MEASURES, name) for name in (*given.tables, *validation)]
    return experts, wanted


def _train_router(
    config: BuildConfig,
    bench: Workbench,
    hierarchy: Hierarchy,
    *,
    given: _Given,
    serving: Mapping[int, ExpertPlan],
    scores: Mapping[tuple[str, str], Storage],
) -> Storage:
    chosen = {node: p for node, p in serving.items() if config.hierarchy.has_root or node != ROOT}
    columns = {
        node: [scores[plan.key, name] for name in given.tables] for node, plan in chosen.items()
    }
    return train_router_on(
        config,
        bench,
        hierarchy,
        embeddings=list(given.embeddings.values()),
        columns=columns,
        inputs=[scores[INPUTS, name] for name in given.tables],
        measures=[scores[MEASURES, name] for name in given.tables if (MEASURES, name) in scores],
        training=given.training,
    )
