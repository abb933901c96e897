"""Train the routers on a table of embeddings, leaves, and each expert's PSNR on each sample.

No expert runs here, so a search over objectives costs seconds a trial (METHOD section 5).
"""

import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from expertree.errors import ConfigError, TrainingError
from expertree.hierarchy import Tree, assign
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
from expertree.routing.router import Router, RouterOutput, RouterShape, points_of
from expertree.routing.settings import RouterConfig
from expertree.threads import torch_threads
from expertree.training import Optimizer, rate_share

_LEAST_SPREAD = 1e-6


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
    """A router in evaluation mode, and how its training went.

    Attributes:
        router: The router.
        curve: The passes of the gates, or the mean of those of the heads of costs, where these
            choose.
        held_out_regret_db: Mean regret, on the samples held back, of the passes that were kept.
    """

    router: Router
    curve: tuple[RouterEpoch, ...]
    held_out_regret_db: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """Training data as tensors, a row for each sample; costs of the levels to choose among.

    `regrets` has a column for each node, and one for the input where that is a choice.
    """

    points: Float[Tensor, "samples read"]
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


def train_router(
    config: RouterConfig,
    tree: Tree,
    embeddings: Float[np.ndarray, "samples dim"],
    psnr: Float[np.ndarray, "samples nodes"],
    inputs: Float[np.ndarray, " samples"],
    *,
    seed: int,
    measures: Float[np.ndarray, "samples measures"] | None = None,
    levels: Sequence[int] | None = None,
) -> TrainedRouter:
    """Train the routers on samples that the experts were not trained on.

    Args:
        config: Objective and optimiser.
        tree: The tree.
        embeddings: Embeddings as the extractor gives them, not standardised.
        psnr: PSNR of each node's expert on each sample, in dB; see `routing.audit.node_table`.
        inputs: PSNR of each sample's input.
        seed: Seed of the split, the initial weights, the order and the gates' noise.
        measures: Measures of each sample; needed if `config.reads_measures`.
        levels: Levels to choose among; all by default. The gate learns nothing of the others, so
            routes must be decided among the same ones.

    Returns:
        The router: the gates, and each head of costs, of the pass with the least regret on the
        samples that were held back from it. On a CPU the same arguments give the same bytes.

    Raises:
        ConfigError: If there are too few samples for the split, or measures are needed and missing.
        ValueError: If the table does not fit the tree.
        TrainingError: If the loss is not finite any more.
    """
    chosen_levels = range(tree.num_levels) if levels is None else levels
    points = _points(config, tree, embeddings, measures)
    leaves = assign(tree, embeddings)
    table = _make_table(config, tree, points, leaves, psnr, inputs, levels=chosen_levels)
    centroids = torch.from_numpy(tree.leaf_centroids.copy())
    # One thread sums in one order; steps this small are slower on more.
    with torch.random.fork_rng(devices=[]), torch_threads(1):
        torch.manual_seed(seed)
        order = torch.randperm(len(table.leaves))
        router = _untrained(config, tree, points, has_root=0 in chosen_levels)
        table = dataclasses.replace(table, points=router.scaled(points))
        curves = [
            _fit(config, _Gates(config, router, centroids), *_split(config, table, order, 0)),
            *(
                _fit(config, _Costs(config, head), *_split(config, table, order, number))
                for number, head in enumerate(router.cost_heads)
            ),
        ]
        choosing = curves[1:] if router.cost_heads else curves
        kept = [min(epoch.held_out_regret_db for epoch in curve) for curve in choosing]
        return TrainedRouter(
            router=router.eval(),
            curve=_mean_curve(choosing),
            held_out_regret_db=float(np.mean(kept)),
        )


def _points(
    config: RouterConfig,
    tree: Tree,
    embeddings: Float[np.ndarray, "samples dim"],
    measures: Float[np.ndarray, "samples measures"] | None,
) -> Float[Tensor, "samples read"]:
    """Return what routers trained so read of the samples."""
    if not config.reads_measures:
        return points_of(tree, embeddings)
    if measures is None:
        raise ConfigError(
            "the pictures that routers are trained on were not measured; build again, which makes "
            "only that, or set measures=false"
        )
    return points_of(tree, embeddings, measures)


