"""Losses of the routers: the cost of a choice, its uncertainty, and an even load."""

import math
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from expertree.hierarchy import Tree

LOG_VARIANCE_MIN = math.log(0.01)
"""The paper clips e_g at 0.01 (paper 000, section 3.3, below eq. 9)."""


IDENTICAL_DB = 60.0
"""PSNR from which on an image counts as the clean one: 8-bit images that differ by a quarter of a
grey level. Without it an identical image would be infinitely far from every other."""

COST_SCALE_DB, COST_WEIGHT = 1.0, 4.0
"""Regret in dB up to which `cost_loss` counts errors in dB, and the weight of their squares."""

COST_TEMPERATURE_DB = 0.5
"""Predicted costs closer than about this are equally good in `cost_loss`."""


def choice_nodes(tree: Tree) -> Int64[np.ndarray, "leaves levels"]:
    """Return the node where each level meets the path of each leaf."""
    return np.array([tree.path(leaf) for leaf in range(tree.num_leaves)], dtype=np.int64)


def node_regrets(
    psnr: Float[np.ndarray, "samples nodes"],
    tree: Tree,
    *,
    cap_db: float,
    inputs: Float[np.ndarray, " samples"] | None = None,
    identical_db: float = IDENTICAL_DB,
) -> Float32[np.ndarray, "samples choices"]:
    """Return how much worse each choice is than the sample's best one, in dB.

    Args:
        psnr: PSNR of each node's expert on each sample, in dB.
        tree: The tree whose nodes the columns are.
        cap_db: Largest regret that counts.
        inputs: PSNR of each sample's input, where leaving it as it is is a choice too.
        identical_db: PSNR from which on an image counts as the clean one.

    Returns:
        A column for each node, and one more for the inputs if they are given: best PSNR - own, cut
        off at `cap_db`.

    Raises:
        ValueError: If the table does not have a column for each node, or a PSNR is no number.
    """
    if psnr.ndim != 2 or psnr.shape[1] != len(tree.nodes):
        raise ValueError(
            f"the PSNR table is {list(psnr.shape)}, but a tree of {len(tree.nodes)} nodes needs "
            f"[samples, {len(tree.nodes)}]"
        )
    if np.isnan(psnr).any():
        row, node = np.argwhere(np.isnan(psnr))[0]
        raise ValueError(f"the PSNR of sample {row} with node {node}'s expert is no number")
    choices = psnr
    if inputs is not None:
        if inputs.shape != psnr.shape[:1] or np.isnan(inputs).any():
            raise ValueError(
                f"the inputs' PSNR is {list(inputs.shape)} with {int(np.isnan(inputs).sum())} that "
                f"are no number; give one for each of {len(psnr)} samples"
            )
        choices = np.concatenate([psnr, inputs[:, None]], axis=1)
    choices = np.minimum(choices, identical_db)
    regrets = choices.max(axis=1, keepdims=True) - choices
    return cast("np.ndarray", np.minimum(regrets, cap_db).astype(np.float32))


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
    predicted: Float[Tensor, "batch choices"], regrets: Float[Tensor, "batch choices"]
) -> Float[Tensor, ""]:
    """Error of predicted regrets, plus the regret of choosing by them softly.

    The first sees every choice for every sample, which gates that take one do not; the second
    makes the order among the best ones count most. Errors are squared on a scale that is linear up
    to about `COST_SCALE_DB` and logarithmic beyond: in dB, hopeless choices, 10 dB off, would leave
    no weight to faint coding, where all that can be won is half a dB.
    """
    chosen = (-predicted / COST_TEMPERATURE_DB).softmax(dim=1)
    apart = torch.asinh(predicted / COST_SCALE_DB) - torch.asinh(regrets / COST_SCALE_DB)
    return COST_WEIGHT * apart.square().mean() + (chosen * regrets).sum(dim=1).mean()


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
