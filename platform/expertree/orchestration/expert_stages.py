"""The stage of the experts: which there are, by content hash, and training what is missing."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from expertree.config import load, to_dict
from expertree.degradation.fresh import RealMaps
from expertree.evaluation import described
from expertree.experts import AdapterConfig, ExpertJob, RecipeConfig
from expertree.experts.backbones import backbone_record
from expertree.experts.published import PublishedWeights, find_published
from expertree.experts.weights import read_card
from expertree.hierarchy import ROOT, Tree, compositions
from expertree.orchestration.budget import Budget
from expertree.orchestration.dispatcher import Picture
from expertree.orchestration.expert_networks import NetworkChoice, choose_networks, label_of
from expertree.orchestration.expert_work import ExpertWork
from expertree.orchestration.provenance import source_commit
from expertree.orchestration.schedule import TrainingTask
from expertree.orchestration.settings import BuildConfig, Comparison
from expertree.orchestration.stages import Workbench, key_of, sibling
from expertree.orchestration.tables import LeafTable, leaf_files, read_labels
from expertree.orchestration.tracked import TrackedRun, tracking_folder
from expertree.storage import Storage
from expertree.tracking import RunIdentity

COMPARISONS: Mapping[Comparison, str] = {"path": "one_network", "tree": "one_network_tree"}
"""The method of the results tables that each comparison is."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Experts that are there already, of a build whose tree has grown.

    Attributes:
        experts: Where each is stored, by its node.
        comparisons: Where the networks that the tree was compared with are, by method.
        beside: For each node that has none yet the one whose expert it starts from.
    """

    experts: Mapping[int, Storage]
    comparisons: Mapping[str, Storage]
    beside: Mapping[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertPlan:
    """One expert to have: what it is trained on and where its result is.

    Attributes:
        role: Its node; or, of a network that the tree is compared with, the method that it is.
        label: What the user calls it.
        job: Everything that its weights depend on, for the training loop.
        files: The shard files that it reads.
        result: Where it is stored.
        parent: Key of the expert that it starts from.
        start: What it starts from, in words.
        spec: What its key is the hash of.
    """

    role: int | str
    label: str
    job: ExpertJob
    files: tuple[str, ...]
    result: Storage
    parent: str | None
    start: str
    spec: Mapping[str, Any]

    @property
    def node(self) -> int | None:
        """Its node; None for a comparison."""
        return self.role if isinstance(self.role, int) else None

    @property
    def comparison(self) -> str | None:
        """The method that it is where the tree is compared with it; None for a node's expert."""
        return self.role if isinstance(self.role, str) else None

    @property
    def key(self) -> str:
        """Content hash."""
        return key_of(self.result)

    @property
    def kind(self) -> str:
        """Experts of one kind are trained at one speed."""
        return f"{self.job.backbone} {self.job.recipe} {self.job.adapter}"

    @property
    def network(self) -> str:
        """Its network in words."""
        name, adapter = self.job.backbone.name, self.job.adapter
        return name if adapter is None else f"{name}, adapter of rank {adapter.rank}"


def own_experts(plans: Sequence[ExpertPlan]) -> dict[int, ExpertPlan]:
    """The experts among some plans by their nodes, without what the tree is compared with."""
    return {plan.node: plan for plan in plans if plan.node is not None}


