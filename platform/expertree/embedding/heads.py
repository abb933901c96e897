"""Training objectives of the embedding, by name: losses against captions.

All of them compare images with the text tower's embeddings of degree captions, or of the names of
degradations. So every head's embeddings can be named by their nearest caption.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from expertree.degradation.captions import ALL_DEGREES, SEPARATOR
from expertree.embedding.captions import CaptionTower
from expertree.embedding.objective import multi_positive_loss, spherical_loss, type_loss
from expertree.embedding.recipe import distinct

MAX_LOGIT_SCALE = 100.0
"""Upper limit of the factor on cosines, as in CLIP."""

SPHERICAL_MARGIN = 0.5
"""Lambda of the contrastive loss, which paper 004 does not give: pairs of one class are to be half
a unit of cosine nearer than others."""

TYPES: tuple[str, ...] = tuple(dict.fromkeys(degree.split(" ", 1)[1] for degree in ALL_DEGREES))
"""The degradations as captions call them; Gaussian and motion blur are one."""

Loss = Callable[[Float[Tensor, "b dim"], Sequence[str], CaptionTower], Float[Tensor, ""]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A training objective of the embedding.

    Attributes:
        loss: Loss of embeddings, given the caption of each and the text tower.
        unit_length: Whether embeddings have length 1, downstream too.
    """

    loss: Loss
    unit_length: bool = False


def types_of(caption: str) -> list[str]:
    """Return the degradations that a caption names, without their degrees.

    Those of a pair, whose degrees nobody knows, are named by their nouns. A clean picture has none,
    and kinds of pairs beyond `TYPES` (`raindrop`, `defocus blur`) are left out.
    """
    parts = caption.split(SEPARATOR)
    nouns = (part.split(" ", 1)[1] if part in ALL_DEGREES else part for part in parts)
    return [noun for noun in nouns if noun in TYPES]


def logit_scale(tower: CaptionTower) -> Float[Tensor, ""]:
    """Return the factor on cosines, at most `MAX_LOGIT_SCALE`."""
    return tower.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)


def _linear(
    embeddings: Float[Tensor, "b dim"], captions: Sequence[str], tower: CaptionTower
) -> Float[Tensor, ""]:
    names, caption_of = distinct(captions)
    rows = torch.tensor(caption_of, device=embeddings.device)
    return multi_positive_loss(embeddings, tower(names), rows, logit_scale(tower))


def _spherical(
    embeddings: Float[Tensor, "b dim"], captions: Sequence[str], tower: CaptionTower
) -> Float[Tensor, ""]:
    names, caption_of = distinct(captions)
    rows = torch.tensor(caption_of, device=embeddings.device)
    scale = logit_scale(tower)
    return spherical_loss(embeddings, tower(names), rows, scale, margin=SPHERICAL_MARGIN)


def _type(
    embeddings: Float[Tensor, "b dim"], captions: Sequence[str], tower: CaptionTower
) -> Float[Tensor, ""]:
    shares = torch.zeros(len(captions), len(TYPES))
    for row, caption in enumerate(captions):
        found = [TYPES.index(name) for name in types_of(caption)]
        shares[row, found] = 1.0 / max(len(found), 1)
    return type_loss(embeddings, tower(TYPES), shares.to(embeddings.device), logit_scale(tower))


HEADS: Mapping[str, Head] = {
    "linear": Head(loss=_linear),
    "spherical": Head(loss=_spherical, unit_length=True),
    "type": Head(loss=_type),
}
