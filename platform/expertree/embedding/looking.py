"""What an extractor sees in images, for networks that are told of it."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from expertree.embedding.extractor import Extractor
from expertree.embedding.views import at_least, centre_crop, resize

CELLS = 4
"""Cells along each side of an image."""

LEAST_CELL_PX = 32
"""The smallest side of a cell as it is looked at; a smaller one is continued by reflection."""

OVERVIEW_PX = 64
"""Sides of an overview."""


def look(
    extractor: Extractor, images: Float[Tensor, "b 3 h w"], wanted: Sequence[str]
) -> dict[str, Tensor]:
    """Return what an extractor sees in whole images, by name.

    Args:
        extractor: The extractor; it moves to the images' device, and into evaluation mode.
        images: RGB in [0, 1], any size.
        wanted: Names of `SIGHTS`.

    Returns:
        float32, a row an image: `embedding` and `squeezed` [b, dim], `cells` [b, 16, dim],
        `overview` [b, 3, 64, 64].

    Raises:
        ValueError: If a name is unknown.
    """
    if unknown := [name for name in wanted if name not in SIGHTS]:
        raise ValueError(f"nothing is known of {unknown[0]!r}; there are {', '.join(SIGHTS)}")
    extractor.eval().to(images.device)
    with torch.no_grad():
        return {name: SIGHTS[name](extractor, images.float()) for name in wanted}


def _squeezed(extractor: Extractor, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim"]:
    return extractor.encode(resize(images, extractor.config.view_px))


def _cells(extractor: Extractor, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 16 dim"]:
    """Embed the middle of each cell at its own scale, as much of it as a view holds.

    The cells divide the image itself, however small: each stays where it lies.
    """
    view_px, least_px = extractor.config.view_px, extractor.fixed_px or LEAST_CELL_PX
    images = at_least(images, CELLS)
    height_px, width_px = images.shape[-2:]
    side_px = max(least_px, min(view_px, height_px // CELLS, width_px // CELLS))
    cells = [
        centre_crop(images[..., rows, :][..., columns], side_px)
        for rows in _divided(height_px)
        for columns in _divided(width_px)
    ]
    found = extractor.encode(torch.stack(cells, dim=1).flatten(0, 1))
    return found.view(len(images), CELLS * CELLS, -1)


def _divided(length_px: int) -> list[slice]:
    """Return where the cells along a side lie, which are as long as each other but for a pixel."""
    ends = [place * length_px // CELLS for place in range(CELLS + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def _overview(_: Extractor, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 64 64"]:
    size = (OVERVIEW_PX, OVERVIEW_PX)
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


SIGHTS: Mapping[str, Callable[[Extractor, Tensor], Tensor]] = {
    "embedding": lambda extractor, images: extractor.embed(images),
    "squeezed": _squeezed,
    "cells": _cells,
    "overview": _overview,
}
"""What can be seen in an image, by name (`experts.conditions.Source`)."""