def plan_experts(
    bench: Workbench,
    config: BuildConfig,
    tree: Tree,
    *,
    leaf_of: LeafTable,
    table: Storage,
    shards: Storage,
    kept: Kept | None = None,
    shard_leaves: Mapping[int, Sequence[int]] | None = None,
) -> list[ExpertPlan]:
    """Every expert that the tree needs, parents first, and what it is compared with last.

    An expert's key depends on the samples of its node and not on the tree around it, so trees that
    share a group share its expert. Those that are kept have the keys that they had.

    Args:
        bench: The workbench.
        config: What experts are.
        tree: The tree.
        leaf_of: The leaf of each training patch.
        table: The training patches.
        shards: The same by leaf.
        kept: Experts that are there already.
        shard_leaves: For each leaf those of `shards`, where these are the shards of a finer tree.
    """

    def files_of(leaves: Sequence[int]) -> tuple[str, ...]:
        if shard_leaves is not None:
            leaves = [own for leaf in leaves for own in shard_leaves[leaf]]
        return tuple(leaf_files(names, leaves))

    names = shards.list_files(".parquet")
    find = functools.cache(find_published)  # which reads a file whole, to hash it
    plans: dict[int, ExpertPlan] = {}
    if kept is not None:
        plans |= {node: _keep(tree, node, result) for node, result in kept.experts.items()}
        networks = {node: _as_beside(config, old, plans[old]) for node, old in kept.beside.items()}
    else:
        shares = _shares(tree, leaf_of, table) if config.experts.rules else {}
        networks = choose_networks(config.experts, tree, shares)
    for node in tree.experts():
        if node in plans:
            continue
        parent = networks[node].parent
        plans[node] = _plan_expert(
            bench,
            config,
            role=node,
            label=_label(tree, node),
            material=_Material(
                num_samples=config.experts.samples_per_expert
                or _num_samples(
                    tree,
                    node,
                    config.experts.num_samples,
                    from_root=networks[node].adapter is not None
                    or config.experts.start_from == "root",
                ),
                samples=_hash_of_samples(table, leaf_of, tree.nodes[node].leaves),
                files=files_of(tree.nodes[node].leaves),
            ),
            network=networks[node],
            parent=plans[parent] if parent is not None else None,
            find=find,
        )
    experts = [plans[node] for node in tree.experts()]
    if kept is not None:
        comparisons = [_keep(tree, name, result) for name, result in kept.comparisons.items()]
    else:
        everything = _hash_of_samples(table, leaf_of, range(tree.num_leaves))
        comparisons = [
            _plan_expert(
                bench,
                config,
                role=name,
                label=_label(tree, name),
                material=_Material(num_samples=num_samples, samples=everything, files=tuple(names)),
                network=networks[ROOT],
                parent=None,
                find=find,
            )
            for name, num_samples in _compared(config, tree, experts).items()
        ]
    ordered = [*experts, *comparisons]
    for plan in ordered:
        bench.events.emit(
            "expert_planned",
            label=plan.label,
            key=plan.key,
            backbone=plan.job.backbone.name,
            start=plan.start,
        )
    return ordered


def train_experts(
    bench: Workbench,
    plans: Sequence[ExpertPlan],
    shards: Storage,
    on_picture: Callable[[Picture], None],
    *,
    config: BuildConfig,
    tree: str,
    budget: Budget | None,
    maps: RealMaps,
) -> Picture:
    """Train the experts that are not in the store yet, several at a time.

    Args:
        bench: The workbench.
        plans: Every expert of the tree.
        shards: What they are trained on.
        on_picture: Told how it goes.
        config: Where their runs are tracked, among the rest.
        tree: Key of the tree, which groups the runs.
        budget: A cap on what they may cost.
        maps: Real maps for what experts degrade anew.
    """
    missing = {plan.key: plan for plan in plans if not plan.result.is_done()}
    folder = tracking_folder(config.tracking, config.output)
    origin = {"tree": tree, "commit": source_commit(), "build": to_dict(config)} if folder else {}
    tasks = [
        TrainingTask(
            key=plan.key,
            label=plan.label,
            cost=float(plan.job.num_samples),
            kind=plan.kind,
            after=(plan.parent,) if plan.parent is not None else (),
            work=ExpertWork(
                job=plan.job,
                shards=shards,
                files=plan.files,
                directory=plan.result,
                spec=plan.spec,
                device="cuda" if bench.cluster.use_gpu else "cpu",
                tracked=_tracked(config, plan, folder, origin) if folder else None,
                maps=maps,
            ),
        )
        for plan in missing.values()
    ]
    return bench.runner.train(tasks, directory=bench.lanes, on_picture=on_picture, budget=budget)


