"""Which expert serves each node: its own, or the one above where that is better."""

from collections.abc import Mapping, Sequence

import numpy as np

from expertree.evaluation import gains_over_parent
from expertree.hierarchy import Tree, assign
from expertree.orchestration.expert_stages import ExpertPlan, own_experts
from expertree.orchestration.scores import join_scores, read_scores
from expertree.orchestration.tables import read_embeddings
from expertree.storage import Storage


def serving_plans(
    tree: Tree,
    plans: Sequence[ExpertPlan],
    *,
    embeddings: Mapping[str, Storage],
    scores: Mapping[tuple[str, str], Storage],
    prune: bool,
) -> dict[int, ExpertPlan]:
    """The expert of each node that has one.

    Args:
        tree: The tree.
        plans: Its experts, and what it is compared with, which serves nobody.
        embeddings: Of the sets of patches that routers are trained on (those of earlier builds too
            where a tree has grown), which no expert was trained on and which validation does not
            see either: whoever is pruned by validation's patches would look better there.
        scores: Of the experts on those patches, by key and name of the set.
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
    return {node: own[server] for node, server in servers(tree, gains).items()}


def servers(tree: Tree, gains: Mapping[int, float]) -> dict[int, int]:
    """For each expert's node the node whose expert serves it.

    An expert that loses against its parent's gives way to whoever serves the parent. That one may
    have given way itself: what is compared is each expert with the one it was trained from.

    Args:
        tree: The tree.
        gains: Held-out PSNR over the parent's expert in dB; experts without one stay.
    """
    serving: dict[int, int] = {}
    for node in tree.experts():
        parent = tree.parent_expert(node)
        loses = parent is not None and gains.get(node, 0.0) < 0.0
        serving[node] = serving[parent] if loses and parent is not None else node
    return serving
