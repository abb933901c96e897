"""The routers: two heads on an embedding and two noisy gates (paper 000, section 3.3).

H_d estimates the degradation at the finest level, H_g the variance of that estimate. G_d chooses a
leaf from the one, G_g a level from the other; where they meet in the tree stands the expert. Heads
beside them predict what each expert would cost, and choose in the gates' place.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from expertree.config import load, to_dict
from expertree.errors import ArtefactError, ConfigError
from expertree.hierarchy import Tree
from expertree.routing.measures import VERSION as MEASURES
from expertree.storage import Storage

VERSION = 5
"""Format of the artefact; a reader also reads those of `OLDER`, and refuses any other."""

OLDER = frozenset({2, 3, 4})
"""Formats whose caution is about costs. The first two have one head of costs, and the first knows
no cost of leaving an input as it is: its routers always choose an expert."""

_FIRST_WITH_HEADS = 4

Doubt = Literal["gain", "cost"]
"""What the heads' disagreement is taken of: an expert's gain over the input, or its cost alone."""

NUM_LAYERS = 5
"""Linear layers of a head (the released code of paper 000)."""

SLOPE = 0.1
"""Negative slope of the LeakyReLU between the layers of a head."""

NOISE_STD_MIN = 0.01
"""Least standard deviation of a gate's noise."""

COST_WIDTH, COST_DROPOUT = 256, 0.3
"""Width and dropout of the cost head's two hidden layers."""

_HEADER, _WEIGHTS = "router.json", "router.safetensors"

_ONE_HEAD = re.compile(r"^cost_head\.")
"""Beginning of the names of the one cost head's weights in formats that have one."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouterShape:
    """The sizes and choices that the shapes of a router's weights depend on.

    Attributes:
        embed_dim: Length of an embedding.
        num_leaves: Leaves of the tree.
        num_levels: Levels of the tree, the root's included.
        num_costs: Nodes of the tree whose costs are predicted; 0 leaves the choice to the gates.
        num_cost_heads: Heads that predict these costs, each by itself.
        has_root: Whether the expert for everything may be chosen.
        has_as_is: Whether the cost of leaving the input as it is is predicted too; only where those
            of the nodes are.
        num_measures: Measures of a picture (`measures.py`) that the heads of costs read beside its
            embedding.
    """

    embed_dim: int
    num_leaves: int
    num_levels: int
    num_costs: int = 0
    num_cost_heads: int = 1
    has_root: bool = True
    has_as_is: bool = False
    num_measures: int = 0

    @property
    def num_read(self) -> int:
        """Length of a point: of an embedding, and of the measures behind it."""
        return self.embed_dim + self.num_measures


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouterOutput:
    """The output of the heads and gates for a batch.

    Attributes:
        degradation: Estimate e_d, [batch, embed_dim], in the tree's standardised space.
        log_variance: Logarithm of e_g per dimension, [batch, embed_dim].
        leaf_logits: Logits of the leaves, [batch, num_leaves].
        level_logits: Logits of the levels, [batch, num_levels].
        costs: Predicted regret of each node's expert in dB, raised by what the heads disagree,
            [batch, num_costs]; None where the gates choose.
        as_is_cost: Predicted regret of leaving the input as it is in dB, [batch]; None where that
            is no choice. It is not raised: nothing can go wrong with it.
        as_is_margin_db: Margin by which an expert must beat the input to be chosen.
    """

    degradation: Float[Tensor, "batch dim"]
    log_variance: Float[Tensor, "batch dim"]
    leaf_logits: Float[Tensor, "batch leaves"]
    level_logits: Float[Tensor, "batch levels"]
    costs: Float[Tensor, "batch nodes"] | None = None
    as_is_cost: Float[Tensor, "batch"] | None = None  # noqa: F821 - the axis is a name, no type
    as_is_margin_db: float = 0.0

    def levels(self) -> list[int]:
        """Return the levels that may be chosen, the coarsest first: not the root's without one."""
        never = self.level_logits.isneginf().any(dim=0).tolist()
        return [level for level, is_never in enumerate(never) if not is_never]

    def rows(self, indices: Sequence[int]) -> Self:
        """Return the output for some of the samples."""
        chosen = list(indices)
        return dataclasses.replace(
            self,
            degradation=self.degradation[chosen],
            log_variance=self.log_variance[chosen],
            leaf_logits=self.leaf_logits[chosen],
            level_logits=self.level_logits[chosen],
            costs=None if self.costs is None else self.costs[chosen],
            as_is_cost=None if self.as_is_cost is None else self.as_is_cost[chosen],
        )


class Head(nn.Sequential):
    """Five linear layers with LeakyReLU between, then BatchNorm: [batch, dim] to [batch, dim]."""

    def __init__(self, embed_dim: int) -> None:
        layers: list[nn.Module] = []
        for index in range(NUM_LAYERS):
            layers.append(nn.Linear(embed_dim, embed_dim))
            if index + 1 < NUM_LAYERS:
                layers.append(nn.LeakyReLU(SLOPE))
        super().__init__(*layers, nn.BatchNorm1d(embed_dim))


