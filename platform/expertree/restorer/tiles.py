"""Plan the tiles that an image is restored in, and smaller ones for when memory runs out.

Whoever restores takes the plans from here, in this process or on replicas, so that an image is cut
and blended alike everywhere.
"""

from expertree.images.tiling import TilePlan, plan_tiles, smallest_tile_px
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
