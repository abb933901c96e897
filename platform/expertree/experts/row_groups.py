"""Read single rows of several Parquet files, addressed by one number through all files."""

import contextlib
import dataclasses
import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from expertree.errors import ArtefactError
from expertree.faults import check_length, retried, storage_errors
from expertree.storage import Storage, read_together
from expertree.traffic import count_traffic

Rows = np.ndarray[Any, np.dtype[np.int64]]

_KEPT_FOOTERS = 1024
"""Most footers of files that are kept; one takes some ten kilobytes of memory."""


class RowGroups:
    """The row groups of some Parquet files; rows are numbered through the files in their order.

    A value of an uncompressed column lies in its file as it is. Its place is found when its row
    group is read for the first time; from then on the value can be read without its neighbours.

    Attributes:
        starts: The number of the first row of each row group, and last the number of all rows.
        keys: The column that was asked for when the files were opened, in the order of the rows.
        num_bytes_read: Bytes read from storage so far.
    """

    def __init__(
        self, storage: Storage, names: Sequence[str], *, key: str, needed: Iterable[str]
    ) -> None:
        """Read the footers and one column of the files, several files at a time.

        Raises:
            ArtefactError: If a file is missing, is not Parquet, or lacks a column.
        """
        self._storage = storage
        self._names = tuple(names)
        self._key, self._needed = key, frozenset({key, *needed})
        self._lock = threading.Lock()
        self._footers: OrderedDict[int, pq.FileMetaData] = OrderedDict()
        self._places: dict[str, _Places] = {}
        self.num_bytes_read = 0
        opened = read_together(self._look, range(len(self._names)))
        sizes = [size for own, _ in opened for size in own]
        self.starts: Rows = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        counts = [len(own) for own, _ in opened]
        self._file_of = np.repeat(np.arange(len(counts)), counts)
        self._first_group = np.cumsum([0, *counts], dtype=np.int64)
        self.keys = pa.chunked_array([c for _, own in opened for c in own.chunks], pa.string())

    @property
    def num_rows(self) -> int:
        """The number of rows in all files."""
        return int(self.starts[-1])

    def groups_of(self, rows: Rows) -> Rows:
        """Return the row group of each of some rows."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a whole column, in the order of the rows."""

        def read(file: int) -> pa.ChunkedArray:
            with self._open(file) as (parquet, _):
                return parquet.read(columns=[name], use_threads=False).column(0)

        if not self._names:
            return pa.chunked_array([], pa.string())
        parts = read_together(lambda file: retried(lambda: read(file)), range(len(self._names)))
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks])

    def read_group(self, group: int, name: str) -> list[bytes]:
        """Return the values of a column in a row group."""
        return retried(lambda: self._read_group(group, name))

    def _read_group(self, group: int, name: str) -> list[bytes]:
        file = int(self._file_of[group])
        with self._open(file) as (parquet, stream):
            stream.pieces = []
            own = group - int(self._first_group[file])
            table = parquet.read_row_group(own, columns=[name], use_threads=False)
            values = cast("list[bytes]", table.column(0).cast(pa.binary()).to_pylist())
            self._note(name, int(self.starts[group]), values, stream.pieces)
        return values

    def read_rows(self, group: int, name: str, rows: Rows) -> list[bytes] | None:
        """Return single values of a column in a row group; None if their places are unknown."""
        places = self._places.get(name)
        if places is None or (places.offsets[rows] < 0).any():
            return None
        offsets, lengths = places.offsets[rows].tolist(), places.lengths[rows].tolist()
        spans = list(zip(offsets, lengths, strict=True))
        values = retried(lambda: self._read_spans(int(self._file_of[group]), spans))
        self._count(sum(lengths))
        return values

    def _count(self, num_bytes: int) -> None:
        count_traffic(read=num_bytes)
        with self._lock:
            self.num_bytes_read += num_bytes

    def _read_spans(self, file: int, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes at some offsets, of some lengths, in a file."""
        name = self._names[file]
        path, values = self._storage.path(name), []
        with (
            _named(self._storage.where(name)),
            self._storage.filesystem.open_input_file(path) as opened,
        ):
            for offset, length in spans:
                values.append(cast("bytes", opened.read_at(length, offset)))
                check_length(len(values[-1]), length)
        return values

    def _look(self, file: int) -> tuple[list[int], pa.ChunkedArray]:
        return retried(lambda: self._look_once(file))

    def _look_once(self, file: int) -> tuple[list[int], pa.ChunkedArray]:
        with self._open(file) as (parquet, _):
            missing = self._needed - set(parquet.schema_arrow.names)
            if missing:
                raise ArtefactError(
                    f"{self._storage.where(self._names[file])} has no column "
                    f"{', '.join(sorted(missing))}; it is not a patch table"
                )
            groups = range(parquet.num_row_groups)
            sizes = [parquet.metadata.row_group(group).num_rows for group in groups]
            return sizes, parquet.read(columns=[self._key], use_threads=False).column(0)

    def _note(
        self, name: str, first: int, values: Sequence[bytes], pieces: Sequence[tuple[int, bytes]]
    ) -> None:
        """Note where the values of a row group lie, if they are found among what was read."""
        with self._lock:
            if name not in self._places:
                self._places[name] = _Places.unknown(self.num_rows)
        places = self._places[name]
        for start, data in pieces:
            end = 0
            for row, value in enumerate(values, start=first):
                at = data.find(value, end)
                at = data.find(value) if at < 0 else at
                if at < 0:
                    break
                end = at + len(value)
                places.lengths[row] = len(value)
                places.offsets[row] = start + at

    @contextlib.contextmanager
    def _open(self, file: int) -> Iterator[tuple[pq.ParquetFile, "_Stream"]]:
        name = self._names[file]
        path = self._storage.path(name)
        with (
            _named(self._storage.where(name)),
            self._storage.filesystem.open_input_file(path) as opened,
        ):
            stream = _Stream(opened)
            with self._lock:
                footer = self._footers.get(file)
            parquet = pq.ParquetFile(stream, metadata=footer)
            yield parquet, stream
            self._count(stream.num_bytes_read)
            with self._lock:
                self._footers[file] = parquet.metadata
                self._footers.move_to_end(file)
                if len(self._footers) > _KEPT_FOOTERS:
                    self._footers.popitem(last=False)


@dataclasses.dataclass(frozen=True, slots=True)
class _Places:
    """Places of a column's values in their files; an offset below 0 stands for an unknown place."""

    offsets: Rows
    lengths: np.ndarray[Any, np.dtype[np.int32]]

    @classmethod
    def unknown(cls, num_rows: int) -> "_Places":
        """Return unknown places of `num_rows` rows."""
        return cls(np.full(num_rows, -1, dtype=np.int64), np.zeros(num_rows, dtype=np.int32))


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        with storage_errors(path, "read"):
            yield
    except pa.ArrowException as error:
        raise ArtefactError(f"{path} cannot be read as Parquet: {error}") from error


class _Stream(io.RawIOBase):
    """A file that counts what is read from it, and keeps it with its place once `pieces` is set."""

    def __init__(self, file: pa.NativeFile) -> None:
        super().__init__()
        self.num_bytes_read = 0
        self.pieces: list[tuple[int, bytes]] | None = None
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
        start = self.tell()
        data = cast("bytes", self._file.read(None if size < 0 else size))
        rest = self._file.size() - start
        check_length(len(data), max(rest if size < 0 else min(size, rest), 0))
        self.num_bytes_read += len(data)
        if self.pieces is not None:
            self.pieces.append((start, data))
        return data
