"""Means over windows of an image in place of the whole of it.

Networks that weigh channels by their means over all pixels are trained on crops, and meet other
means in a whole photograph: a crop is all sky or all grass, a photograph is both. Chu, Chen, Chen
and Lu (Improving Image Restoration by Revisiting Global Information Aggregation, ECCV 2022) take
the means over windows of about a crop's size instead, one for each pixel, without training anew.

Here the windows' means are taken four times in a window's width, and in between by interpolation:
the means change slowly, and what comes after them is linear, so that it may come before the
interpolation. Everything is a product of matrices, which any runtime has.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_CELLS = 4
"""Cells in a window's side; means over windows are taken at each."""


def weigh_locally(
    values: Float[Tensor, "b c h w"], weigh: nn.Module, window: int
) -> Float[Tensor, "b c h w"]:
    """Return, for each pixel, a linear function of the means over the window around it.

    Near a border it is the nearest window that lies within the image; where a side is shorter than
    the window, that is all of it.

    Args:
        values: Features.
        weigh: Convolution of 1 x 1.
        window: Side of the windows in pixels, from `whole_cells`.
    """
    cell = window // _CELLS
    # Cells that are cut off count by their pixels, see `_windows`.
    cells = F.avg_pool2d(values, cell, ceil_mode=True, count_include_pad=False)
    down_rows, up_rows = _windows(values.shape[2], cells.shape[2], cell, values)
    down_columns, up_columns = _windows(values.shape[3], cells.shape[3], cell, values)
    means = down_rows @ cells @ down_columns.t()
    weighed: Tensor = up_rows @ weigh(means) @ up_columns.t()
    return weighed


def whole_cells(side: int) -> int:
    """Return the side of windows that is a whole number of cells, and no less than wanted."""
    return -(-side // _CELLS) * _CELLS


def _windows(
    side: int, num_cells: int, cell: int, like: Tensor
) -> tuple[Float[Tensor, "windows cells"], Float[Tensor, "side windows"]]:
    """Return what makes means over windows of means over cells along a side, and pixels of those.

    Both are matrices; traced, `side` and `num_cells` are tensors, so there is no branch.
    """
    device = like.device
    places = torch.arange(num_cells, device=device, dtype=torch.float32)
    sizes = (side - places * cell).clamp(max=cell)
    # A window begins at each cell from which it still fits, or at the first if none does.
    last = (places[-1] - (_CELLS - 1)).clamp(min=0.0)
    begins = torch.minimum(places, last)
    inside = (places >= begins[:, None]) & (places < begins[:, None] + _CELLS)
    weights = inside * sizes
    down = weights / weights.sum(dim=1, keepdim=True)
    pixels = torch.arange(side, device=device, dtype=torch.float32)
    nearest = ((pixels + 0.5) / cell - _CELLS / 2).clamp(min=0.0)
    up = (1.0 - (torch.minimum(nearest, last)[:, None] - places).abs()).clamp(min=0.0)
    return down.to(like.dtype), up.to(like.dtype)