class CostHead(nn.Sequential):
    """Predicts what each choice would cost: points [batch, num_read] to [batch, costs], in dB.

    Two hidden layers; dropout, because samples are few and what an expert makes of one is noisy.
    """

    def __init__(self, num_read: int, num_costs: int) -> None:
        layers: list[nn.Module] = []
        for width in (num_read, COST_WIDTH):
            layers += [
                nn.Linear(width, COST_WIDTH),
                nn.BatchNorm1d(COST_WIDTH),
                nn.LeakyReLU(SLOPE),
                nn.Dropout(COST_DROPOUT),
            ]
        super().__init__(*layers, nn.Linear(COST_WIDTH, num_costs))


class NoisyGate(nn.Module):
    """One linear layer to logits, with learnt Gaussian noise while training (Shazeer et al. 2017).

    Both layers start at zero: every choice is equally likely until something is learnt.
    """

    def __init__(self, embed_dim: int, num_choices: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_choices, embed_dim))
        self.noise_weight = nn.Parameter(torch.zeros(num_choices, embed_dim))

    def forward(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch choices"]:
        """Return logits; noisy in training mode, deterministic otherwise."""
        logits = F.linear(features, self.weight)
        if not self.training:
            return logits
        std = F.softplus(F.linear(features, self.noise_weight)) + NOISE_STD_MIN
        return logits + std * torch.randn_like(logits)


class Router(nn.Module):
    """H_d, H_g, G_d and G_g; and heads of costs, where the choice is not left to the gates.

    Attributes:
        shape: Shape of the router.
        as_is_margin_db: Margin by which an expert must beat the input to be chosen.
        caution: Standard deviations over the heads by which the mean cost of an expert is raised:
            heads disagree where pictures are unlike those that they were trained on.
        doubt: What they must disagree on: an expert's gain, since a head that finds a picture hard
            for the expert finds it hard as it is, too; routers of older formats, on its cost.
        measures_mean: Mean of each measure over the pictures that it was trained on, float32.
        measures_std: Standard deviation of each, positive. Both only where it reads measures.
    """

    measures_mean: Tensor
    measures_std: Tensor

    def __init__(
        self,
        shape: RouterShape,
        *,
        as_is_margin_db: float = 0.0,
        caution: float = 0.0,
        doubt: Doubt = "gain",
    ) -> None:
        super().__init__()
        if shape.num_cost_heads < 1:
            raise ValueError(f"num_cost_heads must be at least 1, got {shape.num_cost_heads}")
        if shape.has_as_is and not shape.num_costs:
            raise ValueError(
                "has_as_is=True needs predicted costs, but num_costs is 0; the gates cannot leave "
                "an input as it is"
            )
        if shape.num_measures and not shape.num_costs:
            raise ValueError(
                f"num_measures={shape.num_measures} are for heads of costs, but num_costs is 0"
            )
        self.shape = shape
        self.as_is_margin_db = as_is_margin_db
        self.caution = caution
        self.doubt = doubt
        self.degradation_head = Head(shape.embed_dim)
        self.granularity_head = Head(shape.embed_dim)
        self.leaf_gate = NoisyGate(shape.embed_dim, shape.num_leaves)
        self.level_gate = NoisyGate(shape.embed_dim, shape.num_levels)
        num_costs = shape.num_costs + int(shape.has_as_is)  # the input's is the last one
        self.cost_heads = nn.ModuleList(
            CostHead(shape.num_read, num_costs)
            for _ in range(shape.num_cost_heads if num_costs else 0)
        )
        if shape.num_measures:
            self.register_buffer("measures_mean", torch.zeros(shape.num_measures))
            self.register_buffer("measures_std", torch.ones(shape.num_measures))

    def forward(self, points: Float[Tensor, "batch read"]) -> RouterOutput:
        """Return the output of heads and gates for a batch of pictures.

        Args:
            points: What `points_of` returns, float32.
        """
        costs, as_is_cost = self._costs(points)
        output = self.judge_by_gates(points)
        levels = output.level_logits
        if not (self.shape.has_root or self.training):
            levels = _without_first(levels, float("-inf"))
            costs = None if costs is None else _without_first(costs, float("inf"))
        return dataclasses.replace(
            output,
            level_logits=levels,
            costs=costs,
            as_is_cost=as_is_cost,
            as_is_margin_db=self.as_is_margin_db,
        )

    def judge_by_gates(self, points: Float[Tensor, "batch read"]) -> RouterOutput:
        """Return what `forward` does, of the two heads and their gates alone, the root allowed."""
        embedded = points[:, : self.shape.embed_dim]
        degradation = self.degradation_head(embedded)
        log_variance = self.granularity_head(embedded)
        leaves = self.leaf_gate(degradation)  # the leaves' noise is drawn first, then the levels'
        return RouterOutput(
            degradation=degradation,
            log_variance=log_variance,
            leaf_logits=leaves,
            level_logits=self.level_gate(log_variance),
        )

    def scaled(self, points: Float[Tensor, "batch read"]) -> Float[Tensor, "batch read"]:
        """Return points as the heads of costs read them: measures at mean 0 and deviation 1."""
        if not self.shape.num_measures:
            return points
        embedded, measures = points[:, : self.shape.embed_dim], points[:, self.shape.embed_dim :]
        return torch.cat([embedded, (measures - self.measures_mean) / self.measures_std], dim=1)

    def _costs(
        self, points: Float[Tensor, "batch read"]
    ) -> tuple[Float[Tensor, "batch nodes"] | None, Float[Tensor, " batch"] | None]:
        """Return the costs of the nodes' experts, raised by the heads' doubt, and the input's."""
        if not self.cost_heads:
            return None, None
        scaled = self.scaled(points)
        found = torch.stack([head(scaled) for head in self.cost_heads])
        mean = found.mean(dim=0)
        if not self.shape.has_as_is:
            return mean + self.caution * found.std(dim=0, correction=0), None
        nodes, as_is = found[..., :-1], found[..., -1:]
        disputed = nodes - as_is if self.doubt == "gain" else nodes
        return mean[:, :-1] + self.caution * disputed.std(dim=0, correction=0), mean[:, -1]


def points_of(
    tree: Tree,
    embeddings: Float[np.ndarray, "samples dim"],
    measures: Float[np.ndarray, "samples measures"] | None = None,
) -> Float32[Tensor, "samples read"]:
    """Return what a router reads of pictures.

    Args:
        tree: The tree, in whose standardised space the embeddings are put.
        embeddings: Embeddings as the extractor gives them.
        measures: Measures of the same pictures; None for a router that reads none.
    """
    points = torch.from_numpy(tree.standardise(embeddings))
    if measures is None:
        return points
    return torch.cat([points, torch.from_numpy(np.asarray(measures, dtype=np.float32))], dim=1)


def _without_first(
    values: Float[Tensor, "batch choices"], never: float
) -> Float[Tensor, "batch choices"]:
    """Return values whose first column, which is the root's, is replaced by one never chosen."""
    return torch.cat([torch.full_like(values[:, :1], never), values[:, 1:]], dim=1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
    """The content of `router.json`; the weights are in a file beside it."""

    version: int
    shape: RouterShape
    as_is_margin_db: float = 0.0
    caution: float = 0.0
    doubt: Doubt = "cost"
    measures: int | None = None


def save_router(router: Router, directory: Storage) -> None:
    """Write `router.json` and `router.safetensors`; the same router gives the same bytes."""
    weights = {name: tensor.contiguous() for name, tensor in router.state_dict().items()}
    directory.write_bytes(_WEIGHTS, safetensors.torch.save(weights))
    header = _Header(
        version=VERSION,
        shape=router.shape,
        as_is_margin_db=router.as_is_margin_db,
        caution=router.caution,
        doubt=router.doubt,
        measures=MEASURES if router.shape.num_measures else None,
    )
    directory.write_json(_HEADER, to_dict(header))


def load_router(directory: Storage) -> Router:
    """Read a router, in evaluation mode, on the CPU.

    Raises:
        ArtefactError: If it is missing, damaged, of another version, or its weights do not have the
            shapes that its header promises.
    """
    header = _read_header(directory)
    if header.shape.num_measures and header.measures != MEASURES:
        raise ArtefactError(
            f"{directory.path(_HEADER)} reads what formulas of version {header.measures} measure "
            f"in a picture, this program has version {MEASURES}; train the routers again"
        )
    try:
        router = Router(
            header.shape,
            as_is_margin_db=header.as_is_margin_db,
            caution=header.caution,
            doubt=header.doubt,
        )
    except ValueError as error:
        raise ArtefactError(f"{directory.path(_HEADER)} is damaged: {error}") from error
    try:
        weights = safetensors.torch.load(directory.read_bytes(_WEIGHTS))
        if header.version < _FIRST_WITH_HEADS:
            weights = {_ONE_HEAD.sub("cost_heads.0.", name): w for name, w in weights.items()}
        router.load_state_dict(weights)
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ArtefactError(f"{directory.path(_WEIGHTS)} does not fit: {reason}") from error
    return router.eval()


def _read_header(directory: Storage) -> _Header:
    where, data = directory.path(_HEADER), directory.read_json(_HEADER)
    version = data.get("version") if isinstance(data, dict) else None
    if version not in {VERSION, *OLDER}:
        known = ", ".join(map(str, sorted({VERSION, *OLDER})))
        raise ArtefactError(
            f"{where} has format version {version!r}, this program reads {known}; train the "
            "routers again"
        )
    try:
        return load(_Header, data)
    except ConfigError as error:
        raise ArtefactError(f"{where} is damaged: {error}") from error
