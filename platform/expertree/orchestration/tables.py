"""What stages leave as Parquet files, and reading it back."""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from expertree.degradation.captions import SEPARATOR
from expertree.storage import Storage, storage_errors

ROW_GROUP_ROWS = 64
"""Small row groups let a reader take a few rows without reading the rest."""


def read_table(directory: Storage, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of a stage.

    Raises:
        ArtefactError: If it is not there.
        StorageError: If it cannot be read.
    """
    path = directory.path(name)
    with storage_errors(path, "read"):
        return pq.read_table(
            path, filesystem=directory.filesystem, columns=columns, partitioning=None
        )


def count_rows(directory: Storage, name: str) -> int:
    """Rows of a Parquet file, by its footer.

    Raises:
        ArtefactError: If it is not there.
        StorageError: If it cannot be read.
    """
    path = directory.path(name)
    with storage_errors(path, "read"), directory.filesystem.open_input_file(path) as source:
        return int(pq.ParquetFile(source).metadata.num_rows)


def write_table(directory: Storage, name: str, table: pa.Table) -> None:
    """Write a Parquet file whole: encoded images uncompressed, in small row groups."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="NONE", row_group_size=ROW_GROUP_ROWS)
    directory.write_bytes(name, sink.getvalue())


def read_embeddings(result: Storage) -> tuple[list[str], Float32[np.ndarray, "patches dim"]]:
    """The ids and embeddings of a patch set, sorted by id."""
    table = pa.concat_tables([read_table(result, name) for name in result.list_files(".parquet")])
    table = table.take(pc.sort_indices(table["id"]))
    return table["id"].to_pylist(), vectors_of(table)


def vectors_of(table: pa.Table) -> Float32[np.ndarray, "patches dim"]:
    """The embeddings of a table, in its order."""
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(table.num_rows, -1)


def read_labels(table: Storage) -> list[tuple[str, ...]]:
    """The degradations of each patch of a set, in the order of the ids."""
    return [tuple(tasks) for tasks in _columns(table, "tasks")["tasks"].to_pylist()]


def read_names(table: Storage) -> list[tuple[str, ...]]:
    """The degradations of each patch of a set, and their degrees, in the order of the ids.

    A patch with which nothing is wrong has its caption alone.
    """
    rows = _columns(table, "tasks", "caption")
    captions = rows["caption"].to_pylist()
    return [
        (*tasks, *caption.split(SEPARATOR))
        for tasks, caption in zip(rows["tasks"].to_pylist(), captions, strict=True)
    ]


def _columns(table: Storage, *names: str) -> pa.Table:
    files = table.list_files(".parquet")
    rows = pa.concat_tables([read_table(table, file, ["id", *names]) for file in files])
    return rows.take(pc.sort_indices(rows["id"]))


def write_leaves(
    directory: Storage, ids: Sequence[str], leaves: Int64[np.ndarray, " patches"]
) -> None:
    """Write the ids of the training patches and the leaf of each."""
    rows = pa.table({"id": pa.array(ids), "leaf": pa.array(leaves)})
    write_table(directory, "leaves.parquet", rows)


def read_leaves(directory: Storage) -> tuple[list[str], Int64[np.ndarray, " patches"]]:
    """The ids of the training patches and the leaf of each, sorted by id."""
    table = read_table(directory, "leaves.parquet")
    return table["id"].to_pylist(), table["leaf"].to_numpy().astype(np.int64)


def leaf_directory(leaf: int) -> str:
    """The directory of one leaf's images."""
    return f"leaf={leaf:03d}"


def leaf_files(names: Sequence[str], leaves: Sequence[int]) -> list[str]:
    """The files, among those of the shard stage, of some leaves."""
    wanted = {leaf_directory(leaf) for leaf in leaves}
    return [name for name in names if name.partition("/")[0] in wanted]
