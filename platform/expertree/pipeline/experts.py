"""The stage of the experts: plans those of a tree by content hash, and trains the missing ones."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.config import fingerprint, load, to_dict
from expertree.degradation.fresh import RealMaps
from expertree.errors import ConfigError
from expertree.experts import AdapterConfig, BackboneConfig, ExpertJob, RecipeConfig
from expertree.experts.backbones import phased, version_of
from expertree.experts.published import find_published
from expertree.experts.weights import read_card
from expertree.hierarchy import ROOT, Tree, compositions
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.follow_training import TrackedRun, tracking_folder
from expertree.pipeline.networks import NetworkChoice, choose_further, choose_networks, label_of
from expertree.pipeline.provenance import source_commit
from expertree.pipeline.runner import OnStatus
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench, key_of, sibling
from expertree.pipeline.tables import LeafTable, leaf_files, read_labels
from expertree.pipeline.units import Unit, label_of_role, units_compared, units_of_tree
from expertree.scheduling.budget import Budget
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage
from expertree.tracking import RunIdentity
from expertree.uris import public


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """The experts of a finished build that stay when its tree grows, or those of a bundle.

    Attributes:
        experts: Stored result of each expert, by node of the grown tree.
        comparisons: Stored networks that the tree was compared with, by method.
        sibling_of: Node whose expert each new node's expert starts from, by new node.
        goes_on: Whether they are trained further, as `finetune` and rules say.
    """

    experts: Mapping[int, Storage]
    comparisons: Mapping[str, Storage]
    sibling_of: Mapping[int, int]
    goes_on: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertPlan:
    """The plan of one expert: what it is trained on and where its result is stored.

    Attributes:
        role: Node of the expert; or the method, for a network that the tree is compared with.
        label: Name shown to users.
        job: Everything that its weights depend on, for the training loop.
        files: Shard files that it reads.
        result: Directory of its result in the store.
        parent: Key of the expert that it starts from.
        start: Weights that it starts from, in words.
        spec: Plain data that its key is the hash of.
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
        """The expert's node; None for a comparison."""
        return self.role if isinstance(self.role, int) else None

    @property
    def comparison(self) -> str | None:
        """The method that it is in comparisons with the tree; None for a node's expert."""
        return self.role if isinstance(self.role, str) else None

    @property
    def key(self) -> str:
        """The content hash under which the expert is stored."""
        return key_of(self.result)

    @property
    def kind(self) -> str:
        """The network, recipe and adapter as text; experts of one kind train at one speed."""
        phases = " in its last phase" if "phases" in self.spec else ""
        return f"{self.job.backbone} {self.job.recipe} {self.job.adapter}{phases}"

    @property
    def network(self) -> str:
        """The name of its network, with the adapter's rank if it is an adapter."""
        name, adapter = self.job.backbone.name, self.job.adapter
        return name if adapter is None else f"{name}, adapter of rank {adapter.rank}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Samples:
    """What the experts of a tree are trained on.

    Attributes:
        leaf_of: The leaf of each training patch.
        table: The training patches.
        shards: The training patches by leaf.
        shard_leaves: Leaves of `shards` that make up each leaf, if they are of a finer tree.
        extractor: What networks are told by that are told of images.
    """

    leaf_of: LeafTable
    table: Storage
    shards: Storage
    shard_leaves: Mapping[int, Sequence[int]] | None = None
    extractor: Storage | None = None


def own_experts(plans: Sequence[ExpertPlan]) -> dict[int, ExpertPlan]:
    """Return the plans of nodes' experts, by node; comparisons are left out."""
    return {plan.node: plan for plan in plans if plan.node is not None}


def plan_experts(
    bench: Workbench,
    config: BuildConfig,
    tree: Tree,
    samples: Samples,
    *,
    kept: Kept | None = None,
) -> list[ExpertPlan]:
    """Plan every expert that the tree needs, parents first, then what it is compared with.

    An expert's key depends on the samples of its node and not on the tree around it, so trees that
    share a group share its expert. Experts that are kept also keep their keys.

    Args:
        bench: The workbench.
        config: Configuration of the build.
        tree: The tree.
        samples: What its experts are trained on.
        kept: Experts of an earlier build that stay.

    Raises:
        ConfigError: If a network is told of images and there is no extractor.
    """
    place = _Place(bench, config, samples, goes_on=kept is not None and kept.goes_on)
    plans: dict[int | str, ExpertPlan] = {}
    shares = _shares(tree, samples.leaf_of, samples.table) if config.experts.rules else {}
    if kept is None:
        networks = choose_networks(config.experts, tree, shares)
    else:
        plans |= {node: _keep(tree, node, result) for node, result in kept.experts.items()}
        networks = {
            node: _as_beside(config, old, plans[old]) for node, old in kept.sibling_of.items()
        }
        if kept.goes_on:
            own = {node: plans[node].job.backbone for node in kept.experts}
            wanted = config.finetune.num_samples
            networks = choose_further(config.experts, tree, shares, own, wanted)
    for unit in units_of_tree(config.experts, tree, networks):
        plans[unit.role] = place(unit, plans)
    if kept is None:
        total = sum(plan.job.num_samples for plan in plans.values())
        for unit in units_compared(config.experts, tree, networks[ROOT], total):
            plans[unit.role] = place(unit, plans)
    else:
        plans |= {name: _keep(tree, name, result) for name, result in kept.comparisons.items()}
    compared = [plan for role, plan in plans.items() if isinstance(role, str)]
    ordered = [*(plans[node] for node in tree.experts()), *compared]
    for plan in ordered:
        bench.events.emit(
            "expert_planned",
            label=plan.label,
            key=plan.key,
            backbone=plan.job.backbone.name,
            start=plan.start,
        )
    return ordered


