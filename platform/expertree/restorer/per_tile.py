"""Choose an expert for each tile, as a photograph may be dark in one corner, hazy in another."""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from expertree.images.mixing import mix
from expertree.images.tiling import OnTile, TilePlan, plan_tiles, restore_tiled
from expertree.restorer.restorer import Restorer
from expertree.restorer.tiles import OVERLAP_PX
from expertree.routing import Route, Wish

TILE_PX = 512
"""Tile of `auto`, large enough to show its degradation and small enough to have its own."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TileRoute:
    """The choice for one tile.

    Attributes:
        top_px: Its first row.
        left_px: Its first column.
        height_px: Its height, overlaps included.
        width_px: Its width, overlaps included.
        expert: The expert that restored it; None if it is left as it is.
        level: That expert's level; where there is none, that of the one that would serve.
        confidence: How sure the choice was, in [0, 1].
    """

    top_px: int
    left_px: int
    height_px: int
    width_px: int
    expert: int | None
    level: int
    confidence: float


def restore_per_tile(
    restorer: Restorer,
    image: Float[Tensor, "3 height width"],
    wish: Wish,
    *,
    overlap_px: int = OVERLAP_PX,
    on_tile: OnTile | None = None,
) -> tuple[Float[Tensor, "3 height width"], tuple[TileRoute, ...]]:
    """Restore an image of any size, each tile with the expert that is chosen for it.

    Args:
        restorer: An opened bundle.
        image: RGB in [0, 1].
        wish: What the caller wants for each tile.
        overlap_px: Overlap of neighbouring tiles, over which experts fade into each other.
        on_tile: Called after each tile; it may raise to stop.

    Returns:
        The restored image, and the choice for each tile, row by row. If all tiles are left as they
        are, it is the input to the bit.

    Raises:
        ValueError: As `Restorer.restore`.
    """
    height_px, width_px = image.shape[-2:]
    side_px = TILE_PX if wish.tile_px == "auto" else wish.tile_px or max(height_px, width_px)
    plan = plan_tiles(
        height_px,
        width_px,
        tile_px=side_px,
        overlap_px=overlap_px,
        multiple=restorer.bundle.manifest.multiple_px,
    )
    places = list(plan.tiles())
    # Mixed once, at the end; tiles that do not fit into memory are halved.
    each = dataclasses.replace(wish, strength=float(wish.strength > 0.0), tile_px="auto")
    routes: list[TileRoute] = []

    def operator(tile: Tensor) -> Tensor:
        restoration = restorer.restore(tile, each, overlap_px=overlap_px)
        routes.append(_routed_at(plan, places[len(routes)], restoration.route))
        return restoration.image

    with torch.inference_mode():
        restored = restore_tiled(operator, image[None], plan, on_tile=on_tile)
    if all(route.expert is None for route in routes):
        return image.clone(), tuple(routes)
    return mix(image, restored[0], wish.strength).clone(), tuple(routes)


def _routed_at(plan: TilePlan, place: tuple[int, int], route: Route) -> TileRoute:
    rows, columns = plan.rows[place[0]], plan.columns[place[1]]
    return TileRoute(
        top_px=rows.start,
        left_px=columns.start,
        height_px=rows.stop - rows.start,
        width_px=columns.stop - columns.start,
        expert=route.expert,
        level=route.level,
        confidence=route.confidence,
    )
