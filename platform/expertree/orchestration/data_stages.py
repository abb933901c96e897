"""The stages that move images, as Ray Data pipelines: degrade, embed, shard, score.

A row of each pipeline is a unit of work (a file to write or to read), not an image: image bytes
never travel through the object store, every output file has one writer and a name that depends on
the plan alone, and a stage that was killed goes on behind the files that are there.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import torch
from jaxtyping import Float32, Int64

from expertree.degradation.photographs import load_photo
from expertree.degradation.table import SCHEMA, PartPlan, make_part
from expertree.embedding import embed_patches, load_extractor
from expertree.errors import ExpertreeError
from expertree.evaluation import Scores
from expertree.experts import PairedPatches, load_expert, read_patches, score_expert, score_inputs
from expertree.orchestration.cluster import ClusterConfig, num_data_workers
from expertree.storage import Storage

ROW_GROUP_ROWS = 64
"""Small row groups let a reader take a few rows without reading the rest."""

ROWS_PER_FILE = 512
EMBED_BATCH = 32
SCORE_BATCH = 16

OnDone = Callable[[int, int], None]


def read_table(directory: Storage, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of a stage."""
    return pq.read_table(
        directory.path(name), filesystem=directory.filesystem, columns=columns, partitioning=None
    )


def write_table(directory: Storage, name: str, table: pa.Table) -> None:
    """Write a Parquet file whole: encoded images uncompressed, in small row groups."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="NONE", row_group_size=ROW_GROUP_ROWS)
    directory.write_bytes(name, sink.getvalue())


# --- degrade -------------------------------------------------------------------------------------


def degrade(parts: Sequence[PartPlan], result: Storage, on_done: OnDone) -> None:
    """Make the patch table: `<split>/part-00000.parquet`, about 512 rows a file."""
    items = [
        {"name": name, "parts": chunk, "directory": result} for name, chunk in table_files(parts)
    ]
    _for_each(_write_part, items, on_done)


def table_files(parts: Sequence[PartPlan]) -> list[tuple[str, list[PartPlan]]]:
    """Which parts go into which file; the parts of one split keep their order."""
    files: list[tuple[str, list[PartPlan]]] = []
    counts: dict[str, int] = {}
    num_rows = 0
    for part in parts:
        new = not files or not files[-1][0].startswith(f"{part.split}/")
        if new or num_rows >= ROWS_PER_FILE:
            number = counts.get(part.split, 0)
            counts[part.split], num_rows = number + 1, 0
            files.append((f"{part.split}/part-{number:05d}.parquet", []))
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


# --- embed ---------------------------------------------------------------------------------------


def embed(
    table: Storage, extractor: Storage, result: Storage, config: ClusterConfig, on_done: OnDone
) -> None:
    """Embed every degraded image; the files mirror the table's, with `id` and `embedding`."""
    items = [
        {"name": name, "table": table, "directory": result} for name in table.list_files(".parquet")
    ]
    _for_each(_Embedder, items, on_done, config=config, arguments=(extractor, config.use_gpu))


class _Embedder:
    """An actor that holds the extractor."""

    def __init__(self, extractor: Storage, use_gpu: bool) -> None:  # noqa: FBT001
        self._extractor = load_extractor(extractor).to("cuda" if use_gpu else "cpu")

    def __call__(self, item: Mapping[str, Any]) -> None:
        directory, name = item["directory"], item["name"]
        if directory.exists(name):
            return
        patches = read_patches(item["table"], [name])
        vectors = embed_patches(self._extractor, patches, batch_size=EMBED_BATCH)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        table = pa.table({"id": pa.array(patches.ids), "embedding": column})
        write_table(directory, name, table)


def read_embeddings(
    result: Storage, split: str
) -> tuple[list[str], Float32[np.ndarray, "patches dim"]]:
    """The ids and embeddings of a split, sorted by id."""
    names = [n for n in result.list_files(".parquet") if n.startswith(f"{split}/")]
    table = pa.concat_tables([read_table(result, name) for name in names])
    table = table.take(pc.sort_indices(table["id"]))
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(table.num_rows, -1).astype(np.float32, copy=False)
    return table["id"].to_pylist(), vectors


