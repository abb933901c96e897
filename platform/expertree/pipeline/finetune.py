"""Trains experts of a bundle further, with the bundle alone: no store of the build that made it.

Extractor and tree stay as they are. New images are assigned to the tree's leaves, each expert that
is trained starts from its own weights in the bundle, and the routers are trained anew (METHOD
section 4).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.embedding import save_extractor, stored_extractor_hash
from expertree.errors import ConfigError
from expertree.experts.weights import CARD, read_card
from expertree.hierarchy import ROOT, HierarchyConfig, Tree, load_tree, save_tree
from expertree.hierarchy.build import count_leaves, with_counts
from expertree.pipeline.experts import ExpertPlan, Kept
from expertree.pipeline.networks import check_nodes
from expertree.pipeline.runner import OnDone
from expertree.pipeline.settings import BuildConfig, ExpertsConfig
from expertree.pipeline.stages import NotMadeError, Workbench, key_of
from expertree.pipeline.tables import read_leaves, write_leaves
from expertree.pipeline.tree import Hierarchy, OldLeaves, assign_embeddings
from expertree.restorer import Bundle, find_bundle, open_bundle
from expertree.storage import Storage
from expertree.training import LOG
from expertree.uris import public

Windows = Mapping[int, int | None]

_EXTRACTOR, _TREE = "extractor/", "tree/"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TakenOver:
    """What a build that trains a bundle further has from it, as results in the store.

    Attributes:
        bundle: The bundle.
        extractor: Result with its extractor.
        experts: Result of each expert, by node.
    """

    bundle: Bundle
    extractor: Storage
    experts: Mapping[int, Storage]

    @property
    def windows(self) -> Windows:
        """The sides in pixels of the experts' windows, by node; see `ExpertEntry.window_px`."""
        return {entry.node: entry.window_px for entry in self.bundle.manifest.experts}


def bundle_of(config: BuildConfig) -> Bundle | None:
    """Return the bundle that is trained further, all of it checked; None if there is none.

    Raises:
        ArtefactError: If it is damaged.
        ConfigError: If its experts are adapters.
    """
    name = config.finetune.bundle
    if name is None:
        return None
    bundle = open_bundle(find_bundle(name))
    if any(entry.adapter is not None for entry in bundle.manifest.experts):
        raise ConfigError(
            f"the experts of finetune.bundle={public(name)} are adapters, which cannot be trained "
            "further; give a bundle of whole networks"
        )
    return bundle


def settle(config: BuildConfig) -> BuildConfig:
    """Return the configuration with what the bundle that is trained further decides, if any.

    Raises:
        ArtefactError: If the bundle is damaged.
        ConfigError: If extractor, hierarchy or networks were given otherwise, a rule names a node
            that the bundle has not, or the output is where the bundle is.
    """
    bundle, usual, experts = bundle_of(config), BuildConfig(), config.experts
    if bundle is None:
        if config.finetune != usual.finetune:
            raise ConfigError("finetune.num_samples is of finetune.bundle, which is not given")
        return config
    _check_place(config, bundle)
    root, fit_samples = bundle.backbone(ROOT), config.hierarchy.fit_samples
    hierarchy = HierarchyConfig(
        groups=bundle.tree.groups[0 if bundle.router.shape.has_root else 1 :],
        metric=bundle.tree.metric,
        fit_samples=fit_samples,
    )
    decided: dict[str, tuple[Any, Any, Any]] = {
        "extractor": (config.extractor, usual.extractor, bundle.extractor.config),
        "hierarchy": (
            config.hierarchy,
            dataclasses.replace(usual.hierarchy, fit_samples=fit_samples),
            hierarchy,
        ),
        "experts.backbone": (experts.backbone, ExpertsConfig().backbone, root),
        "experts.init": (experts.init, None, None),
        "experts.adapter": (experts.adapter, None, None),
        "experts.comparisons": (experts.comparisons, ExpertsConfig().comparisons, ()),
    }
    for name, (given, default, own) in decided.items():
        if given not in (default, own):
            raise ConfigError(
                f"{name} is decided by finetune.bundle={public(str(config.finetune.bundle))}; "
                "leave it out, or build anew without finetune.bundle"
            )
    _check_experts(experts, bundle)
    num_samples = config.finetune.num_samples or max(
        usual.finetune.num_samples, experts.recipe.batch_size
    )
    return dataclasses.replace(
        config,
        extractor=bundle.extractor.config,
        hierarchy=hierarchy,
        # What a leaf is given if the tree grows one day.
        experts=dataclasses.replace(
            experts,
            backbone=root,
            comparisons=(),
            num_samples=(num_samples,) * bundle.tree.num_levels,
        ),
    )


def _check_place(config: BuildConfig, bundle: Bundle) -> None:
    """Raise ConfigError if the build would write its bundle where the one that it takes lies."""
    if bundle.directory.is_same_place(Storage.open(config.output).sub("bundle")):
        raise ConfigError(
            f"output={public(config.output)} has finetune.bundle in it, which would be replaced; "
            "give another output"
        )


