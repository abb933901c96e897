"""Paired patches from Parquet files: exactly the files one expert needs, and little of those.

The samples of a tree node are a list of files. Their small columns are read at once; images are
read by row group when first asked for, decoded, and kept while they fit a budget of memory.
"""

import contextlib
import io
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import UInt8
from torch import Tensor

from expertree.degradation.fresh import NO_REAL_MAPS, RealMaps
from expertree.errors import ArtefactError
from expertree.images.arrays import ImageU8
from expertree.images.io import decode_u8
from expertree.storage import Storage, storage_errors

Side = Literal["lq", "gt"]

DEFAULT_CACHE_BYTES = 1 << 30
"""Room for 10,000 pairs of 128 px patches: a small run never decodes an image twice."""

_SMALL_COLUMNS = ["id", "kind", "tasks", "caption", "recipe"]


class PairedPatches:
    """Degraded and clean patches of some Parquet files, sorted by id whatever the files' layout.

    Several threads may ask at once: one draws batches while another pictures what they give.

    Attributes:
        ids: The patches' ids, ascending; an index is a position in this list.
        kinds: `single` or `mixed` for each patch.
        tasks: The degradations of each patch.
        captions: The degree caption of each patch.
        recipes: What made each degraded patch, as JSON (`degradation.recipe.Recipe`).
        maps: Real maps that its degradation takes when it is made anew.
    """

    def __init__(
        self,
        storage: Storage,
        files: Sequence[str],
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        maps: RealMaps = NO_REAL_MAPS,
    ) -> None:
        """Read the small columns of the files; see `read_patches`."""
        self.maps = maps
        self._files = [_ParquetFile(storage, name) for name in files]
        found = [
            (values, _Place(n, group, row))
            for n, file in enumerate(self._files)
            for group in range(file.num_row_groups)
            for row, values in enumerate(file.read(group, _SMALL_COLUMNS).to_pylist())
        ]
        found.sort(key=lambda pair: cast("str", pair[0]["id"]))
        self.ids: list[str] = [values["id"] for values, _ in found]
        self.kinds: list[str] = [values["kind"] for values, _ in found]
        self.tasks: list[tuple[str, ...]] = [tuple(values["tasks"]) for values, _ in found]
        self.captions: list[str] = [values["caption"] for values, _ in found]
        self.recipes: list[str] = [values["recipe"] for values, _ in found]
        self._places = [place for _, place in found]
        self._index_of = {place: index for index, place in enumerate(self._places)}
        self._decoded: dict[tuple[Side, int], ImageU8] = {}
        self._num_free_bytes = cache_bytes
        self._loading = threading.Lock()
        self._check_ids()

    def __len__(self) -> int:
        """The number of patches."""
        return len(self.ids)

    @property
    def num_bytes_read(self) -> int:
        """Bytes read from storage so far."""
        return sum(file.num_bytes_read for file in self._files)

    def pair(
        self, indices: Sequence[int]
    ) -> tuple[UInt8[Tensor, "b 3 h w"], UInt8[Tensor, "b 3 h w"]]:
        """The degraded and the clean images at some indices, uint8 BCHW in channels_last memory.

        Raises:
            ValueError: If the images differ in size.
            ArtefactError: If a file cannot be read or decoded.
        """
        return self.lq(indices), self.gt(indices)

    def lq(self, indices: Sequence[int]) -> UInt8[Tensor, "b 3 h w"]:
        """The degraded images at some indices; reads no clean one."""
        return _stack(self.images("lq", indices))

    def gt(self, indices: Sequence[int]) -> UInt8[Tensor, "b 3 h w"]:
        """The clean images at some indices; reads no degraded one."""
        return _stack(self.images("gt", indices))

    def images(self, side: Side, indices: Sequence[int]) -> list[ImageU8]:
        """Decoded images, uint8 HWC, shared with the cache: treat them as read-only.

        Raises:
            ArtefactError: If a file cannot be read or decoded.
        """
        wanted = [int(index) for index in indices]
        with self._loading:
            fresh = self._load(side, {i for i in wanted if (side, i) not in self._decoded})
        return [fresh[i] if i in fresh else self._decoded[side, i] for i in wanted]

    def _load(self, side: Side, missing: set[int]) -> dict[int, ImageU8]:
        """Read and decode images, row group by row group; keep them and their neighbours."""
        groups: dict[tuple[int, int], set[int]] = defaultdict(set)
        for index in sorted(missing):
            groups[self._places[index][:2]].add(index)
        fresh: dict[int, ImageU8] = {}
        for (n, group), wanted in groups.items():
            encoded = self._files[n].read(group, [side]).column(0)
            for row in range(len(encoded)):
                index = self._index_of[_Place(n, group, row)]
                if index in wanted or self._has_room_for(side, index):
                    fresh[index] = self._decode(encoded[row].as_py(), side, index)
        return fresh

    def _has_room_for(self, side: Side, index: int) -> bool:
        return self._num_free_bytes > 0 and (side, index) not in self._decoded

    def _decode(self, data: bytes, side: Side, index: int) -> ImageU8:
        try:
            image = decode_u8(data)
        except ValueError as error:
            raise ArtefactError(f"patch {self.ids[index]}, column {side}: {error}") from error
        fits = image.nbytes <= self._num_free_bytes
        self._num_free_bytes = self._num_free_bytes - image.nbytes if fits else 0
        if fits:
            self._decoded[side, index] = image
        return image

    def _check_ids(self) -> None:
        repeated = [id_ for id_, count in Counter(self.ids).items() if count > 1]
        if repeated:
            raise ArtefactError(
                f"{len(repeated)} ids occur twice in {len(self._files)} files, the first "
                f"'{repeated[0]}'; was a file listed twice?"
            )


