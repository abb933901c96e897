"""Restore photographs one after the other, while the next is read and the last is written."""

import collections
import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Float32
from torch import Tensor

from expertree.batch.decoders import decoders
from expertree.batch.listing import PhotoItem
from expertree.batch.manifest import PhotoRecord, WriteJournal
from expertree.batch.settings import BatchConfig, RestoreOptions
from expertree.errors import ConfigError, ExpertreeError, PhotoError
from expertree.images.heic import ADVICE, has_heic
from expertree.images.photo_file import Photo, notes_for, read_photo, write_photo
from expertree.images.tiling import OnTile, plan_tiles
from expertree.memory import is_out_of_memory, return_freed_memory
from expertree.restorer import Manifest, Outline, Restorer
from expertree.restorer.per_tile import TileRoute, restore_per_tile
from expertree.routing import Route
from expertree.storage import Storage, describe

OnItemTile: TypeAlias = Callable[[PhotoItem, int, int], None]
"""Callback after each tile, with its photograph, tiles done, and tiles in all."""

_MAX_TRACEBACK = 4000
"""Last characters of a traceback that are kept."""

_LARGE_PX = 16_000_000
"""Pixels from which on it is worth milliseconds to give memory back that decoding has freed."""

_Read: TypeAlias = tuple[Photo, bytes, float]
"""A photograph, its file, and the seconds that reading it took."""

_NUM_AHEAD = 2
"""Photographs read ahead: one that waits while another is read."""

_MAX_PIXELS_BESIDE = 64_000_000
"""Most pixels of photographs that are read ahead, and of one that is still being written while the
next is restored: there, a pixel takes 12 bytes and more. Larger ones are done one after another."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BatchTask:
    """The files of a batch that are left to restore.

    Attributes:
        config: Settings of the batch, the bundle's place among them.
        items: The files.
        source: The folder that their names are relative to.
        target: The folder that their outputs are relative to.
        has_manifest: Whether the folder of the outputs keeps a manifest, and journals beside it.
        origin: Digest of the source, as the machine that plans the batch knows it.
    """

    config: BatchConfig
    items: tuple[PhotoItem, ...]
    source: Path
    target: Path
    has_manifest: bool
    origin: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RestoredPhoto:
    """A photograph restored, not yet encoded.

    Attributes:
        image: sRGB in [0, 1], `[3, height, width]`.
        route: The expert that was chosen for the whole of it, if any.
        num_tiles: Tiles it was restored in; 0 if no expert ran.
        num_retries: Times that memory ran out and the tiles were halved.
        tiles: The choice for each tile, if each had its own.
    """

    image: Float32[Tensor, "3 height width"]
    route: Route
    num_tiles: int
    num_retries: int = 0
    tiles: tuple[TileRoute, ...] = ()

    @property
    def expert(self) -> int | None:
        """The expert that restored it, or most of its tiles; None if it is left as it is."""
        if not self.tiles:
            return self.route.expert
        used = [tile.expert for tile in self.tiles if tile.expert is not None]
        if self.route.expert in used:
            return self.route.expert
        return collections.Counter(used).most_common(1)[0][0] if used else None


def open_restorer(config: BatchConfig) -> Restorer:
    """Open the bundle of a batch on the device that it names, or a GPU if there is one.

    Raises:
        ArtefactError: If the bundle is damaged; names the file.
        ConfigError: If the engine cannot be had here.
    """
    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype: torch.dtype = getattr(torch, config.options.dtype)
    return Restorer.load(config.bundle, device, dtype=dtype, engine=config.engine)


def check_options(outline: Outline, options: RestoreOptions) -> RestoreOptions:
    """Return options with their words understood; raise if a bundle cannot do what is asked.

    Raises:
        ConfigError: If a level, expert or name does not exist, the quality is not 1 to 100, or
            tiles are too small, or HEIC cannot be written here.
    """
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise ConfigError(f"--quality must be 1 to 100, got {options.quality}")
    if options.format == "heic" and not has_heic():
        raise ConfigError(f"--format heic needs pillow-heif, which is not installed: {ADVICE}")
    try:
        wish = outline.check_wish(options.wish)
        if options.wish.tile_px not in {"auto", 0}:
            _check_tiles(outline.manifest, int(options.wish.tile_px), options)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return dataclasses.replace(options, wish=wish)


def restore_photo(
    restorer: Restorer, photo: Photo, options: RestoreOptions, on_tile: OnTile | None = None
) -> RestoredPhoto:
    """Restore the pixels of a photograph.

    Raises:
        ValueError: If the options do not fit the bundle; see `check_options`.
    """
    image, wish, overlap_px = photo.tensor(), options.wish, options.overlap_px
    if options.route_tiles:
        route = restorer.route(image, wish)
        restored, tiles = restore_per_tile(
            restorer, image, wish, overlap_px=overlap_px, on_tile=on_tile
        )
        return RestoredPhoto(image=restored, route=route, num_tiles=len(tiles), tiles=tiles)
    restoration = restorer.restore(image, wish, overlap_px=overlap_px, on_tile=on_tile)
    return RestoredPhoto(
        image=restoration.image,
        route=restoration.route,
        num_tiles=restoration.num_tiles,
        num_retries=restoration.num_retries,
    )


def write_restored(
    photo: Photo, data: bytes, restored: RestoredPhoto, options: RestoreOptions
) -> bytes:
    """Return the file of a restored photograph.

    One that is left as it is, or of which nothing is restored at strength 0, is its own file byte
    for byte, whatever quality is asked for; in another format it is written with the same pixels.

    Args:
        photo: The photograph.
        data: Its file.
        restored: The restored photograph.
        options: Options with format and quality.

    Raises:
        ValueError: As `write_photo`.
    """
    if _is_copied(photo, restored, options):
        return data
    return write_photo(photo, restored.image, format=options.format, quality=options.quality)


def _is_copied(photo: Photo, restored: RestoredPhoto, options: RestoreOptions) -> bool:
    """Return whether the photograph's file is the restored one too, byte for byte."""
    is_untouched = restored.expert is None or options.wish.strength == 0.0
    return is_untouched and options.format in {None, photo.format}