def _untrained(
    config: RouterConfig, tree: Tree, points: Float[Tensor, "samples read"], *, has_root: bool
) -> Router:
    """Return a router with its first weights, which knows how the measures are spread."""
    predicts, measures = config.objective == "cost", points[:, tree.embed_dim :]
    shape = RouterShape(
        embed_dim=tree.embed_dim,
        num_leaves=tree.num_leaves,
        num_levels=tree.num_levels,
        num_costs=len(tree.nodes) if predicts else 0,
        num_cost_heads=config.num_cost_heads if predicts else 1,
        has_root=has_root,
        has_as_is=predicts,
        num_measures=measures.shape[1],
    )
    margin_db, caution = (config.as_is_margin_db, config.caution) if predicts else (0.0, 0.0)
    router = Router(shape, as_is_margin_db=margin_db, caution=caution)
    if shape.num_measures:
        router.measures_mean.copy_(measures.mean(dim=0))
        router.measures_std.copy_(measures.std(dim=0, correction=0).clamp(min=_LEAST_SPREAD))
    return router


def _make_table(
    config: RouterConfig,
    tree: Tree,
    points: Float[Tensor, "samples read"],
    leaves: Int64[np.ndarray, " samples"],
    psnr: Float[np.ndarray, "samples nodes"],
    inputs: Float[np.ndarray, " samples"],
    *,
    levels: Sequence[int],
) -> _Table:
    if not len(points) == len(psnr) == len(inputs):
        raise ValueError(
            f"{len(points)} embeddings, {len(psnr)} rows of PSNR and {len(inputs)} of inputs must "
            "be the same samples"
        )
    regrets = node_regrets(
        psnr,
        tree,
        cap_db=config.cap_db,
        identical_db=config.identical_db,
        inputs=inputs if config.objective == "cost" else None,
    )
    return _Table(
        points=points,
        leaves=torch.from_numpy(np.asarray(leaves, dtype=np.int64)),
        costs=torch.from_numpy(regrets[:, choice_nodes(tree)[:, list(levels)]]),
        regrets=torch.from_numpy(regrets),
        levels=list(levels),
        may_choose=torch.tensor([node.level in levels for node in tree.nodes]),
    )


def _split(
    config: RouterConfig, table: _Table, order: Int64[Tensor, " samples"], turn: int
) -> tuple[_Table, _Table]:
    """Return what is trained on in a turn and what is held back; the turns hold back others."""
    num_samples = len(order)
    num_held_out = round(config.held_out_fraction * num_samples)
    if num_held_out < 1 or num_samples - num_held_out < 2:
        raise ConfigError(
            f"{num_samples} samples are too few to train routers with held_out_fraction="
            f"{config.held_out_fraction}; hold back more photographs for routing"
        )
    turned = order.roll(-turn * num_held_out)
    return table.rows(turned[num_held_out:]), table.rows(turned[:num_held_out])


class _Part(Protocol):
    """A part of the router that is trained by itself: its weights, its loss, its choices."""

    module: nn.Module

    def loss(self, batch: _Table) -> Float[Tensor, ""]:
        """Return the objective on a batch."""

    def regret_db(self, table: _Table) -> float:
        """Return the mean regret of what it would choose."""


