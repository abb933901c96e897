"""Grows a finished build: takes over what it made, and adds leaves where new images fit none.

Extractor, tree and experts of the finished build stay as they are, by their keys. New photographs
or degradations are embedded and assigned; groups of them that fit no leaf become leaves, and only
those get experts trained (METHOD section 3).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from expertree.config import load, to_dict
from expertree.errors import ArtefactError, ConfigError, PhotoError
from expertree.hierarchy import Growth, grow, load_tree, save_tree
from expertree.pipeline.earlier_build import FinishedBuild
from expertree.pipeline.experts import Kept
from expertree.pipeline.patch_sets import trained_on
from expertree.pipeline.runner import OnDone
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.sources import Material
from expertree.pipeline.stages import Workbench, key_of
from expertree.pipeline.tables import read_leaves, write_leaves
from expertree.pipeline.tree import Hierarchy, assign_embeddings, sample_embeddings
from expertree.storage import Storage
from expertree.uris import public

DECIDED = ("extractor", "hierarchy")
"""Sections of the configuration that the finished build decides."""

_GROWTH = "growth.json"
_MOST_NAMED = 3


def inherit(config: BuildConfig) -> BuildConfig:
    """Return the configuration with the settings of the build that is grown, if there is one.

    The sections of extractor and hierarchy are that build's. So are the experts' settings, unless
    others were given: they then hold for new experts.

    Raises:
        ConfigError: If extractor or hierarchy was given otherwise, or a folder does not fit.
        ArtefactError: If the build is not finished, or something of it is gone from the store.
    """
    past = past_of(config)
    if past is None:
        return config
    _check_places(config, past)
    before = load(BuildConfig, past.report["config"])
    usual = BuildConfig()
    taken: dict[str, Any] = {}
    for name in (*DECIDED, "experts"):
        given, was = getattr(config, name), getattr(before, name)
        if given == getattr(usual, name):
            taken[name] = was
        elif name in DECIDED and given != was:
            raise ConfigError(
                f"{name}: the tree of grow.build={public(config.grow.build)} was made with other "
                f"settings; leave {name} out, or build anew without grow.build"
            )
    _check_finished(past)
    return dataclasses.replace(config, **taken)


def past_of(config: BuildConfig) -> FinishedBuild | None:
    """Return the build that is grown, or None if the tree is new."""
    if config.grow.build is None:
        return None
    return FinishedBuild(config.grow.build, key="grow.build", store=config.store)


def check_photographs(past: FinishedBuild, material: Material) -> None:
    """Check that no expert was trained on pictures now held back for routers and validation.

    Raises:
        PhotoError: If one was; the message names some of the pictures.
    """
    seen = {
        sha256 for table, _ in past.all_sets("train") for sha256 in trained_on(table.done()["spec"])
    }
    held_back = [*material.clean_of("route"), *material.clean_of("val")]
    known = sorted({photo.name for photo in held_back if photo.sha256 in seen})
    if known:
        raise PhotoError(
            f"{len(known)} photographs are held back now, but the experts of grow.build were "
            f"trained on them ({', '.join(known[:_MOST_NAMED])}); give new photographs alone, or "
            "the old ones with the same seed and fractions"
        )


def grow_tree(
    bench: Workbench, config: BuildConfig, past: FinishedBuild, embeddings: Storage
) -> tuple[Hierarchy, Growth]:
    """Assign new training patches, and grow the tree where groups of them fit no leaf."""
    earlier = [found for _, found in past.all_sets("train")]
    spec = {
        "grown_from": key_of(past.directory("tree")),
        "limits": to_dict(config.grow.limits),
        "fit_samples": config.hierarchy.fit_samples,
        "embeddings": key_of(embeddings),
        "earlier": [key_of(found) for found in earlier],
        "seed": config.seed,
    }

    def make(result: Storage, _: OnDone) -> None:
        def sample(found: Storage) -> Float32[np.ndarray, "rows dim"]:
            return sample_embeddings(found, config.hierarchy, bench.runner)

        known = np.concatenate([sample(found) for found in earlier])
        growth = grow(past.tree, known, sample(embeddings), config.grow.limits, seed=config.seed)
        save_tree(growth.tree, result)
        leaf_of = assign_embeddings(growth.tree, embeddings, config.hierarchy, bench.runner)
        write_leaves(result, leaf_of)
        result.write_json(
            _GROWTH, {"nodes": _pairs(growth.nodes), "beside": _pairs(growth.sibling_of)}
        )

    result = bench.run("tree", spec, make)
    found = result.read_json(_GROWTH)
    growth = Growth(
        tree=load_tree(result), nodes=dict(found["nodes"]), sibling_of=dict(found["beside"])
    )
    bench.events.emit(
        "tree_grown",
        build=config.grow.build,
        leaves=list(growth.leaves),
        said=describe_growth(growth),
    )
    hierarchy = Hierarchy(
        result=result, tree=growth.tree, leaf_of=read_leaves(result), growth=growth
    )
    return hierarchy, growth


def keep_experts(past: FinishedBuild, growth: Growth) -> Kept:
    """Return the experts that stay, by node of the grown tree, and what new ones start from."""
    experts = {growth.nodes[node]: result for node, result in past.experts.items()}
    return Kept(experts=experts, comparisons=past.comparisons, sibling_of=growth.sibling_of)


def describe_growth(growth: Growth) -> str:
    """Say which leaves were added."""
    if not growth.sibling_of:
        return "Assignment only: no group of new images needs a leaf of its own."
    nodes = growth.tree.nodes
    named = (
        f"node {new} beside node {old} ({nodes[new].num_samples} new images)"
        for new, old in sorted(growth.sibling_of.items())
    )
    count = len(growth.sibling_of)
    leaves = "One leaf was" if count == 1 else f"{count} leaves were"
    return f"{leaves} added: {', '.join(named)}. All other experts are as they were."


def growth_record(config: BuildConfig, past: FinishedBuild, growth: Growth) -> dict[str, Any]:
    """Return the report's record of the growth, for people and for growing this build again."""
    return {
        "build": config.grow.build,
        "said": describe_growth(growth),
        "leaves": list(growth.leaves),
        "nodes": _pairs(growth.nodes),
        "beside": _pairs(growth.sibling_of),
        "earlier": past.patch_set_uris,
    }


def _check_places(config: BuildConfig, past: FinishedBuild) -> None:
    if Storage.open(str(config.grow.build)).is_same_place(Storage.open(config.output)):
        raise ConfigError(
            f"output={public(config.output)} is the folder of grow.build, whose report would be "
            "overwritten; give another one"
        )
    if Storage.open(config.store).path() != past.store.path():
        raise ConfigError(
            f"store={public(config.store)} does not hold the experts of "
            f"grow.build={public(config.grow.build)}; give store={past.store.where()}"
        )


def _check_finished(past: FinishedBuild) -> None:
    past.tree.check_experts(past.experts)
    sets = [one for name in ("train", "route") for both in past.all_sets(name) for one in both]
    experts = [*past.experts.values(), *past.comparisons.values()]
    needed = [past.directory("extractor"), *experts, *sets]
    gone = [result.where() for result in needed if not result.is_done()]
    if gone:
        raise ArtefactError(
            f"grow.build is not finished: {gone[0]} is not in the store"
            + (f", nor are {len(gone) - 1} more" if len(gone) > 1 else "")
            + "; run that build again"
        )


def _pairs(mapping: Mapping[int, int]) -> Sequence[tuple[int, int]]:
    return sorted(mapping.items())