def read_patches(
    storage: Storage,
    files: Sequence[str],
    *,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    maps: RealMaps = NO_REAL_MAPS,
) -> PairedPatches:
    """Open the patches of a tree node, or of any list of Parquet files.

    Args:
        storage: Where the files are.
        files: Names within `storage`; exactly these are read.
        cache_bytes: How much decoded pixels may take; what does not fit is read again each time.
        maps: Real maps for whoever degrades the clean patches anew.

    Returns:
        The patches, sorted by id.

    Raises:
        ArtefactError: If a file is missing, is not Parquet, lacks a column, or an id repeats.
    """
    return PairedPatches(storage, files, cache_bytes, maps)


class _Place(NamedTuple):
    """Where a row's images are."""

    file: int
    row_group: int
    row: int


class _ParquetFile:
    """A Parquet file that is open only while it is read; its footer is read once."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage = storage
        self._name = name
        self.num_bytes_read = 0
        self._metadata: pq.FileMetaData | None = None
        with self._open() as parquet:
            self._metadata = parquet.metadata
            self.num_row_groups: int = parquet.num_row_groups

    def read(self, row_group: int, columns: list[str]) -> pa.Table:
        """Read some columns of one row group."""
        with self._open() as parquet:
            table = parquet.read_row_group(row_group, columns=columns, use_threads=False)
        missing = set(columns) - set(table.column_names)
        if missing:
            raise ArtefactError(
                f"{self._storage.path(self._name)} has no column {', '.join(sorted(missing))}; "
                "it is not a patch table"
            )
        return table

    @contextlib.contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        path = self._storage.path(self._name)
        try:
            with (
                storage_errors(path, "read"),
                self._storage.filesystem.open_input_file(path) as file,
            ):
                stream = _CountingStream(file)
                yield pq.ParquetFile(stream, metadata=self._metadata)
                self.num_bytes_read += stream.num_bytes_read
        except pa.ArrowException as error:
            raise ArtefactError(f"{path} cannot be read as Parquet: {error}") from error


class _CountingStream(io.RawIOBase):
    """A file that counts what is read from it."""

    def __init__(self, file: pa.NativeFile) -> None:
        super().__init__()
        self.num_bytes_read = 0
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return cast("int", self._file.seek(offset, whence))

    def tell(self) -> int:
        return cast("int", self._file.tell())

    def read(self, size: int = -1) -> bytes:
        data = cast("bytes", self._file.read(None if size < 0 else size))
        self.num_bytes_read += len(data)
        return data


def _stack(images: Sequence[ImageU8]) -> UInt8[Tensor, "b 3 h w"]:
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise ValueError(f"a batch needs images of one size, got {sorted(sizes)}")
    return torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2)
