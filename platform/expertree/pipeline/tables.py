"""Writes and reads the Parquet files of stages."""

import bisect
import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32, Int64

from expertree.degradation.captions import SEPARATOR, caption_of_kinds
from expertree.faults import attempt
from expertree.hierarchy import Labels
from expertree.storage import FileRecord, Storage, describe, read_together

T = TypeVar("T")

ROW_GROUP_ROWS = 64
"""Small row groups let a reader take a few rows without reading the rest."""

_LEAF_ROWS = 1 << 16
"""Rows of a group in the table of leaves, which is never read in part."""

_HASHED_AT_ONCE = 1 << 16

_PART, _COLUMN = "\x1f", "\x1e"
"""Separators of the parts of a column, and of columns, where they are joined to one text."""


def read_table(directory: Storage, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of a stage.

    Raises:
        ArtefactError: If it is not there.
        StorageError: If it cannot be read.
    """

    def read() -> pa.Table:
        return pq.read_table(
            directory.path(name),
            filesystem=directory.filesystem,
            columns=columns,
            partitioning=None,
        )

    return attempt(directory.where(name), "read", read)


def count_rows(directory: Storage, name: str) -> int:
    """Return the number of rows of a Parquet file, by its footer.

    Raises:
        ArtefactError: If it is not there.
        StorageError: If it cannot be read.
    """

    def count() -> int:
        with directory.filesystem.open_input_file(directory.path(name)) as source:
            return int(pq.ParquetFile(source).metadata.num_rows)

    return attempt(directory.where(name), "read", count)


def write_table(
    directory: Storage, name: str, table: pa.Table, *, row_group_rows: int = ROW_GROUP_ROWS
) -> FileRecord:
    """Write a Parquet file whole, in small row groups; uncompressed, as images are encoded."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="NONE", row_group_size=row_group_rows)
    data = sink.getvalue()
    directory.write_bytes(name, data)
    return describe(data)


def read_tables(directory: Storage, names: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Read some columns of several Parquet files, one after the other; at least one file."""
    return pa.concat_tables(_read_each(directory, names, columns, lambda table: table))


def _read_each(
    directory: Storage,
    names: Sequence[str],
    columns: Sequence[str],
    reduce: Callable[[pa.Table], T],
) -> list[T]:
    """Read some columns of several Parquet files, and keep of each what a function returns."""

    def read(name: str) -> pa.Table:
        with directory.filesystem.open_input_file(directory.path(name)) as source:
            return pq.ParquetFile(source).read(columns=list(columns), use_threads=False)

    def patiently(name: str) -> T:
        return reduce(attempt(directory.where(name), "read", lambda: read(name)))

    return read_together(patiently, names)


def read_embeddings(result: Storage) -> tuple[pa.StringArray, Float32[np.ndarray, "patches dim"]]:
    """Read all ids and embeddings of a patch set into memory, sorted by id."""
    table = pa.concat_tables([read_table(result, name) for name in result.list_files(".parquet")])
    table = table.take(pc.sort_indices(table["id"]))
    return table["id"].combine_chunks(), vectors_of(table)


def vectors_of(table: pa.Table) -> Float32[np.ndarray, "patches dim"]:
    """Return the embeddings of a table, in its order."""
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(table.num_rows, -1)


def read_labels(table: Storage) -> Labels[tuple[str, ...]]:
    """Read the degradations of each patch of a set, in the order of the ids."""
    return _read_texts(table, "tasks").map(_parts)


def read_names(table: Storage) -> Labels[tuple[str, ...]]:
    """Read the degradations and degrees of each patch of a set, in the order of the ids.

    A clean patch has its caption alone, and a patch of a pair its degradations: nobody wrote down
    their degrees.
    """

    def names(text: str) -> tuple[str, ...]:
        joined, _, caption = text.partition(_COLUMN)
        tasks = _parts(joined)
        kinds = caption_of_kinds(tasks).split(SEPARATOR)
        return (*tasks, *(part for part in caption.split(SEPARATOR) if part not in kinds))

    return _read_texts(table, "tasks", "caption").map(names)


def read_pictures(table: Storage) -> set[str]:
    """Read which pictures a set's patches are cut from: what their ids say between set and row.

    Sets of the same part of the same sources say the same of a picture.
    """
    ids = read_tables(table, table.list_files(".parquet"), ["id"])["id"]
    pictures = pc.replace_substring_regex(ids, "^[^/]*/|/[^/]*$", "")
    return set(pc.unique(pictures).to_pylist())


def _read_texts(table: Storage, *columns: str) -> Labels[str]:
    """Read columns as one text for each patch; the few different texts are kept once each."""

    def reduce(rows: pa.Table) -> tuple[pa.ChunkedArray, list[str], Int32[np.ndarray, " rows"]]:
        texts = [
            pc.binary_join(rows[name], _PART) if pa.types.is_list(rows[name].type) else rows[name]
            for name in columns
        ]
        joined = pc.binary_join_element_wise(*texts, _COLUMN).combine_chunks().dictionary_encode()
        return rows["id"], joined.dictionary.to_pylist(), joined.indices.to_numpy()

    parts = _read_each(table, table.list_files(".parquet"), ["id", *columns], reduce)
    places: dict[str, int] = {}
    codes = []
    for _, own, indices in parts:
        here = [places.setdefault(text, len(places)) for text in own]
        codes.append(np.array(here, dtype=np.int32)[indices])
    ids = pa.chunked_array([chunk for part, _, _ in parts for chunk in part.chunks])
    order = pc.sort_indices(ids).to_numpy()
    return Labels(tuple(places), np.concatenate(codes)[order].astype(np.int64))


def _parts(text: str) -> tuple[str, ...]:
    return tuple(text.split(_PART)) if text else ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LeafTable:
    """The leaf of each training patch.

    Attributes:
        ids: Ids of the patches, ascending.
        leaves: Leaf of each patch.
    """

    ids: pa.StringArray
    leaves: Int64[np.ndarray, " patches"]

    def hash_of(self, leaves: Iterable[int], *, head: str) -> str:
        """Return the SHA-256 of the line `head` and of the ids in some leaves, a line each."""
        found = hashlib.sha256(head.encode())
        inside = np.isin(self.leaves, list(leaves))
        for start in range(0, len(self.ids), _HASHED_AT_ONCE):
            ids = self.ids[start : start + _HASHED_AT_ONCE]
            chosen = ids.filter(pa.array(inside[start : start + _HASHED_AT_ONCE]))
            found.update("".join(f"\n{key}" for key in chosen.to_pylist()).encode())
        return found.hexdigest()

    def find(self, ids: pa.StringArray) -> Int64[np.ndarray, " rows"]:
        """Return the leaf of each of some patches; -1 where it has none.

        Patches of a file are neighbours here too, so that only a small part is searched.
        """
        first, last = (
            bisect.bisect(range(len(self.ids)), key, key=lambda n: self.ids[n].as_py())
            for key in (pc.min(ids).as_py(), pc.max(ids).as_py())
        )
        first = max(0, first - 1)
        places = pc.index_in(ids, value_set=self.ids[first:last])
        known = places.is_valid().to_numpy(zero_copy_only=False)
        rows = places.fill_null(0).to_numpy().astype(np.int64) + first
        found = np.full(len(ids), -1, dtype=np.int64)
        found[known] = self.leaves[rows[known]]
        return found


def write_leaves(directory: Storage, table: LeafTable) -> None:
    """Write the leaf of each training patch."""
    rows = pa.table({"id": table.ids, "leaf": pa.array(table.leaves)})
    write_table(directory, "leaves.parquet", rows, row_group_rows=_LEAF_ROWS)


def read_leaves(directory: Storage) -> LeafTable:
    """Read the leaf of each training patch."""
    table = read_tables(directory, ["leaves.parquet"], ["id", "leaf"])
    return LeafTable(
        ids=table["id"].combine_chunks(), leaves=table["leaf"].to_numpy().astype(np.int64)
    )


def leaf_directory(leaf: int) -> str:
    """Return the name of the directory of a leaf's images."""
    return f"leaf={leaf:03d}"


def leaf_files(names: Sequence[str], leaves: Sequence[int]) -> list[str]:
    """Return those files of the shard stage that belong to some leaves."""
    wanted = {leaf_directory(leaf) for leaf in leaves}
    return [name for name in names if name.partition("/")[0] in wanted]
