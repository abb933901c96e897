"""Train the routers on a table of embeddings, leaves, and each expert's PSNR on each sample.

No expert runs here, so a search over objectives costs seconds a trial (METHOD section 5).
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from expertree.errors import ConfigError, TrainingError
from expertree.hierarchy import Tree
from expertree.routing.decision import is_worth_it
from expertree.routing.losses import (
    balance_loss,
    choice_nodes,
    cost_loss,
    expected_cost,
    node_regrets,
    top1_cost,
    uncertainty_loss,
)
from expertree.routing.router import Router, RouterOutput, RouterShape

Objective = Literal["cost", "expected_l1", "paper"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouterConfig:
    """Settings of the training of the routers."""

    objective: Objective = "cost"
    """`cost`: predict what each expert would cost, and leaving the input as it is, and take the
    cheapest; the gates are trained beside. `expected_l1`: gates by the cost of every choice,
    weighted by its probability. `paper`: gates by the cost of the chosen one. Gates know experts
    only and never leave an input as it is."""

    as_is_margin_db: float = 1.0
    """Margin by which an expert must be predicted to beat the input to be chosen: predictions err
    by about as much, and a smaller gain is not worth the risk. At 1 dB a third fewer pictures are
    harmed than at 0.3, at the same mean PSNR (docs/LOG.md). Stored with the router."""

    alpha: float = 0.1
    """Weight of L_dg, the uncertainty loss (paper 000, eq. 10)."""

    beta: float = 0.01
    """Weight of L_aux, the load-balancing loss (paper 000, eq. 10)."""

    leaf_weight: float = 1.0
    """Weight of the cross-entropy of the leaf against its cluster; not part of `paper`."""

    cap_db: float = 12.0
    """Largest regret in dB that counts: hopeless choices would otherwise drown the close ones. At 6
    a spoiled picture counted little more than a poor one, and twice as many were harmed
    (docs/LOG.md)."""

    num_epochs: int = 30
    """Passes over the training split."""

    held_out_fraction: float = 0.2
    """Share of the samples on which the best pass is chosen."""

    batch_size: int = 64
    """Samples in each step."""

    learning_rate: float = 1e-3
    """Learning rate of Adam at the start (the paper's); it falls as a cosine to 0."""

    weight_decay: float = 0.01
    """Decoupled weight decay; samples are few and the heads are large."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouterEpoch:
    """One pass: the training loss and what the routes then cost on both splits.

    Attributes:
        loss: Mean objective over the pass.
        train_regret_db: Mean regret of what is chosen on the training split.
        held_out_regret_db: Mean regret of what is chosen on the held-out split.
    """

    loss: float
    train_regret_db: float
    held_out_regret_db: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRouter:
    """A router in evaluation mode, its training curve, and the pass that it is from."""

    router: Router
    curve: tuple[RouterEpoch, ...]
    best_epoch: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """Training data as tensors, a row for each sample; costs of the levels to choose among.

    `regrets` has a column for each node, and one for the input where that is a choice.
    """

    points: Float[Tensor, "samples dim"]
    leaves: Int64[Tensor, " samples"]
    costs: Float[Tensor, "samples leaves levels"]
    regrets: Float[Tensor, "samples choices"]
    levels: Sequence[int]
    may_choose: Bool[Tensor, " nodes"]

    def rows(self, indices: Int64[Tensor, " rows"]) -> "_Table":
        return dataclasses.replace(
            self,
            points=self.points[indices],
            leaves=self.leaves[indices],
            costs=self.costs[indices],
            regrets=self.regrets[indices],
        )

    def judge(self, router: Router) -> RouterOutput:
        """Return the router's output, with logits of only the levels to choose among."""
        output: RouterOutput = router(self.points)
        return dataclasses.replace(output, level_logits=output.level_logits[:, self.levels])


def train_router(
    config: RouterConfig,
    tree: Tree,
    embeddings: Float[np.ndarray, "samples dim"],
    leaves: Int64[np.ndarray, " samples"],
    psnr: Float[np.ndarray, "samples nodes"],
    inputs: Float[np.ndarray, " samples"],
    *,
    seed: int,
    levels: Sequence[int] | None = None,
) -> TrainedRouter:
    """Train the routers on samples that the experts were not trained on.

    Args:
        config: Objective and optimiser.
        tree: The tree.
        embeddings: Embeddings as the extractor gives them, not standardised.
        leaves: The leaf that each sample is assigned to.
        psnr: PSNR of each node's expert on each sample, in dB; see `routing.audit.node_table`.
        inputs: PSNR of each sample's input.
        seed: Seed of the split, the initial weights, the order and the gates' noise.
        levels: Levels to choose among; all by default. The gate learns nothing of the others, so
            routes must be decided among the same ones.

    Returns:
        The router of the best pass, by regret on the held-out split. On a CPU the same arguments
        give the same bytes.

    Raises:
        ConfigError: If there are too few samples for the split.
        ValueError: If the table does not fit the tree.
        TrainingError: If the loss is not finite any more.
    """
    chosen_levels = range(tree.num_levels) if levels is None else levels
    table = _make_table(config, tree, embeddings, leaves, psnr, inputs, levels=chosen_levels)
    centroids = torch.from_numpy(tree.leaf_centroids.copy())
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        kept, held_out = _split(config, table)
        predicts = config.objective == "cost"
        router = Router(
            RouterShape(
                embed_dim=tree.embed_dim,
                num_leaves=tree.num_leaves,
                num_levels=tree.num_levels,
                num_costs=len(tree.nodes) if predicts else 0,
                has_root=0 in chosen_levels,
                has_as_is=predicts,
            ),
            as_is_margin_db=config.as_is_margin_db if predicts else 0.0,
        )
        return _fit(config, router, kept, held_out, centroids)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread, to sum in one order; steps this small are slower on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _make_table(
    config: RouterConfig,
    tree: Tree,
    embeddings: Float[np.ndarray, "samples dim"],
    leaves: Int64[np.ndarray, " samples"],
    psnr: Float[np.ndarray, "samples nodes"],
    inputs: Float[np.ndarray, " samples"],
    *,
    levels: Sequence[int],
) -> _Table:
    if not len(embeddings) == len(leaves) == len(psnr) == len(inputs):
        raise ValueError(
            f"{len(embeddings)} embeddings, {len(leaves)} leaves, {len(psnr)} rows of PSNR and "
            f"{len(inputs)} of inputs must be the same samples"
        )
    regrets = node_regrets(
        psnr,
        tree,
        cap_db=config.cap_db,
        inputs=inputs if config.objective == "cost" else None,
    )
    return _Table(
        points=torch.from_numpy(tree.standardise(embeddings)),
        leaves=torch.from_numpy(np.asarray(leaves, dtype=np.int64)),
        costs=torch.from_numpy(regrets[:, choice_nodes(tree)[:, list(levels)]]),
        regrets=torch.from_numpy(regrets),
        levels=list(levels),
        may_choose=torch.tensor([node.level in levels for node in tree.nodes]),
    )


def _split(config: RouterConfig, table: _Table) -> tuple[_Table, _Table]:
    num_samples = len(table.leaves)
    num_held_out = round(config.held_out_fraction * num_samples)
    if num_held_out < 1 or num_samples - num_held_out < 2:
        raise ConfigError(
            f"{num_samples} samples are too few to train routers with held_out_fraction="
            f"{config.held_out_fraction}; hold back more photographs for routing"
        )
    order = torch.randperm(num_samples)
    return table.rows(order[num_held_out:]), table.rows(order[:num_held_out])


def _fit(
    config: RouterConfig,
    router: Router,
    kept: _Table,
    held_out: _Table,
    centroids: Float[Tensor, "leaves dim"],
) -> TrainedRouter:
    optimizer = torch.optim.AdamW(
        router.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    num_steps = config.num_epochs * -(-len(kept.leaves) // config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    curve: list[RouterEpoch] = []
    best_epoch, best_state = 0, copy.deepcopy(router.state_dict())
    for epoch in range(config.num_epochs):
        loss = _run_epoch(config, router, optimizer, schedule, kept, centroids)
        curve.append(
            RouterEpoch(
                loss=loss,
                train_regret_db=_regret_db(router, kept),
                held_out_regret_db=_regret_db(router, held_out),
            )
        )
        if curve[-1].held_out_regret_db <= curve[best_epoch].held_out_regret_db:
            best_epoch, best_state = epoch, copy.deepcopy(router.state_dict())
    router.load_state_dict(best_state)
    return TrainedRouter(router=router.eval(), curve=tuple(curve), best_epoch=best_epoch)


def _run_epoch(
    config: RouterConfig,
    router: Router,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    table: _Table,
    centroids: Float[Tensor, "leaves dim"],
) -> float:
    router.train()
    losses: list[float] = []
    order = torch.randperm(len(table.leaves))
    for indices in torch.split(order, config.batch_size):
        if len(indices) == 1:  # BatchNorm has no variance of one sample
            continue
        batch = table.rows(indices)
        output = batch.judge(router)
        loss = router_loss(config, output, batch.costs, batch.leaves, centroids)
        if output.costs is not None:
            loss = loss + cost_loss(_all_costs(output), batch.regrets)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    if not np.isfinite(losses).all():
        raise TrainingError(
            f"the routers' loss is {losses[-1]} after {len(losses)} steps of a pass; lower "
            f"learning_rate={config.learning_rate}"
        )
    return float(np.mean(losses))


def router_loss(
    config: RouterConfig,
    output: RouterOutput,
    costs: Float[Tensor, "batch leaves levels"],
    leaves: Int64[Tensor, " batch"],
    centroids: Float[Tensor, "leaves dim"],
) -> Float[Tensor, ""]:
    """Return the loss, cost + alpha L_dg + beta L_aux (paper 000, eq. 10; METHOD section 5)."""
    if config.objective == "paper":
        cost = top1_cost(output.leaf_logits, output.level_logits, costs)
    else:
        cost = expected_cost(output.leaf_logits, output.level_logits, costs)
        cost = cost + config.leaf_weight * F.cross_entropy(output.leaf_logits, leaves)
    uncertainty = uncertainty_loss(output.degradation, output.log_variance, centroids[leaves])
    balance = balance_loss(output.leaf_logits) + balance_loss(output.level_logits)
    return cost + config.alpha * uncertainty + config.beta * balance


def _all_costs(output: RouterOutput) -> Float[Tensor, "batch choices"]:
    """Return the costs of the nodes, and then that of the input if it is a choice."""
    if output.costs is None:
        raise ValueError("the router predicts no costs")
    if output.as_is_cost is None:
        return output.costs
    return torch.cat([output.costs, output.as_is_cost[:, None]], dim=1)


@torch.inference_mode()
def _regret_db(router: Router, table: _Table) -> float:
    output = table.judge(router.eval())
    rows = torch.arange(len(table.leaves))
    if output.costs is not None:
        cheapest = output.costs.masked_fill(~table.may_choose, float("inf")).min(dim=1)
        chosen = cheapest.indices
        if output.as_is_cost is not None:
            stays = ~is_worth_it(output.as_is_cost - cheapest.values, output.as_is_margin_db)
            chosen = chosen.masked_fill(stays, table.regrets.shape[1] - 1)
        return float(table.regrets[rows, chosen].mean())
    by_gates = table.costs[
        rows, output.leaf_logits.argmax(dim=1), output.level_logits.argmax(dim=1)
    ]
    return float(by_gates.mean())
