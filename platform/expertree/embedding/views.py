"""What the extractor looks at: views of an image, by name.

A view takes images float BCHW and a side in pixels, and returns float [B, C, side, side]. None of
them changes what a degradation looks like unless its name says so: resizing first costs the paper
a fifth of its accuracy (paper 000, table I).
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor

View = Callable[[Float[Tensor, "b c h w"], int], Float[Tensor, "b c side side"]]


def centre_crop(images: Float[Tensor, "b c h w"], side_px: int) -> Float[Tensor, "b c side side"]:
    """The middle of each image at its own scale; a smaller image is continued by reflection."""
    height_px, width_px = images.shape[-2:]
    if height_px < side_px or width_px < side_px:
        rows = _reflected(height_px, max(height_px, side_px)).to(images.device)
        columns = _reflected(width_px, max(width_px, side_px)).to(images.device)
        images = images[..., rows, :][..., columns]
    top, left = ((length - side_px) // 2 for length in images.shape[-2:])
    return images[..., top : top + side_px, left : left + side_px]


VIEWS: Mapping[str, View] = {"centre_crop": centre_crop}


def _reflected(length_px: int, wanted_px: int) -> Int64[Tensor, " wanted"]:
    """Indices that continue a row of pixels on both sides by reflection, however short it is."""
    period = max(2 * (length_px - 1), 1)
    positions = torch.arange(wanted_px) - (wanted_px - length_px) // 2
    folded = positions.remainder(period)
    return torch.minimum(folded, period - folded) if length_px > 1 else torch.zeros_like(folded)
