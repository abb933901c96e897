"""The stages that write images: the patch sets' tables, and training images again by leaf."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import ray

from expertree.degradation.photographs import load_photo
from expertree.degradation.table import SCHEMA, PartPlan, make_part
from expertree.errors import ExpertreeError
from expertree.orchestration.pipelines import OnDone, for_each
from expertree.orchestration.tables import leaf_directory, read_table, write_table
from expertree.storage import Storage

ROWS_PER_FILE = 512


def degrade(sets: Sequence[tuple[Sequence[PartPlan], Storage]], on_done: OnDone) -> None:
    """Make patch sets' tables: `part-00000.parquet`, about 512 rows a file.

    Args:
        sets: For each set its parts, and where its table goes.
        on_done: Told of files written.
    """
    items = [
        {"name": name, "parts": chunk, "directory": directory}
        for parts, directory in sets
        for name, chunk in table_files(parts)
    ]
    for_each(_write_part, items, on_done)


def table_files(parts: Sequence[PartPlan]) -> list[tuple[str, list[PartPlan]]]:
    """Which parts go into which file; the parts keep their order."""
    files: list[tuple[str, list[PartPlan]]] = []
    num_rows = 0
    for part in parts:
        if not files or num_rows >= ROWS_PER_FILE:
            files.append((f"part-{len(files):05d}.parquet", []))
            num_rows = 0
        files[-1][1].append(part)
        num_rows += len(part.rows)
    return files


def _write_part(item: Mapping[str, Any]) -> None:
    directory, name = item["directory"], item["name"]
    if directory.exists(name):
        return
    cv2.setNumThreads(1)
    tables = [make_part(part, load_photo(part.photo)) for part in item["parts"]]
    write_table(directory, name, pa.concat_tables(tables))


def shard(
    table: Storage,
    leaf_of: Mapping[str, int],
    leaves: Sequence[int],
    result: Storage,
    on_done: OnDone,
) -> None:
    """Write the training images by leaf: `leaf=003/part-00000.parquet`.

    A node of any level reads the directories of its leaves, and nothing else.

    Args:
        table: The patch table.
        leaf_of: The leaf by the patch's id.
        leaves: Whose images are wanted.
        result: Where to.
        on_done: Told of files of the table that are through.

    Raises:
        ExpertreeError: If a wanted leaf has no image.
    """
    wanted = set(leaves)
    shared = ray.put({key: leaf for key, leaf in leaf_of.items() if leaf in wanted})
    items = [
        {"name": name, "table": table, "directory": result, "leaf_of": [shared]}
        for name in table.list_files(".parquet")
    ]
    for_each(_write_shards, items, on_done)
    present = {name.partition("/")[0] for name in result.list_files(".parquet")}
    missing = [leaf for leaf in leaves if leaf_directory(leaf) not in present]
    if missing:
        raise ExpertreeError(f"leaves {missing} have no training images; use fewer groups")


def _write_shards(item: Mapping[str, Any]) -> None:
    leaf_of: Mapping[str, int] = ray.get(item["leaf_of"][0])
    rows = read_table(item["table"], item["name"])
    leaves = np.array([leaf_of.get(key, -1) for key in rows["id"].to_pylist()])
    for leaf in np.unique(leaves[leaves >= 0]):
        chosen = rows.take(np.flatnonzero(leaves == leaf)).cast(SCHEMA)
        write_table(item["directory"], f"{leaf_directory(int(leaf))}/{item['name']}", chosen)