class _Gates:
    """The two heads and their gates."""

    def __init__(
        self, config: RouterConfig, router: Router, centroids: Float[Tensor, "leaves dim"]
    ) -> None:
        self._config, self._centroids, self._router = config, centroids, router
        self.module: nn.Module = nn.ModuleList(
            [router.degradation_head, router.granularity_head, router.leaf_gate, router.level_gate]
        )

    def loss(self, batch: _Table) -> Float[Tensor, ""]:
        return router_loss(
            self._config, self._judge(batch), batch.costs, batch.leaves, self._centroids
        )

    def regret_db(self, table: _Table) -> float:
        output, rows = self._judge(table), torch.arange(len(table.leaves))
        leaves, levels = output.leaf_logits.argmax(dim=1), output.level_logits.argmax(dim=1)
        return float(table.costs[rows, leaves, levels].mean())

    def _judge(self, table: _Table) -> RouterOutput:
        """Return the gates' output, with logits of only the levels to choose among."""
        output = self._router.judge_by_gates(table.points)
        return dataclasses.replace(output, level_logits=output.level_logits[:, table.levels])


class _Costs:
    """One head of costs."""

    def __init__(self, config: RouterConfig, head: nn.Module) -> None:
        self._config = config
        self.module = head

    def loss(self, batch: _Table) -> Float[Tensor, ""]:
        return cost_loss(self.module(batch.points), batch.regrets)

    def regret_db(self, table: _Table) -> float:
        found = self.module(table.points)
        nodes, as_is = found[:, :-1], found[:, -1]
        cheapest = nodes.masked_fill(~table.may_choose, float("inf")).min(dim=1)
        stays = ~is_worth_it(as_is - cheapest.values, self._config.as_is_margin_db)
        chosen = cheapest.indices.masked_fill(stays, table.regrets.shape[1] - 1)
        return float(table.regrets[torch.arange(len(chosen)), chosen].mean())


def _fit(config: RouterConfig, part: _Part, kept: _Table, held_out: _Table) -> list[RouterEpoch]:
    """Train a part, leave it with the weights of its best pass, and return all passes."""
    module = part.module
    optimizer = Optimizer(
        module.parameters(),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=False,  # It rounds in another way, and stored routers are to be made again alike.
    )
    num_steps = config.num_epochs * -(-len(kept.leaves) // config.batch_size)
    shares = (rate_share(step, num_steps) for step in range(num_steps))
    curve: list[RouterEpoch] = []
    best_db, best_state = math.inf, copy.deepcopy(module.state_dict())
    for _ in range(config.num_epochs):
        loss = _run_epoch(config, part, optimizer, shares, kept)
        with torch.inference_mode():
            module.eval()
            train_db, held_out_db = part.regret_db(kept), part.regret_db(held_out)
        curve.append(
            RouterEpoch(loss=loss, train_regret_db=train_db, held_out_regret_db=held_out_db)
        )
        if held_out_db <= best_db:
            best_db, best_state = held_out_db, copy.deepcopy(module.state_dict())
    module.load_state_dict(best_state)
    return curve


def _run_epoch(
    config: RouterConfig,
    part: _Part,
    optimizer: Optimizer,
    shares: Iterator[float],
    table: _Table,
) -> float:
    part.module.train()
    losses: list[float] = []
    order = torch.randperm(len(table.leaves))
    for indices in torch.split(order, config.batch_size):
        if len(indices) == 1:  # BatchNorm has no variance of one sample
            continue
        loss = part.loss(table.rows(indices))
        part.module.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step(next(shares))
        losses.append(float(loss.detach()))
    if not losses:
        raise TrainingError(
            f"a pass of the routers over {len(order)} samples took no step; hold back more "
            "photographs for routing"
        )
    if not np.isfinite(losses).all():
        raise TrainingError(
            f"the routers' loss is {losses[-1]} after {len(losses)} steps of a pass; lower "
            f"learning_rate={config.learning_rate}"
        )
    return float(np.mean(losses))


def _mean_curve(curves: Sequence[Sequence[RouterEpoch]]) -> tuple[RouterEpoch, ...]:
    """Return the passes of several parts as their means."""
    names = [field.name for field in dataclasses.fields(RouterEpoch)]
    return tuple(
        RouterEpoch(**{n: float(np.mean([getattr(epoch, n) for epoch in same])) for n in names})
        for same in zip(*curves, strict=True)
    )


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
