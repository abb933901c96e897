"""Restore an image in tiles, and in smaller ones when memory runs out.

Whoever restores does it by these functions and `images.tiling.blend_tiles`, in this process or on
replicas, so that an image is cut, blended and tried again alike everywhere.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager

from jaxtyping import Float
from torch import Tensor

from expertree.errors import MemoryShortageError
from expertree.images.tiling import (
    OnTile,
    Operator,
    TilePlan,
    plan_tiles,
    restore_tiled,
    run_at_once,
    smallest_tile_px,
)
from expertree.memory import free_cached_memory, is_out_of_memory
from expertree.routing import TilePx

AUTO_TILE_PX = 1024
"""Tile of `auto`: a megapixel at a time. NAFNet of width 32 needs about 1 GiB for one."""

MIN_TILE_PX = 64
"""`auto` gives up when not even tiles of this size fit into memory."""

OVERLAP_PX = 32
"""Overlap of neighbouring tiles, where nobody asks for another."""


def plans_to_try(
    height_px: int,
    width_px: int,
    *,
    tile_px: TilePx,
    multiple_px: int,
    overlap_px: int = OVERLAP_PX,
) -> tuple[TilePlan, ...]:
    """Return plans of an image, to be tried one after the other while memory runs out.

    Args:
        height_px: Height of the image.
        width_px: Width of the image.
        tile_px: Largest side of a tile; 0 for the whole image at once; `auto` for large tiles and
            then halves of them, down to `MIN_TILE_PX` or what the overlap leaves.
        multiple_px: Multiple of the sides on which the network works.
        overlap_px: Overlap of neighbouring tiles.

    Raises:
        ValueError: If the tiles are too small for their overlap and multiple.
    """
    longest_px = max(height_px, width_px)
    sizes_px = [tile_px or longest_px] if tile_px != "auto" else [min(AUTO_TILE_PX, longest_px)]
    least_px = max(MIN_TILE_PX, smallest_tile_px(overlap_px, multiple_px))
    while tile_px == "auto" and sizes_px[-1] // 2 >= least_px:
        sizes_px.append(sizes_px[-1] // 2)
    return tuple(
        plan_tiles(height_px, width_px, tile_px=size, overlap_px=overlap_px, multiple=multiple_px)
        for size in sizes_px
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tiled:
    """An image that one expert has restored.

    Attributes:
        image: The network's output, blended, not clipped.
        num_tiles: Tiles it was restored in; 1 for the whole image at once.
        num_retries: Times that memory ran out and the tiles were halved.
    """

    image: Float[Tensor, "1 3 h w"]
    num_tiles: int
    num_retries: int


def restore_here(
    open_expert: Callable[[TilePlan], AbstractContextManager[Operator]],
    image: Float[Tensor, "1 3 h w"],
    *,
    tile_px: TilePx,
    multiple_px: int,
    overlap_px: int = OVERLAP_PX,
    on_tile: OnTile | None = None,
) -> Tiled:
    """Restore an image in this process, one tile after the other.

    Args:
        open_expert: Opens the expert for one try by a plan; an operator on its tiles in order.
        image: RGB in [0, 1].
        tile_px: Largest side of a tile, as in `plans_to_try`.
        multiple_px: Multiple of the sides on which the network works.
        overlap_px: Overlap of neighbouring tiles.
        on_tile: Called after each tile; it may raise to stop.

    Raises:
        ValueError: If the tiles are too small for their overlap and multiple.
    """

    async def restore(plan: TilePlan) -> Tensor:
        with open_expert(plan) as operator:
            return restore_tiled(operator, image, plan, on_tile=on_tile)

    height_px, width_px = image.shape[-2:]
    plans = plans_to_try(
        height_px, width_px, tile_px=tile_px, multiple_px=multiple_px, overlap_px=overlap_px
    )
    return run_at_once(restore_in_tiles(plans, restore))


async def restore_in_tiles(
    plans: Sequence[TilePlan], restore: Callable[[TilePlan], Awaitable[Tensor]]
) -> Tiled:
    """Restore an image by the first plan for which memory suffices.

    Args:
        plans: Plans from `plans_to_try`.
        restore: Function that restores the image by one plan, see `images.tiling.blend_tiles`; it
            raises what `is_out_of_memory` knows, or `MemoryShortageError`, where memory runs out.

    Raises:
        Exception: Whatever `restore` raises, of memory that runs out only with the last plan.
    """
    for num_retries, plan in enumerate(plans):
        try:
            image = await restore(plan)
            return Tiled(image=image, num_tiles=plan.num_tiles, num_retries=num_retries)
        except (MemoryError, RuntimeError, MemoryShortageError) as error:
            is_short = isinstance(error, MemoryShortageError) or is_out_of_memory(error)
            if plan is plans[-1] or not is_short:
                raise
        free_cached_memory()
    raise ValueError("there is no plan to restore the image by")
