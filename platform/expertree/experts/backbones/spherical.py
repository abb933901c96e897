"""SLER-IR's router: an expert for each layer by angles on a sphere, and its expert centres.

Paper 004, sections 3.2 and 3.3. What the paper leaves open is settled in METHOD section 4.
"""

import contextlib
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.spec import Joined, RowsOfAll

MARGIN = 0.5
"""Lambda of the contrastive loss, which the paper does not give."""

_KEPT = 0.99
"""Share of a centre that a step keeps."""

_REPULSION = 0.1
_SINKHORN_ROUNDS, _SINKHORN_EPSILON = 3, 0.05


class Router(Joined):
    """Places an image on the unit sphere, once for each layer.

    The centres, one an expert and common to all layers, begin as the corners of a regular simplex:
    as far apart as they can be. They are no parameters; `follow` moves them.
    """

    centres: Tensor
    joined = ("centres",)

    def __init__(self, embed_dim: int, hidden: int, dim: int, layers: int, experts: int) -> None:
        super().__init__()
        self._shape = (layers, dim)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, hidden), nn.GELU(), nn.Linear(hidden, layers * dim)
        )
        self.register_buffer("centres", simplex(experts, dim))

    def forward(self, embedding: Float[Tensor, "b embed"]) -> Float[Tensor, "b layers dim"]:
        """Return the routing vectors, of length 1 (equation 1); always in full precision."""
        with _in_float32(embedding):
            exact = embedding.to(self.centres.dtype)
            standard = F.layer_norm(exact, exact.shape[-1:])
            return F.normalize(self.mlp(standard).unflatten(1, self._shape), dim=-1)

    def cosines(self, vectors: Float[Tensor, "b layers dim"]) -> Float[Tensor, "b layers experts"]:
        """Return the cosine of each layer's vector with each expert's centre."""
        with _in_float32(vectors):
            # A copy, as the centres may move before gradients are taken.
            return vectors @ self.centres.clone().mT

    @torch.no_grad()
    def follow(self, vectors: Float[Tensor, "b layers dim"]) -> None:
        """Move the centres towards a batch's vectors, an equal share for each, and apart."""
        points = vectors.detach().flatten(0, 1)
        shares = balanced(points @ self.centres.mT)
        means = shares.mT @ points / shares.sum(dim=0)[:, None].clamp(min=1e-6)
        moved = F.normalize(_KEPT * self.centres + (1.0 - _KEPT) * means, dim=-1)
        self.centres.copy_(apart(moved))

    @torch.no_grad()
    def join(self, _: Mapping[str, Tensor], rows_of_all: RowsOfAll) -> None:
        """Take the directions of the workers' mean centres, which are shorter; see `Joined`."""
        theirs = rows_of_all(self.centres[None])
        if not (theirs == theirs[:1]).all():
            self.centres.copy_(F.normalize(theirs.mean(dim=0), dim=-1))


def _in_float32(values: Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context in which nothing is computed in less than float32."""
    if values.is_meta:
        return contextlib.nullcontext()
    return torch.autocast(values.device.type, enabled=False)


def simplex(count: int, dim: int) -> Float[Tensor, "count dim"]:
    """Return unit vectors whose cosines with each other are all -1 / (count - 1)."""
    corners = torch.eye(count, dim) - torch.ones(count, dim).div(count) * (
        torch.arange(dim) < count
    )
    return F.normalize(corners, dim=-1)


def balanced(cosines: Float[Tensor, "n experts"]) -> Float[Tensor, "n experts"]:
    """Assign points to centres softly, so that all centres get as much (Sinkhorn's iteration).

    Returns:
        Shares, of which each column sums to n / experts, and each row nearly to 1.
    """
    shares = (cosines / _SINKHORN_EPSILON).softmax(dim=1)
    for _ in range(_SINKHORN_ROUNDS):
        shares = shares / shares.sum(dim=1, keepdim=True)
        shares = shares / shares.sum(dim=0) * (len(shares) / shares.shape[1])
    return shares


def apart(centres: Float[Tensor, "experts dim"]) -> Float[Tensor, "experts dim"]:
    """Push centres off each other by a step on what their cosines exceed the simplex' by."""
    excess = (centres @ centres.mT + 1.0 / (len(centres) - 1)).clamp(min=0.0).fill_diagonal_(0.0)
    return F.normalize(centres - _REPULSION * excess @ centres, dim=-1)


def contrast(
    vectors: Float[Tensor, "b layers dim"], kinds: Sequence[tuple[str, ...]]
) -> Float[Tensor, ""]:
    """Return the contrastive loss of a batch (equation 9), its mean over the layers.

    Samples are alike if the same degradations are in them, at whatever degree. It lies between 0,
    where unlike samples are less alike than like ones by the margin, and 2 + margin. Without a pair
    of either sort it is 0.
    """
    same = torch.tensor([[one == other for other in kinds] for one in kinds], device=vectors.device)
    pairs = ~torch.eye(len(kinds), dtype=torch.bool, device=vectors.device)
    like, unlike = same & pairs, ~same
    if not (like.any() and unlike.any()):
        return 0.0 * vectors.sum()
    cosines = torch.einsum("ald,bld->lab", vectors, vectors)
    gaps = cosines[:, unlike].mean(dim=1) - cosines[:, like].mean(dim=1)
    return (gaps + MARGIN).clamp(min=0.0).mean()
