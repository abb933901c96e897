"""Choose one expert for each image from the routers' output, or leave the image as it is."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from expertree.hierarchy import Tree
from expertree.routing.router import RouterOutput


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """The expert that an image gets, if any, and how sure that is.

    Attributes:
        node: Node where the level meets the path of the leaf. For an image that is left as it is,
            the node that would serve it if one insisted.
        expert: The node whose expert serves `node`: the node itself, or one above it that holds the
            same samples. None leaves the image as it is.
        level: The chosen level, 0 for the root's.
        leaf: The chosen leaf.
        leaf_probabilities: Probability of each leaf; 0 where masked.
        level_probabilities: Probability of each level; 0 where masked. With predicted costs, it is
            the softmax of what the levels of the leaf's path cost in dB, negated.
        confidence: Confidence in the choice, in [0, 1]. With gates, it is the probability of all
            choices that end at this expert. With predicted costs, it is the logistic function of
            the lead over the next choice in dB; leaving the input as it is counts as a choice, with
            the margin that an expert needs in its favour.
        gain_db: Predicted gain of the expert of `node` over the input; None if unknown.
    """

    node: int
    expert: int | None
    level: int
    leaf: int
    leaf_probabilities: tuple[float, ...]
    level_probabilities: tuple[float, ...]
    confidence: float
    gain_db: float | None = None


def is_worth_it(gain_db: Float[Tensor, "*batch"], margin_db: float) -> Bool[Tensor, "*batch"]:
    """Return whether an expert that is predicted to gain so much over the input is chosen."""
    return gain_db > margin_db


def decide(
    output: RouterOutput,
    tree: Tree,
    *,
    leaf_mask: Bool[Tensor, " leaves"] | Sequence[bool] | None = None,
    level: int | None = None,
    levels: Sequence[int] | None = None,
    expert: int | None = None,
    insist: bool = False,
) -> list[Route]:
    """Choose an expert for each sample of a batch, or to leave it as it is.

    What is not allowed gets a logit of minus infinity before the softmax (paper 000). A sample is
    left as it is where no expert is predicted to beat the input by more than the router's margin,
    unless one insists: by saying so, or by naming a level, an expert or leaves.

    Args:
        output: Output of a router in evaluation mode.
        tree: The tree that the router was trained for.
        leaf_mask: True where a leaf may be chosen, for all samples; all leaves by default.
        level: Level to take.
        levels: Levels to choose among; all by default.
        expert: Expert to take, by its node; only levels and leaves that lead to it are chosen.
        insist: Whether to choose an expert, whatever it is predicted to gain.

    Returns:
        A route for each sample.

    Raises:
        ValueError: If the level or expert does not exist, or nothing is left to choose from.
    """
    allowed_levels = _allowed_levels(tree, level, levels, expert)
    leaves = _allowed_leaves(tree, leaf_mask, expert)
    device = output.leaf_logits.device
    if not allowed_levels[output.levels()].any():
        raise ValueError(
            f"level {level if level is not None else 0} is never chosen in this tree, which has no "
            "expert for everything; give another"
        )
    leaf_logits = output.leaf_logits.masked_fill(~leaves.to(device), float("-inf"))
    level_logits = output.level_logits.masked_fill(~allowed_levels.to(device), float("-inf"))
    leaf_probabilities = leaf_logits.softmax(dim=1).double().cpu()
    if output.costs is not None:
        nodes = _allowed_nodes(tree, leaves, allowed_levels, expert).to(device)
        costs = output.costs.masked_fill(~nodes, float("inf")).double().cpu()
        insists = insist or level is not None or expert is not None or leaf_mask is not None
        margin_db = None if insists else output.as_is_margin_db
        as_is: Sequence[float | None] = [None] * len(costs)
        if output.as_is_cost is not None:
            as_is = output.as_is_cost.double().cpu().tolist()
        return [
            _route_by_cost(tree, cost, leaf, own, margin_db)
            for cost, leaf, own in zip(costs, leaf_probabilities, as_is, strict=True)
        ]
    level_probabilities = level_logits.softmax(dim=1).double().cpu()
    return [
        _route(tree, leaf, level)
        for leaf, level in zip(leaf_probabilities, level_probabilities, strict=True)
    ]


def _allowed_leaves(
    tree: Tree, leaf_mask: Tensor | Sequence[bool] | None, expert: int | None
) -> Bool[Tensor, " leaves"]:
    allowed = torch.ones(tree.num_leaves, dtype=torch.bool)
    if leaf_mask is not None:
        allowed = torch.as_tensor(leaf_mask, dtype=torch.bool)
        if allowed.shape != (tree.num_leaves,):
            raise ValueError(
                f"leaf_mask has shape {list(allowed.shape)}, the tree has {tree.num_leaves} leaves"
            )
    if expert is not None:
        below = torch.zeros_like(allowed)
        below[list(tree.nodes[expert].leaves)] = True
        allowed = allowed & below
    if not allowed.any():
        reason = "leaf_mask allows no leaf" + ("" if expert is None else f" below expert {expert}")
        raise ValueError(f"{reason}; allow at least one")
    return allowed


def _allowed_levels(
    tree: Tree, level: int | None, levels: Sequence[int] | None, expert: int | None
) -> Bool[Tensor, " levels"]:
    allowed = torch.ones(tree.num_levels, dtype=torch.bool)
    if levels is not None:
        allowed[:] = False
        allowed[list(levels)] = True
    if expert is not None:
        serves = torch.zeros_like(allowed)
        serves[list(tree.levels_of_expert(expert))] = True
        allowed = allowed & serves
    if level is not None:
        if not 0 <= level < tree.num_levels:
            raise ValueError(
                f"level {level} does not exist; the tree has levels 0 to {tree.num_levels - 1}"
            )
        only = torch.zeros_like(allowed)
        only[level] = True
        allowed = allowed & only
    if not allowed.any():
        raise ValueError(f"expert {expert} does not serve level {level}; give one of the two")
    return allowed


def _allowed_nodes(
    tree: Tree,
    leaves: Bool[Tensor, " leaves"],
    levels: Bool[Tensor, " levels"],
    expert: int | None,
) -> Bool[Tensor, " nodes"]:
    return torch.tensor(
        [
            bool(levels[node.level])
            and bool(leaves[list(node.leaves)].any())
            and (expert is None or tree.expert_of(node.index) == expert)
            for node in tree.nodes
        ]
    )


def _route_by_cost(
    tree: Tree,
    costs: Tensor,
    leaf_probabilities: Tensor,
    as_is_cost: float | None,
    margin_db: float | None,
) -> Route:
    """Return the route to the cheapest node, by the likeliest leaf below it, or to none.

    Args:
        tree: The tree.
        costs: Cost of each node; infinite where it may not be chosen.
        leaf_probabilities: Probability of each leaf.
        as_is_cost: Cost of leaving the sample as it is; None if unknown.
        margin_db: Margin by which an expert must beat the input; None chooses one in any case.
    """
    node = int(costs.argmin())
    below = list(tree.nodes[node].leaves)
    leaf = below[int(leaf_probabilities[below].argmax())]
    expert = tree.expert_of(node)
    rivals = [own for own in tree.experts() if own != expert]
    cheapest = costs[[n.index for n in tree.nodes if tree.expert_of(n.index) in rivals]]
    lead_db = float(cheapest.min() - costs[node]) if rivals else float("inf")
    gain_db = None if as_is_cost is None else as_is_cost - float(costs[node])
    stays = False
    if gain_db is not None and margin_db is not None:
        stays = not is_worth_it(torch.tensor(gain_db, dtype=torch.float64), margin_db)
        lead_db = margin_db - gain_db if stays else min(lead_db, gain_db - margin_db)
    return Route(
        node=node,
        expert=None if stays else expert,
        level=tree.nodes[node].level,
        leaf=leaf,
        leaf_probabilities=tuple(leaf_probabilities.tolist()),
        level_probabilities=tuple((-costs[list(tree.path(leaf))]).softmax(dim=0).tolist()),
        confidence=1.0 / (1.0 + math.exp(-lead_db)) if math.isfinite(lead_db) else 1.0,
        gain_db=gain_db,
    )


def _route(
    tree: Tree,
    leaf_probabilities: Tensor,
    level_probabilities: Tensor,
) -> Route:
    leaf, level = int(leaf_probabilities.argmax()), int(level_probabilities.argmax())
    node = tree.node_at(leaf, level)
    expert = tree.expert_of(node)
    below = leaf_probabilities[list(tree.nodes[expert].leaves)].sum()
    across = level_probabilities[list(tree.levels_of_expert(expert))].sum()
    return Route(
        node=node,
        expert=expert,
        level=level,
        leaf=leaf,
        leaf_probabilities=tuple(leaf_probabilities.tolist()),
        level_probabilities=tuple(level_probabilities.tolist()),
        confidence=min(1.0, float(below * across)),
    )
