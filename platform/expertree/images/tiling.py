"""Restoring an image tile by tile, blended so that no seam shows.

The paper averages 512 px tiles and calls border artefacts unavoidable (000, appendix). Here the
weight of a tile is zero near its own inner borders, where a network sees less than it should, and
the weights of all tiles sum to one everywhere.
"""

import contextlib
import math
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")

Operator: TypeAlias = Callable[[Tensor], Tensor]
"""An image operator, BCHW to BCHW, that keeps the size."""

Place: TypeAlias = tuple[int, int]
"""Row and column of a tile in its plan."""

OnTile: TypeAlias = Callable[[int, int], None]
"""Callback after each tile, with tiles done and tiles in all; it may raise to stop."""

DEAD_FRACTION = 0.25
"""Part of the overlap, at each side, where a tile's weight is zero; the cross-fade takes the middle
half. An operator that looks no further than `overlap_px * DEAD_FRACTION` is tiled exactly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One tile's extent along one axis: pixels `start` to `stop`, `stop` excluded."""

    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TilePlan:
    """Tiles of an image: every row span with every column span."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    overlap_px: int

    @property
    def num_tiles(self) -> int:
        """Number of tiles."""
        return len(self.rows) * len(self.columns)

    def tiles(self) -> Iterator[Place]:
        """Return the places (row, column) of the tiles, from the upper left, row by row."""
        return ((row, col) for row in range(len(self.rows)) for col in range(len(self.columns)))

    def extent(self, place: Place) -> tuple[slice, slice]:
        """Return rows and columns of pixels of the tile at a row and column of the plan."""
        rows, columns = self.rows[place[0]], self.columns[place[1]]
        return slice(rows.start, rows.stop), slice(columns.start, columns.stop)


def plan_tiles(
    height_px: int, width_px: int, *, tile_px: int, overlap_px: int, multiple: int = 1
) -> TilePlan:
    """Cover an image with the fewest overlapping tiles of at most `tile_px`, about equally large.

    Equal tiles rather than full ones and a rest: 520 px in tiles of 512 become two of about 276 px
    and not two of 512, at half the cost.

    Args:
        height_px: Height of the image.
        width_px: Width of the image.
        tile_px: Longest side of a tile; an axis no longer than this is one span.
        overlap_px: Overlap of neighbours; rounded up to a multiple of `multiple`.
        multiple: Tiles start on multiples of this, so that a network which downsamples uses the
            grid that it would use on the whole image.

    Returns:
        The plan. Its tiles cover the image; only neighbours' overlaps are covered twice.

    Raises:
        ValueError: When the tiles are too small for their overlap and multiple.
    """
    overlap = math.ceil(overlap_px / multiple) * multiple
    needed = smallest_tile_px(overlap_px, multiple)
    if overlap_px < 0 or (max(height_px, width_px) > tile_px and tile_px < needed):
        raise ValueError(
            f"tile_px={tile_px} with overlap_px={overlap_px} (network multiple {multiple}): "
            f"the overlap must not be negative and tiles must be at least {needed} px"
        )
    longest = tile_px - tile_px % multiple
    rows = _plan_spans(height_px, tile_px, longest, overlap, multiple)
    columns = _plan_spans(width_px, tile_px, longest, overlap, multiple)
    return TilePlan(rows=rows, columns=columns, overlap_px=overlap)


def smallest_tile_px(overlap_px: int, multiple: int) -> int:
    """Return the smallest tile that `plan_tiles` takes for an image larger than one tile."""
    overlap = math.ceil(overlap_px / multiple) * multiple
    return overlap + max(overlap, 2 * multiple)


def _plan_spans(
    size_px: int, tile_px: int, longest_px: int, overlap_px: int, multiple: int
) -> tuple[Span, ...]:
    if size_px <= tile_px:
        return (Span(start=0, stop=size_px),)
    fresh_px = size_px - overlap_px
    num_spans = math.ceil(fresh_px / (longest_px - overlap_px))
    # Ceiling, so that the last span, which ends where the image ends, is not the one that grows.
    starts = [math.ceil(i * fresh_px / num_spans / multiple) * multiple for i in range(num_spans)]
    stops = [start + overlap_px for start in starts[1:]] + [size_px]
    return tuple(Span(start=a, stop=b) for a, b in zip(starts, stops, strict=True))


def span_weights(
    spans: tuple[Span, ...], overlap_px: int, device: torch.device | None = None
) -> list[Float[Tensor, " size"]]:
    """Return blending weights along one axis, a vector for each span, that sum to one everywhere.

    Span i weighs `rise(x - start_i) - rise(x - start_{i+1})`, rise being a squared sine over the
    middle of the overlap: the sum telescopes to one, whatever the spans.

    Args:
        spans: The axis' spans in order.
        overlap_px: Overlap of neighbouring spans.
        device: Device of the weights.

    Returns:
        Float32 vectors in [0, 1]; the i-th is as long as the i-th span.
    """
    weights = []
    for index, span in enumerate(spans):
        positions = torch.arange(span.start, span.stop, dtype=torch.float32, device=device)
        weight = torch.ones_like(positions)
        if index > 0:
            weight = _rise(positions - span.start, overlap_px)
        if index + 1 < len(spans):
            weight = weight - _rise(positions - spans[index + 1].start, overlap_px)
        weights.append(weight)
    return weights


def _rise(offset_px: Float[Tensor, " size"], overlap_px: int) -> Float[Tensor, " size"]:
    dead_px = overlap_px * DEAD_FRACTION
    fade_px = max(overlap_px - 2 * dead_px, 1e-6)
    progress = ((offset_px + 0.5 - dead_px) / fade_px).clamp(0.0, 1.0)
    return torch.sin(progress * (math.pi / 2)).square()


def restore_tiled(
    operator: Operator,
    image: Float[Tensor, "b c h w"],
    plan: TilePlan,
    *,
    on_tile: OnTile | None = None,
) -> Float[Tensor, "b c h w"]:
    """Apply an operator tile by tile, one after the other, and blend the results.

    Args:
        operator: Operator that keeps its input's size and number of channels.
        image: Image of any range; one tile is handed to the operator at a time.
        plan: Plan from `plan_tiles` for this image's size.
        on_tile: Called after each tile; it may raise to stop.

    Returns:
        The result, shaped as `image`; with a plan of one tile exactly `operator(image)`.
    """

    async def restored(place: Place) -> Tensor:
        rows, columns = plan.extent(place)
        return operator(image[..., rows, columns])

    canvas = Canvas(image.shape, plan, dtype=image.dtype, device=image.device)
    tiles = (restored(place) for place in plan.tiles())
    return run_at_once(blend_tiles(tiles, canvas, on_tile=on_tile))


async def call_here(work: Callable[..., T], *arguments: Any) -> T:
    """Call a function in this thread, where one on an event loop passes `asyncio.to_thread`."""
    return work(*arguments)


async def blend_tiles(
    tiles: Generator[Awaitable[Tensor], None, None],
    canvas: "Canvas",
    *,
    on_tile: OnTile | None = None,
    call: Callable[..., Awaitable[Any]] = call_here,
) -> Float[Tensor, "b c h w"]:
    """Wait for the tiles of a plan one by one, in its order, and blend them.

    This is the one loop over tiles, whether they are restored here or on other machines, one at a
    time or several. It ends early where a tile fails, `on_tile` raises, or the caller is cancelled;
    then `tiles` is closed, which must stop those that were begun ahead.

    Args:
        tiles: Restored tiles in the order of the plan, BCHW; each is waited for before the next one
            is taken.
        canvas: An empty canvas for the plan.
        on_tile: Called after each tile; it may raise to stop.
        call: How the blending is called, which takes milliseconds: here, or `asyncio.to_thread`.

    Returns:
        The whole image.

    Raises:
        Exception: Whatever a tile or `on_tile` raises.
    """
    with contextlib.closing(tiles):
        for num_done, (place, tile) in enumerate(
            zip(canvas.plan.tiles(), tiles, strict=True), start=1
        ):
            await call(canvas.add, place, await tile)
            if on_tile is not None:
                on_tile(num_done, canvas.plan.num_tiles)
    return canvas.blended


def run_at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits for anything, without an event loop.

    Raises:
        RuntimeError: If it waits.
    """
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("a coroutine waits for something that only an event loop can give")


