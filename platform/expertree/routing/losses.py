"""What the routers are trained on: the cost of a choice, its uncertainty, and an even load."""

import math
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from expertree.hierarchy import Tree

LOG_VARIANCE_MIN = math.log(0.01)
"""The paper clips e_g at 0.01 (paper 000, section 3.3, below eq. 9)."""


COST_TEMPERATURE_DB = 0.5
"""Predicted costs closer than about this are equally good in `cost_loss`."""


def choice_nodes(tree: Tree) -> Int64[np.ndarray, "leaves levels"]:
    """The node where each level meets the path of each leaf."""
    return np.array([tree.path(leaf) for leaf in range(tree.num_leaves)], dtype=np.int64)


def node_regrets(
    losses: Float[np.ndarray, "samples nodes"], tree: Tree, *, cap_db: float
) -> Float32[np.ndarray, "samples nodes"]:
    """How much worse than the sample's best expert each node's expert is, in dB.

    L1 differences between experts are a few thousandths, and a hard sample's are many times an easy
    one's; as a ratio to the sample's best they are what PSNR, the measure in the end, sees.

    Args:
        losses: L1 of each node's expert on each sample, positive.
        tree: The tree whose nodes the columns are.
        cap_db: Largest regret that counts.

    Returns:
        20 log10(L1 / least L1), cut off at `cap_db`.

    Raises:
        ValueError: If the table does not have a column a node, or is not positive and finite.
    """
    if losses.ndim != 2 or losses.shape[1] != len(tree.nodes):
        raise ValueError(
            f"the loss table is {list(losses.shape)}, but a tree of {len(tree.nodes)} nodes needs "
            f"[samples, {len(tree.nodes)}]"
        )
    if not (np.isfinite(losses).all() and (losses > 0).all()):
        row, node = np.argwhere(~(np.isfinite(losses) & (losses > 0)))[0]
        raise ValueError(
            f"the loss of sample {row} with node {node}'s expert is {losses[row, node]}; losses "
            "must be positive and finite"
        )
    ratios = losses / losses.min(axis=1, keepdims=True)
    return cast("np.ndarray", np.minimum(20.0 * np.log10(ratios), cap_db).astype(np.float32))


def expected_cost(
    leaf_logits: Float[Tensor, "batch leaves"],
    level_logits: Float[Tensor, "batch levels"],
    costs: Float[Tensor, "batch leaves levels"],
) -> Float[Tensor, ""]:
    """Mean over samples of the sum of p(leaf) p(level) cost over choices (METHOD section 5)."""
    leaf, level = leaf_logits.softmax(dim=1), level_logits.softmax(dim=1)
    return torch.einsum("bk,bl,bkl->b", leaf, level, costs).mean()


def top1_cost(
    leaf_logits: Float[Tensor, "batch leaves"],
    level_logits: Float[Tensor, "batch levels"],
    costs: Float[Tensor, "batch leaves levels"],
) -> Float[Tensor, ""]:
    """The cost of the chosen expert, with a gradient through its gate values alone (paper, eq. 10).

    With frozen experts and one expert a sample, this gradient can only take weight from whatever
    was chosen, in proportion to its cost; it never sees what another expert would have cost.
    """
    leaf, chosen_leaf = leaf_logits.softmax(dim=1).max(dim=1)
    level, chosen_level = level_logits.softmax(dim=1).max(dim=1)
    gate = leaf * level
    rows = torch.arange(len(costs), device=costs.device)
    return (gate / gate.detach() * costs[rows, chosen_leaf, chosen_level]).mean()


def cost_loss(
    predicted: Float[Tensor, "batch nodes"], regrets: Float[Tensor, "batch nodes"]
) -> Float[Tensor, ""]:
    """Mean squared error of predicted regrets, plus the regret of choosing by them softly.

    The first sees every expert of every sample, which gates that choose one do not; the second
    makes the order among the best ones count most.
    """
    chosen = (-predicted / COST_TEMPERATURE_DB).softmax(dim=1)
    return (predicted - regrets).square().mean() + (chosen * regrets).sum(dim=1).mean()


def uncertainty_loss(
    degradation: Float[Tensor, "batch dim"],
    log_variance: Float[Tensor, "batch dim"],
    centroids: Float[Tensor, "batch dim"],
) -> Float[Tensor, ""]:
    """L_dg: negative log-likelihood of the centroid under the estimate (paper 000, eq. 9).

    (u - e_d)^2 / (2 exp(s)) + s / 2 with s the logarithm of the variance, clipped below, as a mean
    over dimensions and samples (METHOD section 5).

    Args:
        degradation: e_d.
        log_variance: s.
        centroids: u, the centroid of each sample's leaf, in the standardised space.
    """
    clipped = log_variance.clamp_min(LOG_VARIANCE_MIN)
    squared = (centroids - degradation).square()
    return (squared / (2.0 * clipped.exp()) + clipped / 2.0).mean()


def balance_loss(logits: Float[Tensor, "batch choices"]) -> Float[Tensor, ""]:
    """L_aux: squared coefficient of variation of the batch's gate mass (Shazeer et al. 2017).

    0 when each choice gets the same mass; `choices` - 1 when one gets all.
    """
    mass = logits.softmax(dim=1).sum(dim=0)
    return mass.var(correction=0) / mass.mean().square()
