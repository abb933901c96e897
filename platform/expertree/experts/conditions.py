"""What a network may be told of a whole image, beside the pixels that it restores.

A network restores crops and tiles; what an image is, and what is wrong with it, is seen in all of
it. So it is found once for an image and travels with each of its tiles, as plain tensors.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

Source = Literal["embedding", "squeezed", "cells", "overview", "sentence"]
"""A kind of telling, each float32 with a row an image:

* `embedding` `[b, dim]`: the extractor's embedding of the image.
* `squeezed` `[b, dim]`: its embedding of the image made as small as one view.
* `cells` `[b, 16, dim]`: its embeddings of the cells of a 4 x 4 grid, row by row.
* `overview` `[b, 3, 64, 64]`: the image made small: what it shows, without fine degradations.
* `sentence` `[b, dim]`: an encoder's embedding of a sentence that says what is wrong.
"""

SEEN: tuple[Source, ...] = ("embedding", "squeezed", "cells", "overview")
"""Those that an extractor finds in the image; the others are said."""

WINDOW = "window"
"""`[b, 4]`: where pixels lie in their image, as shares of its sides: top, left, bottom, right. Its
absence stands for the whole image."""

Condition: TypeAlias = Mapping[str, Tensor]
"""What a batch is told, by `Source`, and where it lies, under `WINDOW`."""

NOTHING: Condition = MappingProxyType({})

Look: TypeAlias = Callable[[Float[Tensor, "b 3 h w"], Sequence[Source]], Condition]
"""Function from images, RGB in [0, 1], to what is seen in them, on the images' device."""


class Informed(nn.Module):
    """A network that is told something of the whole image.

    What it is not told it takes as zeros, so that it restores, less well, where nobody knows.
    """

    def forward(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition = NOTHING
    ) -> Float[Tensor, "b 3 h w"]:
        """Restore images: float RGB in [0, 1], any size; the result is not clipped."""
        raise NotImplementedError


def told(
    condition: Condition, source: Source, image: Float[Tensor, "b 3 h w"], *shape: int
) -> Float[Tensor, "b ..."]:
    """Return what a network is told by a source, or zeros of a shape, for each image."""
    found = condition.get(source)
    return image.new_zeros(len(image), *shape) if found is None else found


def window_of(rows: slice, columns: slice, height_px: int, width_px: int) -> Float[Tensor, "1 4"]:
    """Return the place of a tile in its image, for `WINDOW`."""
    top, bottom = rows.start / height_px, rows.stop / height_px
    left, right = columns.start / width_px, columns.stop / width_px
    return torch.tensor([[top, left, bottom, right]])
