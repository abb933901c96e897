"""The views of an image that the extractor can embed, by name.

A view takes images float BCHW and a side in pixels. Only `resize` changes what a degradation looks
like, which costs the paper a fifth of its accuracy (paper 000, table I).
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

View = Callable[[Float[Tensor, "b c h w"], int], Float[Tensor, "b c view_h view_w"]]

SPREAD = 3
"""Most windows along one side of an image in the view `spread`."""


def centre_crop(images: Float[Tensor, "b c h w"], side_px: int) -> Float[Tensor, "b c side side"]:
    """Cut the middle of each image at its own scale; reflect where an image is smaller."""
    images = at_least(images, side_px)
    top, left = ((length - side_px) // 2 for length in images.shape[-2:])
    return images[..., top : top + side_px, left : left + side_px]


def resize(images: Float[Tensor, "b c h w"], side_px: int) -> Float[Tensor, "b c side side"]:
    """Squeeze all of each image into a square, as CLIP's own preprocessing does it."""
    size = (side_px, side_px)
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)


def full(images: Float[Tensor, "b c h w"], side_px: int) -> Float[Tensor, "b c view_h view_w"]:
    """Return all of each image at its own scale; reflect where it is smaller than a side."""
    return at_least(images, side_px)


def windows(
    images: Float[Tensor, "b c h w"], side_px: int, *, most: int | None = None
) -> Float[Tensor, "b n c side side"]:
    """Cut square windows that cover each image at its own scale.

    Rows and columns are as few as possible and evenly apart, so that neighbours overlap where the
    image is no multiple of the side. A smaller image is continued by reflection.

    Args:
        images: Images of any size.
        side_px: Side of a window.
        most: Most rows, and most columns; with it, windows need not cover a large image.
    """
    images = at_least(images, side_px)
    tops, lefts = (_starts(length, side_px, most) for length in images.shape[-2:])
    cut = [
        images[..., top : top + side_px, left : left + side_px] for top in tops for left in lefts
    ]
    return torch.stack(cut, dim=1)


def at_least(images: Float[Tensor, "b c h w"], side_px: int) -> Float[Tensor, "b c new_h new_w"]:
    """Continue images on all sides by reflection until no side is shorter than `side_px`."""
    height_px, width_px = images.shape[-2:]
    if min(height_px, width_px) >= side_px:
        return images
    rows = _reflected(height_px, max(height_px, side_px)).to(images.device)
    columns = _reflected(width_px, max(width_px, side_px)).to(images.device)
    return images[..., rows, :][..., columns]


VIEWS: Mapping[str, View] = {
    "centre_crop": centre_crop,
    "resize": resize,
    "full": full,
    "sliding": full,
    "spread": full,
}
"""Views by name. For `spread` the extractor cuts the image into windows, for `sliding` a tower of
its own does (`sliding.py`)."""


def visible_part(
    image: Shaped[np.ndarray, "h w 3"], view: str, side_px: int
) -> Shaped[np.ndarray, "part_h part_w 3"]:
    """Return the part of an image that a view uses; the view of both is the same.

    Args:
        image: Image HWC, of any type.
        view: A name in `VIEWS`.
        side_px: Side of the view.
    """
    height_px, width_px = image.shape[:2]
    if view == "spread":
        rows, columns = (_of_windows(length, side_px) for length in (height_px, width_px))
        part: Shaped[np.ndarray, "part_h part_w 3"] = image[rows][:, columns]
        return part
    if view != "centre_crop" or min(height_px, width_px) < side_px:
        return image
    top, left = (height_px - side_px) // 2, (width_px - side_px) // 2
    return image[top : top + side_px, left : left + side_px]


def _of_windows(length_px: int, side_px: int) -> Int64[np.ndarray, " pixels"]:
    """Return the pixels along a side that `spread` uses, by window; all of a short side."""
    if length_px <= SPREAD * side_px:
        return np.arange(length_px)
    return np.concatenate(
        [np.arange(start, start + side_px) for start in _starts(length_px, side_px, SPREAD)]
    )


def _starts(length_px: int, side_px: int, most: int | None = None) -> list[int]:
    """Return the first pixels of the windows along one side."""
    num_windows = -(-length_px // side_px)
    num_windows = num_windows if most is None else min(num_windows, most)
    last = length_px - side_px
    return [round(place * last / max(num_windows - 1, 1)) for place in range(num_windows)]


def _reflected(length_px: int, wanted_px: int) -> Int64[Tensor, " wanted"]:
    """Return indices that continue a row of pixels, however short, on both sides by reflection."""
    period = max(2 * (length_px - 1), 1)
    positions = torch.arange(wanted_px) - (wanted_px - length_px) // 2
    folded = positions.remainder(period)
    return torch.minimum(folded, period - folded) if length_px > 1 else torch.zeros_like(folded)
