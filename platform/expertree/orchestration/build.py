"""A build: from photographs to a bundle and a report, stage by stage.

Each stage's result is stored by the hash of what made it, so a build that was killed goes on where
it was, a second one finds everything, and one with another setting makes only what that changes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int64

from expertree.config import to_dict
from expertree.degradation.photographs import (
    Photo,
    Split,
    list_photographs,
    split_photographs,
)
from expertree.degradation.table import plan_patches
from expertree.errors import ResourceError
from expertree.hierarchy import Tree, assign, build_tree, load_tree, save_tree
from expertree.orchestration.dispatcher import Picture
from expertree.orchestration.expert_stages import ExpertPlan, plan_experts, train_experts
from expertree.orchestration.extractor_stages import embed, train_extractor_on_lane
from expertree.orchestration.patch_stages import degrade, shard
from expertree.orchestration.pipelines import OnDone
from expertree.orchestration.score_stage import INPUTS, Column, score
from expertree.orchestration.scores import read_scores
from expertree.orchestration.settings import BuildConfig
from expertree.orchestration.stages import Workbench, check_whole, key_of
from expertree.orchestration.tables import read_embeddings, read_leaves, write_table
from expertree.restorer import write_bundle
from expertree.routing import Router, load_router, node_table, save_router, train_router
from expertree.storage import Storage

VALIDATION = ("val_in", "val_out")
OnPicture = Callable[[Picture], None]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Photographs that were found, and what is done with each."""

    photos: Sequence[Photo]
    skipped: Sequence[tuple[str, str]]
    splits: Mapping[str, Split]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Hierarchy:
    """The tree, where it is stored, and the leaf of each training patch."""

    result: Storage
    tree: Tree
    ids: Sequence[str]
    leaves: Int64[np.ndarray, " patches"]

    @property
    def leaf_of(self) -> dict[str, int]:
        """The leaf by the patch's id."""
        return dict(zip(self.ids, self.leaves.tolist(), strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Built:
    """Everything that a build made; directories are results in the store."""

    material: Material
    table: Storage
    extractor: Storage
    embeddings: Storage
    hierarchy: Hierarchy
    shards: Storage
    experts: Sequence[ExpertPlan]
    scores: Mapping[tuple[str, str], Storage]
    router_result: Storage
    bundle: Storage
    picture: Picture

    @property
    def router(self) -> Router:
        """The trained router."""
        return load_router(self.router_result)


def prepare(config: BuildConfig) -> Material:
    """Check what can be checked before any work starts, and list the photographs.

    Raises:
        ExpertreeError: In one sentence, what is wrong and what to do.
    """
    Storage.open(config.store).check_writable()
    Storage.open(config.output).check_writable()
    joins = config.cluster.address is not None
    if config.cluster.use_gpu and not joins and not torch.cuda.is_available():
        raise ResourceError(
            "cluster.use_gpu=true, but this machine has no GPU that torch can use; set "
            "cluster.use_gpu=false, or give cluster.address of a cluster that has some"
        )
    photos, skipped = list_photographs(
        config.photographs.source, min_side_px=config.degradation.patch_px
    )
    splits = split_photographs(
        photos,
        val_fraction=config.photographs.val_fraction,
        route_fraction=config.photographs.route_fraction,
        seed=config.seed,
    )
    return Material(photos=photos, skipped=skipped, splits=splits)


def build(
    config: BuildConfig, material: Material, bench: Workbench, on_picture: OnPicture
) -> Built:
    """Run all stages up to the bundle."""
    table = _degrade(config, material, bench)
    extractor = _train_extractor(config, bench, table)
    embeddings = _embed(bench, table, extractor)
    hierarchy = _cluster(config, bench, extractor, embeddings)
    shards = _shard(bench, table, hierarchy)
    plans = plan_experts(
        bench, config, hierarchy.tree, leaf_of=hierarchy.leaf_of, table=table, shards=shards
    )
    picture = _train_experts(bench, plans, shards, on_picture)
    scores = _score(bench, table, plans)
    router_result = _train_router(config, bench, hierarchy, embeddings, plans, scores)
    bundle = _bundle(bench, extractor, hierarchy, router_result, plans)
    return Built(
        material=material,
        table=table,
        extractor=extractor,
        embeddings=embeddings,
        hierarchy=hierarchy,
        shards=shards,
        experts=plans,
        scores=scores,
        router_result=router_result,
        bundle=bundle,
        picture=picture,
    )


def _degrade(config: BuildConfig, material: Material, bench: Workbench) -> Storage:
    spec = {
        "degradation": to_dict(config.degradation),
        "photographs": sorted((p.name, p.sha256, material.splits[p.name]) for p in material.photos),
        "seed": config.seed,
    }

    def make(result: Storage, on_done: OnDone) -> None:
        parts = plan_patches(config.degradation, material.photos, material.splits, seed=config.seed)
        degrade(parts, result, on_done)

    return bench.run("degrade", spec, make, needs_cluster=True)


def _train_extractor(config: BuildConfig, bench: Workbench, table: Storage) -> Storage:
    spec = {
        "extractor": to_dict(config.extractor),
        "table": key_of(table),
        "seed": config.seed,
    }

    def make(result: Storage, on_done: OnDone) -> None:
        train_extractor_on_lane(bench, config, table, result, on_done)

    return bench.run("extractor", spec, make, needs_cluster=True)


def _embed(bench: Workbench, table: Storage, extractor: Storage) -> Storage:
    def make(result: Storage, on_done: OnDone) -> None:
        embed(table, extractor, result, bench.cluster, on_done)

    spec = {"table": key_of(table), "extractor": key_of(extractor)}
    return bench.run("embed", spec, make, needs_cluster=True)


def _cluster(
    config: BuildConfig, bench: Workbench, extractor: Storage, embeddings: Storage
) -> Hierarchy:
    def make(result: Storage, _: OnDone) -> None:
        ids, vectors = read_embeddings(embeddings, "train")
        tree, leaves = build_tree(vectors, config.hierarchy, extractor=key_of(extractor))
        save_tree(tree, result)
        rows = pa.table({"id": pa.array(ids), "leaf": pa.array(leaves)})
        write_table(result, "leaves.parquet", rows)

    spec = {"hierarchy": to_dict(config.hierarchy), "embeddings": key_of(embeddings)}
    result = bench.run("tree", spec, make)
    ids, leaves = read_leaves(result)
    return Hierarchy(result=result, tree=load_tree(result), ids=ids, leaves=leaves)


def _shard(bench: Workbench, table: Storage, hierarchy: Hierarchy) -> Storage:
    def make(result: Storage, on_done: OnDone) -> None:
        shard(table, hierarchy.leaf_of, hierarchy.tree.num_leaves, result, on_done)

    spec = {"table": key_of(table), "tree": key_of(hierarchy.result)}
    return bench.run("shard", spec, make, needs_cluster=True)


def _train_experts(
    bench: Workbench,
    plans: Sequence[ExpertPlan],
    shards: Storage,
    on_picture: OnPicture,
) -> Picture:
    cached = all(plan.result.is_done() for plan in plans)
    with bench.timed("experts", cached=cached):
        if not cached:
            bench.need_cluster()
        return train_experts(bench, plans, shards, on_picture)


def _score(
    bench: Workbench, table: Storage, plans: Sequence[ExpertPlan]
) -> dict[tuple[str, str], Storage]:
    """Scores by (expert's key, split); the degraded inputs are under `INPUTS`."""
    columns: dict[tuple[str, str], Column] = {}
    wanted: list[tuple[str, Storage | None, str]]
    wanted = [(INPUTS, None, split) for split in VALIDATION]
    for plan in plans:
        splits = VALIDATION if plan.node is None else ("route", *VALIDATION)
        wanted += [(plan.key, plan.result, split) for split in splits]
    for key, expert, split in wanted:
        spec = {"expert": key, "table": key_of(table), "split": split}
        columns[key, split] = Column(
            expert=expert, split=split, directory=bench.place("score", spec), spec=spec
        )
    missing = [column for column in columns.values() if not column.directory.is_done()]
    with bench.timed("score", cached=not missing) as on_done:
        if missing:
            bench.need_cluster()
            score(missing, table, bench.cluster, on_done)
    return {name: column.directory for name, column in columns.items()}


def _train_router(
    config: BuildConfig,
    bench: Workbench,
    hierarchy: Hierarchy,
    embeddings: Storage,
    plans: Sequence[ExpertPlan],
    scores: Mapping[tuple[str, str], Storage],
) -> Storage:
    tree = hierarchy.tree
    own = [plan for plan in plans if plan.node is not None]
    spec = {
        "router": to_dict(config.router),
        "tree": key_of(hierarchy.result),
        "losses": [key_of(scores[plan.key, "route"]) for plan in own],
        "seed": config.seed,
    }

    def make(result: Storage, _: OnDone) -> None:
        vectors = read_embeddings(embeddings, "route")[1]
        losses = {
            plan.node: read_scores(scores[plan.key, "route"]).l1
            for plan in own
            if plan.node is not None
        }
        trained = train_router(
            config.router,
            tree,
            vectors,
            assign(tree, vectors),
            node_table(losses, tree),
            seed=config.seed,
        )
        save_router(trained.router, result)
        result.write_json("curve.json", [dataclasses.asdict(epoch) for epoch in trained.curve])

    return bench.run("router", spec, make)


def _bundle(
    bench: Workbench,
    extractor: Storage,
    hierarchy: Hierarchy,
    router_result: Storage,
    plans: Sequence[ExpertPlan],
) -> Storage:
    experts = {plan.node: plan.result for plan in plans if plan.node is not None}
    spec = {
        "extractor": key_of(extractor),
        "tree": key_of(hierarchy.result),
        "router": key_of(router_result),
        "experts": {str(node): key_of(result) for node, result in experts.items()},
    }

    def make(result: Storage, _: OnDone) -> None:
        for part in (extractor, hierarchy.result, router_result, *experts.values()):
            check_whole(part)
        write_bundle(
            result,
            extractor=extractor,
            tree=hierarchy.result,
            router=router_result,
            experts=experts,
        )

    return bench.run("bundle", spec, make)