def _tracked(
    config: BuildConfig, plan: ExpertPlan, folder: str, origin: Mapping[str, Any]
) -> TrackedRun:
    made_from = {
        "expert": to_dict(plan.job),
        "label": plan.label,
        "start": plan.start,
        **origin,
    }
    return TrackedRun(
        config=config.tracking,
        identity=RunIdentity(
            name=plan.label, id=plan.key, group=f"tree-{origin['tree']}", config=made_from
        ),
        directory=f"{folder}/{plan.key}",
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Material:
    """What one expert is trained on: how many of which samples (a hash), and their files."""

    num_samples: int
    samples: str
    files: tuple[str, ...]


def _plan_expert(
    bench: Workbench,
    config: BuildConfig,
    *,
    role: int | str,
    label: str,
    material: _Material,
    network: NetworkChoice,
    parent: ExpertPlan | None,
    find: Callable[[str], PublishedWeights],
) -> ExpertPlan:
    spec = {
        "backbone": backbone_record(network.backbone),
        "recipe": to_dict(config.experts.recipe),
        "num_samples": material.num_samples,
        "samples": material.samples,
        "parent": parent.key if parent is not None else None,
        "seed": config.seed,
    }
    published = find(network.file) if network.file is not None else None
    if published is not None:
        spec["published"] = published.sha256
    if network.adapter is not None:
        spec["adapter"] = to_dict(network.adapter)
    result = bench.place("expert", spec)
    job = ExpertJob(
        key=key_of(result),
        backbone=network.backbone,
        recipe=config.experts.recipe,
        num_samples=material.num_samples,
        seed=config.seed,
        init=parent.result.uri if parent is not None else None,
        published=published,
        adapter=network.adapter,
    )
    return ExpertPlan(
        role=role,
        label=label,
        job=job,
        files=material.files,
        result=result,
        parent=parent.key if parent is not None else None,
        start=network.start,
        spec=spec,
    )


def _keep(tree: Tree, role: int | str, result: Storage) -> ExpertPlan:
    """An expert that is there, as it was planned when it was trained."""
    spec = result.done()["spec"]
    adapter = load(AdapterConfig, spec["adapter"]) if "adapter" in spec else None
    root = None if adapter is None else sibling(result, "expert", spec["parent"]).uri
    return ExpertPlan(
        role=role,
        label=_label(tree, role),
        job=ExpertJob(
            key=key_of(result),
            backbone=read_card(result).backbone,
            recipe=load(RecipeConfig, spec["recipe"]),
            num_samples=spec["num_samples"],
            seed=spec["seed"],
            init=root,
            adapter=adapter,
        ),
        files=(),
        result=result,
        parent=spec["parent"],
        start="kept as it was",
        spec=spec,
    )


def _compared(config: BuildConfig, tree: Tree, experts: Sequence[ExpertPlan]) -> dict[str, int]:
    """How many samples each network sees that the tree is compared with, by method."""
    num_samples: dict[Comparison, int] = {
        "path": config.experts.samples_of_path(tree.num_levels),
        "tree": sum(plan.job.num_samples for plan in experts),
    }
    return {COMPARISONS[name]: num_samples[name] for name in config.experts.comparisons}


def _as_beside(config: BuildConfig, node: int, plan: ExpertPlan) -> NetworkChoice:
    """The network of a new leaf: that of the leaf which its samples went to before."""
    if plan.job.adapter is not None:
        return NetworkChoice(
            backbone=plan.job.backbone,
            parent=ROOT,
            file=None,
            adapter=plan.job.adapter,
            start=f"the root's weights, as an adapter of rank {plan.job.adapter.rank}",
        )
    warm = config.experts.warm_start
    return NetworkChoice(
        backbone=plan.job.backbone,
        parent=node if warm else None,
        file=None,
        adapter=None,
        start=f"the weights of {plan.label}" if warm else "random weights",
    )


def _num_samples(tree: Tree, expert: int, by_level: Sequence[int], *, from_root: bool) -> int:
    """What an expert sees: the samples of each level that it serves.

    A leaf also serves the levels that the data did not give (`hierarchy.method=adaptive`). One that
    starts from the root, and not from its parent, sees the samples of the levels between too: as
    many stand behind its weights as behind those of an expert that starts from its parent.
    """
    levels = tree.levels_of_expert(expert)
    beyond = by_level[tree.num_levels :] if tree.num_levels - 1 in levels else ()
    if from_root:
        levels = tuple(range(max(tree.levels_of_expert(ROOT)) + 1, max(levels) + 1))
    return sum(by_level[level] for level in levels) + sum(beyond)


def _shares(tree: Tree, leaf_of: LeafTable, table: Storage) -> dict[int, dict[str, float]]:
    """What each node is made of, by the labels that rules name."""
    found = compositions(tree, leaf_of.leaves, read_labels(table).map(label_of))
    return {made.node: dict(made.shares) for made in found}


def _hash_of_samples(table: Storage, leaf_of: LeafTable, leaves: Iterable[int]) -> str:
    return leaf_of.hash_of(leaves, head=key_of(table))


def _label(tree: Tree, role: int | str) -> str:
    if isinstance(role, str):
        return described(role).name
    if role == ROOT:
        return "root"
    level = tree.nodes[role].level
    number = role - tree.nodes_of_level(level)[0].index
    return f"level {level}, group {number}"