class _Place:
    """Plans the network of a unit, and finds by content hash where it is, or will be, stored.

    Experts that go on draw places, turns and degradations anew: by the seed of those that they
    start from they would see the same samples again, in the same order.
    """

    def __init__(
        self, bench: Workbench, config: BuildConfig, samples: Samples, *, goes_on: bool
    ) -> None:
        self._bench, self._config, self._samples = bench, config, samples
        self._goes_on = goes_on
        self._names = samples.shards.list_files(".parquet")
        self._find = functools.cache(find_published)  # which reads a file whole, to hash it

    def __call__(self, unit: Unit, plans: Mapping[int | str, ExpertPlan]) -> ExpertPlan:
        recipe, network = self._config.experts.recipe, unit.network
        if unit.batch_size is not None:
            recipe = dataclasses.replace(recipe, batch_size=unit.batch_size)
        parent = plans[network.parent] if network.parent is not None else None
        seed = self._config.seed
        if self._goes_on and parent is not None:
            seed = int(fingerprint([seed, parent.key])[:8], 16)
        spec = {
            "backbone": dataclasses.asdict(network.backbone),
            "recipe": to_dict(recipe),
            "num_samples": unit.num_samples,
            "samples": self._samples.leaf_of.hash_of(unit.leaves, head=key_of(self._samples.table)),
            "parent": parent.key if parent is not None else None,
            "seed": seed,
        }
        if version_of(network.backbone) > 1:
            spec["version"] = version_of(network.backbone)
        published = self._find(network.file) if network.file is not None else None
        if published is not None:
            spec["published"] = published.sha256
        if network.adapter is not None:
            spec["adapter"] = to_dict(network.adapter)
        elif parent is not None and phased(network.backbone):
            spec["phases"] = "last"
        teller = self._teller(network.backbone)
        if teller is not None:
            spec["extractor"] = key_of(teller)
        result = self._bench.place("expert", spec)
        return ExpertPlan(
            role=unit.role,
            label=unit.label,
            job=ExpertJob(
                key=key_of(result),
                backbone=network.backbone,
                recipe=recipe,
                num_samples=unit.num_samples,
                seed=seed,
                init=parent.result.uri if parent is not None else None,
                published=published,
                adapter=network.adapter,
                extractor=teller.uri if teller is not None else None,
            ),
            files=self._files(unit.leaves),
            result=result,
            parent=parent.key if parent is not None else None,
            start=network.start,
            spec=spec,
        )

    def _teller(self, backbone: BackboneConfig) -> Storage | None:
        """Return the extractor for a network that is told of images; None for any other."""
        if not backbone.seen:
            return None
        if self._samples.extractor is None:
            raise ConfigError(f"{backbone.name} is told of images by an extractor; there is none")
        return self._samples.extractor

    def _files(self, leaves: Sequence[int]) -> tuple[str, ...]:
        finer = self._samples.shard_leaves
        if finer is not None:
            leaves = [own for leaf in leaves for own in finer[leaf]]
        return tuple(leaf_files(self._names, leaves))


def train_experts(
    bench: Workbench,
    plans: Sequence[ExpertPlan],
    shards: Storage,
    on_status: OnStatus,
    *,
    config: BuildConfig,
    tree: str,
    budget: Budget | None,
    maps: RealMaps,
) -> TrainingStatus:
    """Train the experts that are not in the store yet, several at a time.

    Args:
        bench: The workbench.
        plans: Every expert of the tree.
        shards: What they are trained on.
        on_status: Called with the state of all trainings.
        config: Configuration of the build, with where runs are tracked.
        tree: Key of the tree, which groups the runs.
        budget: Cap on what they may cost.
        maps: Real maps for patches that are degraded anew during training.
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
                owner=bench.owner,
            ),
        )
        for plan in missing.values()
    ]
    return bench.runner.train(tasks, directory=bench.lanes, on_status=on_status, budget=budget)


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
            name=plan.label, id=plan.key, group=f"tree-{origin['tree']}", config=public(made_from)
        ),
        directory=f"{folder}/{plan.key}",
    )


def _keep(tree: Tree, role: int | str, result: Storage) -> ExpertPlan:
    """Return the plan of a stored expert, as it was when the expert was trained."""
    spec = result.done()["spec"]
    adapter = load(AdapterConfig, spec["adapter"]) if "adapter" in spec else None
    root = None if adapter is None else sibling(result, "expert", spec["parent"]).uri
    return ExpertPlan(
        role=role,
        label=label_of_role(tree, role),
        job=ExpertJob(
            key=key_of(result),
            backbone=read_card(result).backbone,
            # A bundle says neither recipe nor seed.
            recipe=load(RecipeConfig, spec.get("recipe", {})),
            num_samples=spec["num_samples"],
            seed=spec.get("seed", 0),
            init=root,
            adapter=adapter,
        ),
        files=(),
        result=result,
        parent=spec["parent"],
        start="kept as it was",
        spec=spec,
    )


def _as_beside(config: BuildConfig, node: int, plan: ExpertPlan) -> NetworkChoice:
    """Return the network of a new leaf: that of the leaf its samples went to before."""
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


def _shares(tree: Tree, leaf_of: LeafTable, table: Storage) -> dict[int, dict[str, float]]:
    """Return the shares of each node's training samples, by the labels that rules name."""
    found = compositions(tree, leaf_of.leaves, read_labels(table).map(label_of))
    return {made.node: dict(made.shares) for made in found}
