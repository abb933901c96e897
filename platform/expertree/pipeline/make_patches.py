"""The stages that write images: the patch sets' tables, and training images again by leaf."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import pyarrow as pa

from expertree.degradation.paired import PairPart, cut_part
from expertree.degradation.parts import SCHEMA, PartPlan, make_part
from expertree.degradation.photographs import load_photo
from expertree.errors import ExpertreeError
from expertree.pipeline.runner import OnDone, Runner, Shared
from expertree.pipeline.tables import (
    LeafTable,
    leaf_directory,
    read_table,
    write_table,
)
from expertree.storage import NOTHING_WRITTEN, Storage, Written

ROWS_PER_FILE = 512

Part: TypeAlias = PartPlan | PairPart
"""A unit of work: rows that are synthesised from a photograph, or cut from a pair."""


def degrade(
    runner: Runner, sets: Sequence[tuple[Sequence[Part], Storage]], on_done: OnDone
) -> Mapping[Storage, Written]:
    """Write the tables of patch sets: `part-00000.parquet`, about 512 rows a file.

    Args:
        runner: Runner that does the work.
        sets: Parts of each set, and the directory for its table.
        on_done: Called with files done and files in all.

    Returns:
        The files that this call wrote, by table.
    """
    items = [
        {"name": name, "parts": chunk, "directory": directory}
        for parts, directory in sets
        for name, chunk in table_files(parts)
    ]
    return runner.for_each(_write_part, items, on_done)


def table_files(parts: Sequence[Part]) -> list[tuple[str, list[Part]]]:
    """Return the name and the parts of each file; the parts keep their order."""
    files: list[tuple[str, list[Part]]] = []
    num_rows = 0
    for part in parts:
        if not files or num_rows >= ROWS_PER_FILE:
            files.append((f"part-{len(files):05d}.parquet", []))
            num_rows = 0
        files[-1][1].append(part)
        num_rows += part.num_rows
    return files


def _write_part(item: Mapping[str, Any]) -> Written:
    directory, name = item["directory"], item["name"]
    if directory.exists(name):
        return NOTHING_WRITTEN
    cv2.setNumThreads(1)
    tables = [_make(part) for part in item["parts"]]
    return {name: write_table(directory, name, pa.concat_tables(tables))}


def _make(part: Part) -> pa.Table:
    if isinstance(part, PairPart):
        return cut_part(part, load_photo(part.pair.lq), load_photo(part.pair.gt))
    return make_part(part, load_photo(part.photo))


def shard(
    runner: Runner,
    table: Storage,
    leaf_of: LeafTable,
    leaves: Sequence[int],
    result: Storage,
    on_done: OnDone,
) -> Written:
    """Write the training images by leaf: `leaf=003/part-00000.parquet`.

    A node of any level reads the directories of its leaves, and nothing else.

    Args:
        runner: Runner that does the work.
        table: The patch table.
        leaf_of: The leaf of each patch.
        leaves: Leaves to write the images of.
        result: Directory for the files.
        on_done: Called with files of the table done and in all.

    Returns:
        The files that this call wrote.

    Raises:
        ExpertreeError: If a wanted leaf has no image.
    """
    shared = runner.share(leaf_of)
    items = [
        {"name": name, "table": table, "directory": result, "leaf_of": shared, "leaves": leaves}
        for name in table.list_files(".parquet")
    ]
    written = runner.for_each(_write_shards, items, on_done)
    present = {name.partition("/")[0] for name in result.list_files(".parquet")}
    missing = [leaf for leaf in leaves if leaf_directory(leaf) not in present]
    if missing:
        raise ExpertreeError(f"leaves {missing} have no training images; use fewer groups")
    return written.get(result, NOTHING_WRITTEN)


def _write_shards(item: Mapping[str, Any]) -> Written:
    shared: Shared[LeafTable] = item["leaf_of"]
    leaf_of = shared.get()
    rows = read_table(item["table"], item["name"])
    leaves = leaf_of.find(rows["id"].combine_chunks())
    written = {}
    for leaf in np.intersect1d(leaves, item["leaves"]):
        chosen = rows.take(np.flatnonzero(leaves == leaf)).cast(SCHEMA)
        name = f"{leaf_directory(int(leaf))}/{item['name']}"
        written[name] = write_table(item["directory"], name, chosen)
    return written
