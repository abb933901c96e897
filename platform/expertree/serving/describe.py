"""Describe bundles and routes for the callers of an endpoint."""

from collections.abc import Mapping, Sequence

import numpy as np

from expertree.hierarchy import Node, Tree
from expertree.restorer import Bundle
from expertree.restorer.manifest import ExpertEntry
from expertree.routing import Guide, Route
from expertree.serving.engine import Alternative, Expert, Model, ModelNode, Routed

_DIGITS = 4
"""Decimals that shares and probabilities are rounded to."""


def describe_model(bundle: Bundle, model_id: str | None = None) -> Model:
    """Describe a bundle as a model.

    Args:
        bundle: An opened bundle.
        model_id: Name of the model in URLs; the beginning of its digest by default.
    """
    manifest, tree = bundle.manifest, bundle.tree
    digest = manifest.digest
    return Model(
        id=model_id or digest[:12],
        digest=digest,
        groups=tree.groups,
        names=bundle.guide.names,
        takes_sentences=bundle.outline.sentence_encoder is not None,
        nodes=tuple(_describe_node(node, tree, bundle.guide) for node in tree.nodes),
        experts=tuple(_describe_expert(entry, bundle) for entry in manifest.experts),
        num_parameters=sum(entry.num_parameters for entry in manifest.experts),
        num_bytes=sum(entry.num_bytes for entry in manifest.files.values()),
    )


def describe_route(
    route: Route, tree: Tree, guide: Guide, *, model: str, seconds: Mapping[str, float]
) -> Routed:
    """Describe a route, with its path, its degradations and the other experts.

    Args:
        route: Route that `Restorer.route` gave.
        tree: Tree of the same bundle.
        guide: Guide of the same bundle.
        model: Digest of the bundle.
        seconds: Seconds by stage.
    """
    others = _expert_probabilities(route, tree)
    if route.expert is not None:
        others.pop(route.expert)
    ranked = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    return Routed(
        model=model,
        expert=route.expert,
        node=route.node,
        level=route.level,
        leaf=route.leaf,
        path=tree.path(route.leaf)[: route.level + 1],
        leaf_probabilities=route.leaf_probabilities,
        level_probabilities=route.level_probabilities,
        confidence=route.confidence,
        degradations=_held(guide, route.leaf_probabilities),
        alternatives=tuple(Alternative(expert=node, probability=p) for node, p in ranked),
        gain_db=None if route.gain_db is None else round(route.gain_db, _DIGITS),
        seconds=seconds,
    )


def _describe_node(node: Node, tree: Tree, guide: Guide) -> ModelNode:
    sizes = {own.leaves[0]: own.num_samples for own in tree.nodes_of_level(tree.num_levels - 1)}
    weights = [sizes[leaf] if leaf in node.leaves else 0 for leaf in range(tree.num_leaves)]
    return ModelNode(
        index=node.index,
        level=node.level,
        parent=node.parent,
        children=node.children,
        leaves=node.leaves,
        num_samples=node.num_samples,
        expert=tree.expert_of(node.index),
        holds=_held(guide, weights),
    )


def _describe_expert(entry: ExpertEntry, bundle: Bundle) -> Expert:
    return Expert(
        node=entry.node,
        levels=entry.levels,
        num_samples=entry.num_samples,
        backbone=entry.backbone,
        num_parameters=entry.num_parameters,
        num_bytes=sum(bundle.manifest.files[name].num_bytes for name in entry.files),
        adapter_rank=None if entry.adapter is None else entry.adapter.rank,
    )


def _held(guide: Guide, weights: Sequence[float]) -> dict[str, float]:
    """Return the share of each degradation in weighted leaves; degrees (two words) are left out."""
    total = max(sum(weights), 1e-12)
    shares = np.asarray(weights) @ np.asarray(guide.shares) / total
    known = {
        name: round(float(share), _DIGITS)
        for name, share in zip(guide.names, shares, strict=True)
        if " " not in name
    }
    return dict(sorted(known.items(), key=lambda item: -item[1]))


def _expert_probabilities(route: Route, tree: Tree) -> dict[int, float]:
    """Return each expert's probability: the sum over the leaves and levels that meet at it."""
    found = dict.fromkeys(tree.experts(), 0.0)
    for leaf, leaf_probability in enumerate(route.leaf_probabilities):
        for node, level_probability in zip(tree.path(leaf), route.level_probabilities, strict=True):
            found[tree.expert_of(node)] += leaf_probability * level_probability
    return {node: round(min(1.0, probability), _DIGITS) for node, probability in found.items()}
