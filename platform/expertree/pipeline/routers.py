"""Decides which expert serves each node, its own or a better one above, and trains the routers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from expertree.config import fingerprint, to_dict
from expertree.evaluation import gains_over_parent
from expertree.hierarchy import Labels, Tree, assign
from expertree.hierarchy.build import count_leaves
from expertree.pipeline.experts import ExpertPlan, own_experts
from expertree.pipeline.runner import OnDone
from expertree.pipeline.score_columns import join_scores, read_measures, read_scores
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench, key_of
from expertree.pipeline.tables import read_embeddings, read_names
from expertree.pipeline.tree import Hierarchy, assign_here
from expertree.routing import (
    Guide,
    Route,
    Router,
    RouterConfig,
    decide,
    make_guide,
    merge_guides,
    node_table,
    points_of,
    save_guide,
    save_router,
    train_router,
)
from expertree.storage import Storage


def serving_plans(
    tree: Tree,
    plans: Sequence[ExpertPlan],
    *,
    embeddings: Mapping[str, Storage],
    scores: Mapping[tuple[str, str], Storage],
    prune: bool,
) -> dict[int, ExpertPlan]:
    """Return the expert that serves each node that has one.

    Args:
        tree: The tree.
        plans: Experts of the tree; comparisons among them serve no node.
        embeddings: Embeddings of the patch sets that routers are trained on, by name (those of
            earlier builds too where a tree has grown). No expert was trained on them, and
            validation does not see them: a tree pruned on validation's patches would look better
            there than it is.
        scores: Scores of the experts on those patches, by key and name of the set.
        prune: Whether a node whose expert does not beat its parent's gets the parent's.
    """
    own = own_experts(plans)
    if not prune:
        return own
    leaves = [assign(tree, read_embeddings(vectors)[1]) for vectors in embeddings.values()]
    found = {
        node: join_scores([read_scores(scores[plan.key, name]) for name in embeddings])
        for node, plan in own.items()
    }
    gains = gains_over_parent(tree, np.concatenate(leaves), found)
    return {node: own[server] for node, server in serving_nodes(tree, gains).items()}


def serving_nodes(tree: Tree, gains: Mapping[int, float]) -> dict[int, int]:
    """Return the node whose expert serves each expert's node, by node.

    An expert that is worse than its parent's is replaced by the expert that serves the parent,
    which may not be the parent's own. Each expert is compared with the one it was trained from.

    Args:
        tree: The tree.
        gains: Held-out PSNR over the parent's expert in dB, by node; experts without one stay.
    """
    serving: dict[int, int] = {}
    for node in tree.experts():
        parent = tree.parent_expert(node)
        loses = parent is not None and gains.get(node, 0.0) < 0.0
        serving[node] = serving[parent] if loses and parent is not None else node
    return serving


def train_router_on(
    config: BuildConfig,
    bench: Workbench,
    hierarchy: Hierarchy,
    *,
    embeddings: Sequence[Storage],
    columns: Mapping[int, Sequence[Storage]],
    inputs: Sequence[Storage],
    measures: Sequence[Storage],
    training: Sequence[tuple[Storage, Storage]],
) -> Storage:
    """Train the routers of a tree on its experts' scores on the routers' patches.

    Args:
        config: Configuration of the build.
        bench: The workbench.
        hierarchy: The tree.
        embeddings: Embeddings of the patches, set by set.
        columns: Scores on the same sets of each expert that may be chosen, by node.
        inputs: Scores of the patches themselves, set by set.
        measures: Measures of the patches, set by set; none for routers that read none.
        training: Tables and embeddings of what experts were trained on; see `Built`.
    """
    tree = hierarchy.tree
    spec = {
        "router": _record(config.router),
        "tree": key_of(hierarchy.result),
        "scores": [key_of(c) for own in zip(*columns.values(), strict=True) for c in own],
        "inputs": [key_of(column) for column in inputs],
        "seed": config.seed,
    }
    if config.router.reads_measures:
        spec["measures"] = [key_of(column) for column in measures]
    if hierarchy.before is not None:
        spec["guide"] = fingerprint(to_dict(hierarchy.before))

    def make(result: Storage, _: OnDone) -> None:
        vectors = np.concatenate([read_embeddings(found)[1] for found in embeddings])
        psnr = {node: _psnr(own) for node, own in columns.items()}
        trained = train_router(
            config.router,
            tree,
            vectors,
            node_table(psnr, tree, absent=np.min),
            _psnr(inputs),
            seed=config.seed,
            measures=read_measures(measures) if config.router.reads_measures else None,
            levels=None if config.hierarchy.has_root else range(1, tree.num_levels),
        )
        save_router(trained.router, result)
        save_guide(_guide_of(hierarchy, training), result)
        result.write_json("curve.json", [dataclasses.asdict(epoch) for epoch in trained.curve])

    return bench.run("router", spec, make)


def choose_stored(
    router: Router, tree: Tree, embeddings: Storage, measures: Storage | None
) -> list[Route]:
    """Return the routes of a patch set by what is stored of it; measures only if they are read."""
    vectors, found = read_embeddings(embeddings)[1], None
    if router.shape.num_measures and measures is not None:
        found = read_measures([measures])
    with torch.inference_mode():
        return decide(router(points_of(tree, vectors, found)), tree)


def _record(router: RouterConfig) -> dict[str, Any]:
    """Return the settings as plain data; a newer one at its default is left out, to keep keys."""
    record = to_dict(router)
    if router.identical_db == RouterConfig().identical_db:
        del record["identical_db"]
    del record["measures"]  # which are read is recorded by column
    return record


def _psnr(columns: Sequence[Storage]) -> Float[np.ndarray, " patches"]:
    """Return the PSNR of scores on several sets, one after the other."""
    return join_scores([read_scores(column) for column in columns]).psnr_rgb


def _guide_of(hierarchy: Hierarchy, training: Sequence[tuple[Storage, Storage]]) -> Guide:
    """Return the guide of what experts were trained on, in a bundle that they come from too."""
    names = Labels.join([read_names(table) for table, _ in training])
    leaves, before = leaves_of_training(hierarchy, training), hierarchy.before
    guide = make_guide(hierarchy.tree, leaves, names)
    if before is None:
        return guide
    counts = count_leaves(hierarchy.tree, leaves).tolist(), before.counts
    return merge_guides(guide, before.guide, counts=counts)


def leaves_of_training(
    hierarchy: Hierarchy, training: Sequence[tuple[Storage, Storage]]
) -> Int64[np.ndarray, " patches"]:
    """Return the leaf of each patch that experts were trained on, set after set; see `Built`."""
    earlier = [assign_here(hierarchy.tree, found) for _, found in training[1:]]
    return np.concatenate([hierarchy.leaves, *earlier])