def _check_experts(experts: ExpertsConfig, bundle: Bundle) -> None:
    """Raise ConfigError if experts were given what the bundle decides, or nodes it has not."""
    check_nodes(experts, bundle.tree)
    if experts.samples_per_expert is not None:
        raise ConfigError(
            "experts.samples_per_expert is of new experts; give finetune.num_samples those that "
            "each sees further"
        )
    if any(rule.backbone is not None or rule.init is not None for rule in experts.rules):
        raise ConfigError(
            "experts.rules can give nodes of finetune.bundle num_samples, not another backbone or "
            "init: each expert goes on from its own weights"
        )
    usual = ExpertsConfig()
    if (experts.warm_start, experts.start_from) != (usual.warm_start, usual.start_from):
        raise ConfigError(
            "experts.warm_start and experts.start_from are of new experts; those of "
            "finetune.bundle go on from their own weights"
        )


def take_over(bench: Workbench, config: BuildConfig) -> TakenOver | None:
    """Copy extractor and experts of the bundle that is trained further into the store.

    Returns:
        What was taken over; None for a build that trains no bundle further.
    """
    bundle = bundle_of(config)
    if bundle is None:
        return None

    def make(result: Storage, _: OnDone) -> None:
        save_extractor(bundle.extractor, result, captions=False)

    extractor = bench.run("extractor", {"taken": _hashes(bundle, _EXTRACTOR)}, make)
    specs = {node: _spec(bundle, node, extractor) for node in bundle.tree.experts()}
    places = {node: bench.place("expert", spec) for node, spec in specs.items()}
    for node, place in places.items():
        if not place.is_done():
            if bench.is_dry:
                raise NotMadeError("experts")
            _copy_expert(bundle, node, place, extractor)
            place.commit(specs[node])
    return TakenOver(bundle=bundle, extractor=extractor, experts=places)


def assign_to_tree(
    bench: Workbench, config: BuildConfig, taken: TakenOver, embeddings: Storage
) -> tuple[Hierarchy, Kept]:
    """Return the bundle's tree with the leaf of each training patch, and its experts.

    Nodes count the new patches: those are what their experts are trained on.
    """

    def make(result: Storage, _: OnDone) -> None:
        tree = dataclasses.replace(
            taken.bundle.tree, extractor=stored_extractor_hash(taken.extractor)
        )
        leaf_of = assign_embeddings(tree, embeddings, config.hierarchy, bench.runner)
        save_tree(with_counts(tree, count_leaves(tree, leaf_of.leaves)), result)
        write_leaves(result, leaf_of)

    spec = {
        "taken": _hashes(taken.bundle, _TREE),
        "extractor": key_of(taken.extractor),
        "embeddings": key_of(embeddings),
    }
    result = bench.run("tree", spec, make)
    hierarchy = Hierarchy(
        result=result,
        tree=load_tree(result),
        leaf_of=read_leaves(result),
        before=OldLeaves(guide=taken.bundle.guide, counts=_counts(taken.bundle.tree)),
    )
    return hierarchy, Kept(experts=taken.experts, comparisons={}, sibling_of={}, goes_on=True)


def finetune_record(config: BuildConfig, plans: Sequence[ExpertPlan]) -> dict[str, Any]:
    """Return the report's record of what was trained further."""
    trained = [str(plan.node) for plan in plans if plan.job.init is not None]
    said = f"{len(trained)} of {len(plans)} experts were trained further"
    if 0 < len(trained) < len(plans):
        nodes = "node" if len(trained) == 1 else "nodes"
        said += f" ({nodes} {', '.join(trained)}), and the others are as they were"
    return {"bundle": config.finetune.bundle, "said": f"{said}."}


def _spec(bundle: Bundle, node: int, extractor: Storage) -> dict[str, Any]:
    entry = bundle.entry(node)
    card = read_card(bundle.directory.sub(entry.folder))
    told = {"extractor": key_of(extractor)} if card.extractor is not None else {}
    return told | {
        "taken": [bundle.manifest.files[name].sha256 for name in entry.files],
        "num_samples": card.num_samples,
        "parent": None,
    }


def _counts(tree: Tree) -> tuple[int, ...]:
    """Return the images of each leaf, at least one: what is known of an empty one stays."""
    nodes = [tree.nodes[tree.path(leaf)[-1]] for leaf in range(tree.num_leaves)]
    return tuple(max(node.num_samples, 1) for node in nodes)


def _hashes(bundle: Bundle, part: str) -> list[str]:
    files = bundle.manifest.files
    return [files[name].sha256 for name in sorted(files) if name.startswith(part)]


def _copy_expert(bundle: Bundle, node: int, place: Storage, extractor: Storage) -> None:
    """Copy an expert as it is; only the key of the extractor that tells it of images is new."""
    entry = bundle.entry(node)
    card, weights = entry.files
    place.write_bytes(weights.rpartition("/")[2], bundle.directory.read_bytes(weights))
    content = bundle.directory.read_json(card)
    if content.get("extractor") is not None:
        place.write_json(CARD, content | {"extractor": key_of(extractor)})
    else:
        place.write_bytes(CARD, bundle.directory.read_bytes(card))
    place.write_json(LOG, {"curve": {}, "seconds": 0.0, "notes": ["taken over from a bundle"]})
