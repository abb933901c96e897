"""Photographs restored one after the other, while the next is read and the last is written."""

import collections
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float32
from torch import Tensor

from expertree.batch.listing import Item
from expertree.batch.manifest import Record
from expertree.batch.settings import RestoreOptions
from expertree.errors import ConfigError, ExpertreeError, PhotoError
from expertree.images.photo_file import Photo, read_photo, write_photo
from expertree.images.tiling import plan_tiles
from expertree.restorer import OnTile, Restorer
from expertree.restorer.per_tile import TileRoute, restore_per_tile
from expertree.routing import Route
from expertree.storage import Storage

OnItemTile: TypeAlias = Callable[[Item, int, int], None]
"""Told of each tile: its photograph, how many tiles are done, and how many there are."""

FAILURES = (ExpertreeError, ValueError, OSError, MemoryError, RuntimeError)
"""What may go wrong with one photograph without stopping the others."""

_NUM_AHEAD = 2
"""Photographs read ahead: one that waits while another is read."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """A photograph restored, not yet encoded.

    Attributes:
        image: sRGB in [0, 1], `[3, height, width]`.
        route: The expert that was chosen for the whole of it.
        num_tiles: Tiles it was restored in.
        num_retries: Times that memory ran out and the tiles were halved.
        tiles: The choice for each tile, if each had its own.
    """

    image: Float32[Tensor, "3 height width"]
    route: Route
    num_tiles: int
    num_retries: int = 0
    tiles: tuple[TileRoute, ...] = ()


def check_options(restorer: Restorer, options: RestoreOptions) -> None:
    """Find out before any work whether a bundle can do what is asked.

    Raises:
        ConfigError: If a level, expert or name does not exist, or tiles are too small.
    """
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise ConfigError(f"--quality must be 1 to 100, got {options.quality}")
    try:
        restorer.route(torch.zeros(3, 8, 8), **_wish(options))
        if options.tile_px not in {"auto", 0}:
            side_px, multiple = 1 << 16, _multiple(restorer)
            plan_tiles(
                side_px,
                side_px,
                tile_px=int(options.tile_px),
                overlap_px=options.overlap_px,
                multiple=multiple,
            )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def restore_photo(
    restorer: Restorer, photo: Photo, options: RestoreOptions, on_tile: OnTile | None = None
) -> Restored:
    """Restore the pixels of a photograph.

    Raises:
        ValueError: If the options do not fit the bundle; see `check_options`.
    """
    image = photo.tensor()
    route = restorer.route(image, **_wish(options))
    dtype: torch.dtype = getattr(torch, options.dtype)
    with torch.autocast(restorer.device.type, dtype=dtype, enabled=dtype != torch.float32):
        if options.route_tiles:
            restored, tiles = restore_per_tile(
                restorer,
                image,
                functools.partial(restorer.route, **_wish(options)),
                tile_px=options.tile_px,
                overlap_px=options.overlap_px,
                on_tile=on_tile,
            )
            return Restored(image=restored, route=route, num_tiles=len(tiles), tiles=tiles)
        applied = restorer.apply(
            route.expert,
            image,
            tile_px=options.tile_px,
            overlap_px=options.overlap_px,
            on_tile=on_tile,
        )
    return Restored(
        image=applied.image,
        route=route,
        num_tiles=applied.num_tiles,
        num_retries=applied.num_retries,
    )


def restore_files(
    restorer: Restorer,
    items: Iterable[Item],
    source: Path,
    target: Path,
    options: RestoreOptions,
    *,
    on_tile: OnItemTile | None = None,
) -> Iterator[Record]:
    """Restore files into a folder; each is there whole or not at all.

    Args:
        restorer: What restores.
        items: The files.
        source: The folder that their names are relative to.
        target: The folder that their outputs are relative to.
        options: What becomes of them.
        on_tile: Told of tiles.

    Yields:
        What became of each, in their order; a file that fails does not stop the others.
    """
    model, output = restorer.bundle.manifest.digest, Storage.open(target)
    writing: collections.deque[Future[Record]] = collections.deque()
    with ThreadPoolExecutor(2, thread_name_prefix="files") as pool:
        for item, photo in _read_ahead(pool, items, source):
            begin = time.perf_counter()
            record = Record(
                state="failed",
                name=item.name,
                num_bytes=item.num_bytes,
                mtime_ns=item.mtime_ns,
                model=model,
                options=options.digest,
                output=item.output,
                num_pixels=item.num_pixels,
            )
            try:
                loaded, read_s = photo.result()
                told = None if on_tile is None else _tell(on_tile, item)
                restored = restore_photo(restorer, loaded, options, told)
            except FAILURES as error:
                writing.append(pool.submit(failed, record, error))
            else:
                seconds = read_s + time.perf_counter() - begin
                writing.append(
                    pool.submit(_write, output, record, loaded, restored, options, seconds)
                )
            while len(writing) > 1:
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()


def failed(record: Record, error: Exception) -> Record:
    """The record of a photograph that something is wrong with."""
    words = " ".join(str(error).split()) or type(error).__name__
    # What torch says of memory runs over several sentences.
    is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return dataclasses.replace(
        record,
        error="needs more memory than there is; choose smaller tiles (-t)" if is_memory else words,
        is_lasting=isinstance(error, PhotoError | ValueError),
    )


def _read_ahead(
    pool: ThreadPoolExecutor, items: Iterable[Item], source: Path
) -> Iterator[tuple[Item, Future[tuple[Photo, float]]]]:
    waiting: collections.deque[tuple[Item, Future[tuple[Photo, float]]]] = collections.deque()
    remaining = iter(items)
    while True:
        for item in itertools.islice(remaining, _NUM_AHEAD - len(waiting)):
            waiting.append((item, pool.submit(_read, source / item.name)))
        if not waiting:
            return
        yield waiting.popleft()


def _read(path: Path) -> tuple[Photo, float]:
    begin = time.perf_counter()
    photo = read_photo(path.read_bytes(), max_pixels=None)
    return photo, time.perf_counter() - begin


def _write(
    output: Storage,
    record: Record,
    photo: Photo,
    restored: Restored,
    options: RestoreOptions,
    seconds: float,
) -> Record:
    begin = time.perf_counter()
    try:
        data = write_photo(photo, restored.image, format=options.format, quality=options.quality)
        if restored.tiles:
            tiles = [dataclasses.asdict(tile) for tile in restored.tiles]
            output.write_json(f"{record.output}.routes.json", {"tiles": tiles})
        output.write_bytes(record.output, data)
    except FAILURES as error:
        return failed(record, error)
    return dataclasses.replace(
        record,
        state="done",
        num_pixels=photo.num_pixels,
        expert=restored.route.expert,
        level=restored.route.level,
        confidence=round(restored.route.confidence, 4),
        num_tiles=restored.num_tiles,
        num_retries=restored.num_retries,
        seconds=round(seconds + time.perf_counter() - begin, 3),
        notes=photo.notes,
    )


def _tell(on_tile: OnItemTile, item: Item) -> OnTile:
    def told(num_done: int, num_tiles: int) -> None:
        on_tile(item, num_done, num_tiles)

    return told


def _wish(options: RestoreOptions) -> dict[str, Any]:
    """What a user wants of the choice, as `Restorer.route` takes it."""
    return {
        "level": options.level,
        "expert": options.expert,
        "instruction": options.instruction,
        "confidence": options.confidence,
    }


def _multiple(restorer: Restorer) -> int:
    return max(entry.multiple_px for entry in restorer.bundle.manifest.experts)