def read_labels(table: Storage, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The degradations of each patch in some files of the table, in the order of the ids."""
    rows = pa.concat_tables([read_table(table, name, ["id", "tasks"]) for name in names])
    rows = rows.take(pc.sort_indices(rows["id"]))
    return [tuple(tasks) for tasks in rows["tasks"].to_pylist()]


# --- shard ---------------------------------------------------------------------------------------


def shard(
    table: Storage, leaf_of: Mapping[str, int], num_leaves: int, result: Storage, on_done: OnDone
) -> None:
    """Write the training images by leaf: `leaf=003/part-00000.parquet`.

    A node of any level reads the directories of its leaves, and nothing else.
    """
    shared = ray.put(dict(leaf_of))
    items = [
        {"name": name, "table": table, "directory": result, "leaf_of": [shared]}
        for name in table.list_files(".parquet")
        if name.startswith("train/")
    ]
    _for_each(_write_shards, items, on_done)
    present = {name.partition("/")[0] for name in result.list_files(".parquet")}
    missing = [leaf for leaf in range(num_leaves) if leaf_directory(leaf) not in present]
    if missing:
        raise ExpertreeError(f"leaves {missing} have no training images; use fewer groups")


def leaf_directory(leaf: int) -> str:
    """The directory of one leaf's images."""
    return f"leaf={leaf:03d}"


def leaf_files(names: Sequence[str], leaves: Sequence[int]) -> list[str]:
    """The files, among those of the shard stage, of some leaves."""
    wanted = {leaf_directory(leaf) for leaf in leaves}
    return [name for name in names if name.partition("/")[0] in wanted]


def _write_shards(item: Mapping[str, Any]) -> None:
    leaf_of: Mapping[str, int] = ray.get(item["leaf_of"][0])
    rows = read_table(item["table"], item["name"])
    leaves = np.array([leaf_of[key] for key in rows["id"].to_pylist()])
    part = item["name"].rpartition("/")[2]
    for leaf in np.unique(leaves):
        chosen = rows.take(np.flatnonzero(leaves == leaf)).cast(SCHEMA)
        write_table(item["directory"], f"{leaf_directory(int(leaf))}/{part}", chosen)


# --- score ---------------------------------------------------------------------------------------

INPUTS = "degraded"
"""Stands for the degraded inputs themselves, in place of an expert."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One network's scores on one split, to be made and stored.

    Attributes:
        expert: The expert's directory; None scores the degraded inputs.
        split: Of the patch table.
        directory: Where `scores.parquet` goes.
        spec: What the column is made from.
    """

    expert: Storage | None
    split: str
    directory: Storage
    spec: Mapping[str, Any]


def score(
    columns: Sequence[Column], table: Storage, config: ClusterConfig, on_done: OnDone
) -> None:
    """Score networks on splits, several at a time; each column is committed by itself."""
    items = [{"column": column, "table": table} for column in columns]
    _for_each(_Scorer, items, on_done, config=config, arguments=(config.use_gpu,))


class _Scorer:
    """An actor that holds the decoded patches of the splits it has met."""

    def __init__(self, use_gpu: bool) -> None:  # noqa: FBT001
        self._device = "cuda" if use_gpu else "cpu"
        self._splits: dict[str, PairedPatches] = {}

    def __call__(self, item: Mapping[str, Any]) -> None:
        column: Column = item["column"]
        if column.directory.is_done():
            return
        patches = self._patches(item["table"], column.split)
        if column.expert is None:
            scores = score_inputs(patches)
        else:
            expert = load_expert(column.expert).to(self._device).eval()
            scores = score_expert(expert, patches, batch_size=SCORE_BATCH)
        arrays = {"id": pa.array(patches.ids)} | {
            field.name: pa.array(np.asarray(scores[field.name], dtype=np.float64))
            for field in dataclasses.fields(Scores)
        }
        write_table(column.directory, "scores.parquet", pa.table(arrays))
        column.directory.commit(dict(column.spec))

    def _patches(self, table: Storage, split: str) -> PairedPatches:
        if split not in self._splits:
            names = [n for n in table.list_files(".parquet") if n.startswith(f"{split}/")]
            self._splits[split] = read_patches(table, names)
        return self._splits[split]


def read_scores(directory: Storage) -> Scores:
    """A column of scores, in the order of the patches' ids."""
    table = read_table(directory, "scores.parquet")
    return Scores(
        **{f.name: table[f.name].to_numpy().astype(np.float64) for f in dataclasses.fields(Scores)}
    )


def read_leaves(directory: Storage) -> tuple[list[str], Int64[np.ndarray, " patches"]]:
    """The ids of the training patches and the leaf of each, sorted by id."""
    table = read_table(directory, "leaves.parquet")
    return table["id"].to_pylist(), table["leaf"].to_numpy().astype(np.int64)


# --- running -------------------------------------------------------------------------------------


def _for_each(
    work: Any,  # noqa: ANN401 - a function or the class of a callable
    items: Sequence[Mapping[str, Any]],
    on_done: OnDone,
    *,
    config: ClusterConfig | None = None,
    arguments: tuple[Any, ...] = (),
) -> None:
    """Run one unit of work for each item, in tasks, or in a pool of actors if `work` is a class."""
    size = min(num_data_workers(), len(items))
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_items(
        [{"item": item} for item in items], override_num_blocks=min(len(items), 1000)
    )
    # Ray's types know neither callable classes nor `fn_kwargs`.
    run: Any = _Unit if isinstance(work, type) else _run_unit
    if isinstance(work, type):
        num_gpus = 1 if config is not None and config.use_gpu else 0
        done = dataset.map(
            run,
            fn_constructor_args=(work, arguments),
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=1,
            num_gpus=num_gpus,
        )
    else:
        done = dataset.map(
            run,
            fn_kwargs={"work": work},
            compute=ray.data.TaskPoolStrategy(size=size),
            num_cpus=1,
        )
    for count, _ in enumerate(done.iter_rows(), start=1):
        on_done(count, len(items))


def _run_unit(row: dict[str, Any], *, work: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    torch.set_num_threads(1)
    work(row["item"])
    return {"done": True}


class _Unit:
    """An actor of the pool: builds the worker once, then runs items through it."""

    def __init__(self, worker: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        torch.set_num_threads(1)
        self._worker = worker(*arguments)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        self._worker(row["item"])
        return {"done": True}
