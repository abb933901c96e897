"""Photographs restored on a Ray cluster: Ray Data hands files to actors that hold the model.

Pixels never travel: an actor reads a file and writes another, in folders that every node sees, and
only what became of it comes back.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import torch

from expertree.batch.command import Task
from expertree.batch.listing import Item
from expertree.batch.manifest import Record
from expertree.batch.restoring import OnItemTile, restore_files
from expertree.batch.settings import BatchConfig
from expertree.config import canonical_json
from expertree.orchestration.cluster import ClusterConfig, connect, num_data_workers, resources
from expertree.restorer import Restorer

OWN_CLUSTER = "local"
"""In place of an address: a cluster on this machine that ends with the batch."""

_MAX_FILES_PER_BLOCK = 32
"""Files that an actor takes at once, and what is done again if the driver is killed meanwhile."""

_BLOCKS_PER_WORKER = 4


def on_cluster(task: Task, on_tile: OnItemTile) -> Iterator[Record]:  # noqa: ARG001 - as all work
    """Restore the files of a task on the cluster that its configuration names.

    Yields:
        What became of each file, in the order in which that is known.

    Raises:
        ResourceError: If the cluster cannot be reached.
    """
    address = None if task.config.cluster == OWN_CLUSTER else task.config.cluster
    with connect(ClusterConfig(address=address)):
        num_gpus = int(resources().get("GPU", 0.0))
        num_workers = min(num_gpus or num_data_workers(), len(task.items))
        ray.data.DataContext.get_current().enable_progress_bars = False
        worker: Any = _Worker  # Ray's types do not know callable classes
        done = ray.data.from_arrow(_blocks(task.items, num_workers)).map_batches(
            worker,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=(task.config, str(task.source), str(task.target)),
            compute=ray.data.ActorPoolStrategy(size=num_workers),
            num_cpus=1,
            num_gpus=1 if num_gpus else 0,
        )
        for row in done.iter_rows():
            entry = json.loads(row["record"])
            yield Record(**{**entry, "notes": tuple(entry["notes"])})


def _blocks(items: tuple[Item, ...], num_workers: int) -> list[pa.Table]:
    """The files in portions that workers take one after the other."""
    fair = math.ceil(len(items) / (num_workers * _BLOCKS_PER_WORKER))
    size = min(max(fair, 1), _MAX_FILES_PER_BLOCK)
    rows = [dataclasses.asdict(item) for item in items]
    return [pa.Table.from_pylist(rows[at : at + size]) for at in range(0, len(rows), size)]


class _Worker:
    """An actor of the pool: opens the bundle once, then restores files."""

    def __init__(self, config: BatchConfig, source: str, target: str) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(1)
        self._restorer = Restorer.load(config.bundle, device)
        self._options = config.options
        self._source, self._target = Path(source), Path(target)

    def __call__(self, files: pa.Table) -> pa.Table:
        items = [Item(**row) for row in files.to_pylist()]
        done = restore_files(self._restorer, items, self._source, self._target, self._options)
        return pa.table({"record": [canonical_json(record) for record in done]})
