"""Plans the trainings of a comparison: each a method with a seed and a rate, by content hash."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from expertree.comparison.matching import Cost, Kind, matched
from expertree.comparison.methods import MethodConfig
from expertree.comparison.settings import CompareConfig, build_config
from expertree.degradation.fresh import RealMaps
from expertree.experts import AdapterConfig
from expertree.pipeline.experts import ExpertPlan, Samples, plan_experts
from expertree.pipeline.extractor import make_extractor
from expertree.pipeline.patch_sets import embed_tables, make_tables
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.sources import Material
from expertree.pipeline.stages import Workbench
from expertree.pipeline.tree import Hierarchy, cut_tree, shard_tree
from expertree.storage import Storage

RATES, ROUTE, VAL_IN, VAL_OUT = "rates", "route", "val_in", "val_out"
"""Patch sets: to choose rates by, to train routers on, and those that are reported."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Common:
    """What all methods have in common.

    Attributes:
        tables: Table of each patch set, by name.
        extractor: The extractor.
        embeddings: Embeddings of each patch set, by name.
        one: The tree of one node.
        tree: The tree of those methods that have one; the tree of one node if none has.
        shards: The training patches by leaf of `tree`.
        kinds: Degradations, in the order of the tables' columns.
        maps: Real maps for patches that are degraded anew during training.
    """

    tables: Mapping[str, Storage]
    extractor: Storage
    embeddings: Mapping[str, Storage]
    one: Hierarchy
    tree: Hierarchy
    shards: Storage
    kinds: Sequence[str]
    maps: RealMaps

    def hierarchy_of(self, method: MethodConfig) -> Hierarchy:
        """Return the tree of a method."""
        return self.tree if method.tree else self.one

    def samples_of(self, method: MethodConfig) -> Samples:
        """Return what a method's networks are trained on: for all methods the same files."""
        hierarchy = self.hierarchy_of(method)
        leaves = range(self.tree.tree.num_leaves)
        return Samples(
            leaf_of=hierarchy.leaf_of,
            table=self.tables["train"],
            shards=self.shards,
            shard_leaves=None if hierarchy is self.tree else {0: list(leaves)},
            extractor=self.extractor,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Training:
    """One training of a method, which may be several networks.

    Attributes:
        method: The method.
        seed: Seed of the training.
        factor: Factor on the method's learning rates.
        config: Configuration of the build that it is a part of.
        hierarchy: Tree of the method.
        plans: Its networks, parents first.
    """

    method: MethodConfig
    seed: int
    factor: float
    config: BuildConfig
    hierarchy: Hierarchy
    plans: Sequence[ExpertPlan]

    @property
    def num_samples(self) -> int:
        """Samples that all its networks see together."""
        return sum(plan.job.num_samples for plan in self.plans)


def make_common(config: CompareConfig, bench: Workbench, material: Material) -> Common:
    """Make what all methods have in common, or find it in the store."""
    trees = [method for method in config.methods if method.tree]
    names = ("train", "extractor", ROUTE, VAL_IN, VAL_OUT)
    all_sets = config.degradation.patch_sets()
    sets = {name: all_sets[name] for name in names}
    if config.rates:
        sets[RATES] = config.degradation.rates_set()
    tables = make_tables(bench, sets, material, seed=config.seed)
    extractor = make_extractor(config, bench, tables)
    embedded = {name: own for name, own in tables.items() if name not in ("extractor", RATES)}
    embeddings = embed_tables(bench, embedded, extractor)

    def cut(method: MethodConfig) -> Hierarchy:
        own = build_config(config, method, seed=config.seed)
        return cut_tree(own, bench, extractor, embeddings["train"])

    one = cut(MethodConfig(name="one network"))
    tree = cut(trees[0]) if trees else one
    return Common(
        tables=tables,
        extractor=extractor,
        embeddings=embeddings,
        one=one,
        tree=tree,
        shards=shard_tree(bench, tables["train"], tree),
        kinds=material.kinds(config.degradation.tasks),
        maps=RealMaps.of(config.photographs.maps, material.maps),
    )


def plan_training(
    config: CompareConfig,
    bench: Workbench,
    common: Common,
    method: MethodConfig,
    cost: Cost,
    *,
    seed: int,
    factor: float = 1.0,
    share: float = 1.0,
) -> Training:
    """Plan a method with a seed and a rate, with as many samples as a share of the budget buys.

    The recipe's warm-up is as large a share of them as it is of all.

    Raises:
        ConfigError: If the budget is too small for it.
    """
    hierarchy = common.hierarchy_of(method)
    usual = build_config(config, method, seed=seed, factor=factor)
    num_samples = matched(config, usual, hierarchy.tree, cost, share=share)
    own = build_config(config, method, seed=seed, factor=factor, num_samples=num_samples)
    own = _warmed_up(own, share)
    return Training(
        method=method,
        seed=seed,
        factor=factor,
        config=own,
        hierarchy=hierarchy,
        plans=_plans(bench, common, method, own, f"{method.name}, seed {seed}"),
    )


def plan_search(
    config: CompareConfig, bench: Workbench, common: Common, method: MethodConfig, cost: Cost
) -> list[Training]:
    """Plan a training with each rate; a tree is tried as its network alone, trained on everything.

    Networks that several methods share are thus tried once.
    """
    alone = MethodConfig(name=method.name, backbone=method.backbone, rate=method.rate)
    seed, share = config.seeds[0], config.rates_share
    return [
        plan_training(config, bench, common, alone, cost, seed=seed, factor=rate, share=share)
        for rate in config.rates
    ]


def _warmed_up(config: BuildConfig, share: float) -> BuildConfig:
    """Return a configuration whose warm-up is a share of its own."""
    recipe = config.experts.recipe
    recipe = dataclasses.replace(recipe, warmup_samples=round(share * recipe.warmup_samples))
    experts = dataclasses.replace(config.experts, recipe=recipe)
    return dataclasses.replace(config, experts=experts)


def plan_timed(
    config: CompareConfig, bench: Workbench, common: Common, kinds: Iterable[Kind]
) -> dict[Kind, list[ExpertPlan]]:
    """Plan the short trainings that measure speeds: the networks to train, the timed one last."""
    found: dict[Kind, list[ExpertPlan]] = {}
    for backbone, later in kinds:
        adapter = later if isinstance(later, AdapterConfig) else None
        method = MethodConfig(
            name="timed", backbone=backbone, adapter=adapter, tree=later is not None
        )
        levels = len(config.hierarchy.cut_groups) if method.tree else 1
        own = build_config(
            config, method, seed=config.seeds[0], num_samples=(config.timed_samples,) * levels
        )
        plans = _plans(bench, common, method, own, f"{backbone.name}, timed")
        found[backbone, later] = _with_parent(plans) if later is not None else plans[:1]
    return found


def _with_parent(plans: Sequence[ExpertPlan]) -> list[ExpertPlan]:
    """Return the first network that starts from another, after that; the first where none does."""
    for plan in plans:
        if plan.parent is not None:
            return [*(other for other in plans if other.key == plan.parent), plan]
    return list(plans[:1])


def united(trainings: Iterable[Training]) -> list[ExpertPlan]:
    """Return the networks of some trainings, each once, in their order."""
    plans: dict[str, ExpertPlan] = {}
    for training in trainings:
        for plan in training.plans:
            plans.setdefault(plan.key, plan)
    return list(plans.values())


def _plans(
    bench: Workbench, common: Common, method: MethodConfig, config: BuildConfig, label: str
) -> list[ExpertPlan]:
    hierarchy = common.hierarchy_of(method)
    plans = plan_experts(bench, config, hierarchy.tree, common.samples_of(method))
    if len(plans) == 1:
        return [dataclasses.replace(plan, label=label) for plan in plans]
    return [dataclasses.replace(plan, label=f"{label}, {plan.label}") for plan in plans]