class Canvas:
    """A canvas that blends tiles which were restored one by one, in any process.

    Tiles added in the order of the plan give the same image to the bit.

    Attributes:
        plan: Plan of the tiles.
        blended: The tiles added so far, BCHW. With a plan of one tile it is that tile.
    """

    def __init__(
        self,
        shape: Sequence[int],
        plan: TilePlan,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        """Start with an empty image.

        Args:
            shape: Shape of the image, BCHW.
            plan: Plan from `plan_tiles` for this size.
            dtype: Type of the blended image.
            device: Device of the tiles.
        """
        self.plan = plan
        self._row_weights = span_weights(plan.rows, plan.overlap_px, device)
        self._column_weights = span_weights(plan.columns, plan.overlap_px, device)
        blank = tuple(shape) if plan.num_tiles > 1 else (0,)
        with torch.inference_mode(mode=False):  # whoever gets it may go on in its memory
            self.blended = torch.zeros(blank, dtype=dtype, device=device)

    def add(self, place: Place, restored: Float[Tensor, "b c tile_h tile_w"]) -> None:
        """Blend in the restored tile at a row and column of the plan."""
        if self.plan.num_tiles == 1:
            self.blended = restored
            return
        row, column = place
        rows, columns = self.plan.extent(place)
        window = self._row_weights[row][:, None] * self._column_weights[column][None, :]
        self.blended[..., rows, columns] += restored * window
