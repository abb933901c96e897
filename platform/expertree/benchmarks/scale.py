"""Benchmark of the memory of driver and lane at many patches, which are of one pixel each."""

import dataclasses
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from expertree.degradation.parts import SCHEMA, plan_patches
from expertree.degradation.photographs import list_photographs
from expertree.degradation.recipe import Recipe
from expertree.degradation.registry import DEFAULT_TASKS
from expertree.degradation.table import DegradationConfig
from expertree.experts import read_patches
from expertree.hierarchy import HierarchyConfig
from expertree.images.io import encode_png
from expertree.pipeline.make_patches import ROWS_PER_FILE, table_files
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.tables import read_labels, write_leaves, write_table
from expertree.pipeline.tree import cut_embeddings
from expertree.storage import Storage, Written

T = TypeVar("T")

LIMIT_BYTES = 2 * 2**30
"""The most that a driver, and a lane at its start, may take."""

_NUM_DRAWN = 16
_NUM_NODES = 37
_DIM = 16


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScaleConfig:
    """The tables that driver and lane are measured at."""

    num_rows: tuple[int, ...] = (100_000, 1_000_000)
    """Training patches; each number is measured with a driver and a lane of its own."""

    fit_samples: int = 50_000
    """Embeddings that the tree is fitted on; see `hierarchy.fit_samples`."""

    folder: str | None = None
    """Folder for the tables, which are deleted at the end; null for one of the machine's."""


def measure_scale(config: ScaleConfig) -> dict[str, Any]:
    """Make tables of each size, and measure a process that plans them and one that trains on them.

    Returns:
        For each size the seconds and the most bytes of memory of the driver's steps (plan, commit,
        cut, labels and hashes) and of a lane's start (open the patches, draw a batch); and whether
        all stay below `LIMIT_BYTES`.
    """
    sizes = [_measure(config, num_rows) for num_rows in config.num_rows]
    most = {who: max(size[f"{who}_bytes"] for size in sizes) for who in ("driver", "lane")}
    return {
        "benchmark": "scale",
        "fits": max(most.values()) < LIMIT_BYTES,
        "limit_bytes": LIMIT_BYTES,
        **{f"most_{who}_bytes": num_bytes for who, num_bytes in most.items()},
        "sizes": sizes,
    }


def _measure(config: ScaleConfig, num_rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=config.folder, prefix="expertree-scale-") as folder:
        store = Storage.open(folder)
        begin_s = time.perf_counter()
        written = make_table(store, num_rows)
        made_s = time.perf_counter() - begin_s
        driver, driver_bytes = _in_a_process(
            partial(drive, store, num_rows, written, config.fit_samples)
        )
        lane, lane_bytes = _in_a_process(partial(start_lane, store))
    return {
        "num_rows": num_rows,
        "driver_bytes": driver_bytes,
        "lane_bytes": lane_bytes,
        "table_s": round(made_s, 2),
        **{f"{name}_s": round(seconds, 2) for name, seconds in {**driver, **lane}.items()},
    }


def make_table(store: Storage, num_rows: int) -> Written:
    """Write a training table of patches of one pixel and their embeddings, as workers would.

    Returns:
        The files of the table that were written.
    """
    rng = np.random.default_rng(0)
    image = encode_png(np.zeros((1, 1, 3), dtype=np.uint8))
    recipe = Recipe(tasks=("noise",), parameters={"noise": {"sigma": 20.0}}, seed=0).to_json()
    written = {}
    for start in range(0, num_rows, ROWS_PER_FILE):
        count = min(ROWS_PER_FILE, num_rows - start)
        tasks = [DEFAULT_TASKS[n % len(DEFAULT_TASKS)] for n in range(start, start + count)]
        about = {"photo": "grey", "split": "train", "kind": "single", "seed": 0}
        about |= {"recipe": recipe, "lq": image, "gt": image}
        rows = [
            about | {"id": f"{start + n:09d}", "tasks": [task], "caption": f"light {task}"}
            for n, task in enumerate(tasks)
        ]
        name = f"part-{start // ROWS_PER_FILE:05d}.parquet"
        written[name] = write_table(store.sub("table"), name, _as_schema(rows))
        vectors = pa.array(rng.normal(size=count * _DIM).astype(np.float32))
        column = pa.FixedSizeListArray.from_arrays(vectors, _DIM)
        ids = pa.array([row["id"] for row in rows])
        write_table(store.sub("embed"), name, pa.table({"id": ids, "embedding": column}))
    return written


def drive(store: Storage, num_rows: int, written: Written, fit_samples: int) -> dict[str, float]:
    """Do what a driver does with a table, and return the seconds of each step."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "plan"):
        patch_set = DegradationConfig(num_train=num_rows).patch_sets()["train"]
        photos, _ = list_photographs("bundled", min_side_px=patch_set.patch_px)
        table_files(plan_patches(patch_set, photos, seed=0))
    with _timed(seconds, "commit"):
        store.sub("table").commit({}, written=written)
    with _timed(seconds, "cut"):
        config = HierarchyConfig(groups=(1, 8), fit_samples=fit_samples)
        _, leaf_of = cut_embeddings(
            store.sub("embed"), config, extractor="none", runner=LocalRunner()
        )
        write_leaves(store.sub("tree"), leaf_of)
    with _timed(seconds, "labels"):
        read_labels(store.sub("table"))
    with _timed(seconds, "hashes"):
        for node in range(_NUM_NODES):
            leaf_of.hash_of([node % 8], head="table")
    return seconds


def start_lane(store: Storage) -> dict[str, float]:
    """Do what a lane does before its first step, and return the seconds of it."""
    seconds: dict[str, float] = {}
    table = store.sub("table")
    with _timed(seconds, "open"):
        patches = read_patches(table, table.list_files(".parquet"))
    with _timed(seconds, "batch"):
        rng = np.random.default_rng(0)
        patches.images("lq", rng.integers(len(patches), size=_NUM_DRAWN).tolist())
    return seconds


def _as_schema(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def _in_a_process(call: Callable[[], T]) -> tuple[T, int]:
    """Return what a call returns in a process of its own, and the most memory that it took."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh) as pool:
        found = pool.submit(call).result()
        return found, pool.submit(_most_bytes).result()


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin_s = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begin_s
