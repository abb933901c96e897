"""Padding to a network's multiple."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def pad_to_multiple(
    image: Float[Tensor, "b c height width"], multiple_px: int
) -> Float[Tensor, "b c padded_height padded_width"]:
    """Pad at the bottom and the right, by reflection, so that both sides are multiples.

    An image too small to be reflected that far repeats its border. An image that fits is returned
    as it is. Crop the result with `[..., :height, :width]`.
    """
    height, width = image.shape[-2:]
    bottom, right = -height % multiple_px, -width % multiple_px
    if bottom == 0 and right == 0:
        return image
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(image, (0, right, 0, bottom), mode=mode)