def restore_files(
    restorer: Restorer,
    task: BatchTask,
    *,
    on_tile: OnItemTile | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[PhotoRecord]:
    """Restore files into a folder; each is there whole or not at all.

    Args:
        restorer: An opened bundle.
        task: The files, their folders, and how they are restored and written.
        on_tile: Called after each tile.
        is_stopped: Asked before each file; once it is true, no other one is begun.

    Yields:
        The record of each file, in their order; a file that fails does not stop the others.
    """
    write = _Writer(task)
    writing: collections.deque[Future[PhotoRecord]] = collections.deque()
    last_px = 0
    with ThreadPoolExecutor(2, thread_name_prefix="files") as pool:
        for item, photo in _read_ahead(pool, task.items, task.source):
            if is_stopped():
                photo.cancel()
                break
            while writing and item.num_pixels + last_px > _MAX_PIXELS_BESIDE:
                yield writing.popleft().result()
            tell = None if on_tile is None else _tell(on_tile, item)
            work = _restored(restorer, task, item, photo, tell, write)
            writing.append(pool.submit(work))
            last_px = item.num_pixels
            del photo, work  # or the next one would be restored beside them
            while len(writing) > 1:
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()


def _restored(
    restorer: Restorer,
    task: BatchTask,
    item: PhotoItem,
    photo: "Future[_Read]",
    on_tile: OnTile | None,
    write: "_Writer",
) -> Callable[[], PhotoRecord]:
    """Restore a photograph once it is read, and return the work of writing it."""
    begin, options = time.perf_counter(), task.config.options
    record = PhotoRecord(
        state="failed",
        name=item.name,
        num_bytes=item.num_bytes,
        mtime_ns=item.mtime_ns,
        model=restorer.bundle.manifest.digest,
        options=options.digest,
        output=item.output,
        origin=task.origin,
        num_pixels=item.num_pixels,
    )
    try:
        loaded, data, read_s = photo.result()
        restored = restore_photo(restorer, loaded, options, on_tile)
    except Exception as error:  # noqa: BLE001 - told in the record
        return functools.partial(failed_record, record, error)
    seconds = read_s + time.perf_counter() - begin
    return functools.partial(write, record, loaded, data, restored, seconds)


def failed_record(record: PhotoRecord, error: Exception) -> PhotoRecord:
    """Return the record of a photograph that failed, be it by a fault of this program."""
    is_lasting = isinstance(error, PhotoError | ValueError)
    return dataclasses.replace(
        record,
        error=describe_error(error),
        is_lasting=is_lasting,
        decoders=decoders() if is_lasting else "",
        traceback=unexpected_traceback(error),
    )


def describe_error(error: Exception) -> str:
    """Return what went wrong with a photograph, as a clause that can follow its name."""
    words = " ".join(str(error).split())
    if is_out_of_memory(error):  # what torch says of memory runs over several sentences
        return "needs more memory than there is; choose smaller tiles (-t)"
    if isinstance(error, ExpertreeError | ValueError | OSError):
        return words or type(error).__name__
    return f"{type(error).__name__}: {words}; a fault of this program, please report its traceback"


def unexpected_traceback(error: Exception) -> str:
    """Return the traceback of an unexpected error; empty for errors raised on purpose."""
    if isinstance(error, ExpertreeError | OSError) or is_out_of_memory(error):
        return ""
    return "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:]


def _read_ahead(
    pool: ThreadPoolExecutor, items: Iterable[PhotoItem], source: Path
) -> Iterator[tuple[PhotoItem, Future[_Read]]]:
    waiting: collections.deque[tuple[PhotoItem, Future[_Read]]] = collections.deque()
    remaining = collections.deque(items)
    while remaining or waiting:
        while remaining and _has_room([item.num_pixels for item, _ in waiting], remaining[0]):
            item = remaining.popleft()
            waiting.append((item, pool.submit(_read, source / item.name)))
        yield waiting.popleft()


def _has_room(waiting_px: Sequence[int], following: PhotoItem) -> bool:
    """Return whether a photograph may be read ahead of those that wait."""
    if not waiting_px:
        return True
    fits = sum(waiting_px) + following.num_pixels <= _MAX_PIXELS_BESIDE
    return fits and len(waiting_px) < _NUM_AHEAD


def _read(path: Path) -> _Read:
    begin = time.perf_counter()
    data = path.read_bytes()
    photo = read_photo(data, max_pixels=None)
    if photo.num_pixels > _LARGE_PX:
        return_freed_memory()
    return photo, data, time.perf_counter() - begin


class _Writer:
    """Writes the restored files of a task."""

    def __init__(self, task: BatchTask) -> None:
        self._options, self._source = task.config.options, task.source
        self._preserve = task.config.preserve
        self._output = Storage.open(task.target)
        self._journal = WriteJournal(task.target) if task.has_manifest else None

    def __call__(
        self,
        record: PhotoRecord,
        photo: Photo,
        data: bytes,
        restored: RestoredPhoto,
        seconds: float,
    ) -> PhotoRecord:
        """Write a restored photograph, and return its record; `seconds` went before."""
        begin = time.perf_counter()
        try:
            written = write_restored(photo, data, restored, self._options)
            record = dataclasses.replace(record, sha256=describe(written)["sha256"])
            if restored.tiles:
                tiles = [dataclasses.asdict(tile) for tile in restored.tiles]
                self._output.write_json(f"{record.output}.routes.json", {"tiles": tiles})
            if self._journal is not None:
                self._journal.about_to_write(record)
            like = self._source / record.name if self._preserve else None
            self._output.write_bytes(record.output, written, like=like)
        except Exception as error:  # noqa: BLE001 - told in the record
            return failed_record(dataclasses.replace(record, sha256=""), error)
        is_copied = _is_copied(photo, restored, self._options)
        return dataclasses.replace(
            record,
            state="done",
            num_pixels=photo.num_pixels,
            expert=restored.expert,
            level=restored.route.level,
            confidence=round(restored.route.confidence, 4),
            num_tiles=restored.num_tiles,
            num_retries=restored.num_retries,
            seconds=round(seconds + time.perf_counter() - begin, 3),
            notes=() if is_copied else notes_for(photo, self._options.format),
        )


def _tell(on_tile: OnItemTile, item: PhotoItem) -> OnTile:
    def tell(num_done: int, num_tiles: int) -> None:
        on_tile(item, num_done, num_tiles)

    return tell


def _check_tiles(manifest: Manifest, tile_px: int, options: RestoreOptions) -> None:
    """Raise ValueError where tiles are too small for some expert."""
    side_px = 1 << 16
    each = {entry.multiple_px for entry in manifest.experts}
    for multiple in {manifest.multiple_px} if options.route_tiles else each:
        plan_tiles(
            side_px, side_px, tile_px=tile_px, overlap_px=options.overlap_px, multiple=multiple
        )
