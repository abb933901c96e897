"""Restoration of photographs on a Ray cluster: Ray Data hands files to actors with the model.

Pixels never travel: an actor reads a file and writes another, in folders that every node sees, and
only a record of it comes back.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
import torch

from expertree.batch.listing import PhotoItem
from expertree.batch.manifest import PhotoRecord
from expertree.batch.restoring import BatchTask, OnItemTile, open_restorer, restore_files
from expertree.config import canonical_json
from expertree.errors import ConfigError, ExpertreeError, ResourceError
from expertree.orchestration.cluster import connect, num_data_workers, resources
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.restorer import Restorer

OWN_CLUSTER = "local"
"""Value in place of an address, for a cluster on this machine that ends with the batch."""

_MAX_FILES_PER_BLOCK = 32
"""Most files that an actor takes at once; they are done again if the driver is killed meanwhile."""

_BLOCKS_PER_WORKER = 4


def on_cluster(task: BatchTask, on_tile: OnItemTile) -> Iterator[PhotoRecord]:  # noqa: ARG001 - as all work
    """Restore the files of a task on the cluster that its configuration names.

    Yields:
        The record of each file, in the order in which the files are done.

    Raises:
        ConfigError: If a certain GPU is asked for.
        ResourceError: If the cluster cannot be reached, or has no GPU though one is asked for, or
            a worker cannot open the bundle.
    """
    address = None if task.config.cluster == OWN_CLUSTER else task.config.cluster
    with connect(ClusterConfig(address=address)):
        num_gpus = num_gpus_for(task.config.device, int(resources().get("GPU", 0.0)))
        num_workers = min(num_gpus or num_data_workers(), len(task.items))
        ray.data.DataContext.get_current().enable_progress_bars = False
        worker: Any = _Worker  # Ray's types do not know callable classes
        done = ray.data.from_arrow(_blocks(task.items, num_workers)).map_batches(
            worker,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=(dataclasses.replace(task, items=()),),
            compute=ray.data.ActorPoolStrategy(size=num_workers),
            num_cpus=1,
            num_gpus=1 if num_gpus else 0,
        )
        for row in done.iter_rows():
            if row["problem"]:
                raise ResourceError(f"a worker of the cluster cannot begin: {row['problem']}")
            entry = json.loads(row["record"])
            yield PhotoRecord(**{**entry, "notes": tuple(entry["notes"])})


def num_gpus_for(device: str | None, num_gpus: int) -> int:
    """Return how many GPUs of a cluster restore, one for each worker; 0 for workers on CPUs.

    Args:
        device: The device that was asked for; None for GPUs if there are any.
        num_gpus: Number of GPUs of the cluster.

    Raises:
        ConfigError: If a certain GPU is asked for: the cluster hands them out.
        ResourceError: If GPUs are asked for and there are none.
    """
    if device is None:
        return num_gpus
    if device not in {"cpu", "cuda"}:
        raise ConfigError(f"--device {device} does not go with --cluster; give cuda or cpu")
    if device == "cuda" and not num_gpus:
        raise ResourceError(f"--device {device}: the cluster has no GPU; leave --device out")
    return num_gpus if device == "cuda" else 0


def _blocks(items: tuple[PhotoItem, ...], num_workers: int) -> list[pa.Table]:
    """Split the files into blocks that workers take one after the other."""
    fair = math.ceil(len(items) / (num_workers * _BLOCKS_PER_WORKER))
    size = min(max(fair, 1), _MAX_FILES_PER_BLOCK)
    rows = [{"item": canonical_json(item)} for item in items]  # names of files may be no text
    return [pa.Table.from_pylist(rows[at : at + size]) for at in range(0, len(rows), size)]


class _Worker:
    """An actor of the pool: opens the bundle once and checks all of it, then restores files."""

    def __init__(self, task: BatchTask) -> None:
        """Open the bundle; `task` is the batch without its files."""
        self._task = task
        self._restorer: Restorer | None = None
        self._problem = ""
        try:
            self._restorer = open_restorer(task.config)
        except ExpertreeError as error:  # raised here, Ray would start the actor again
            self._problem = str(error)
        else:
            if self._restorer.device.type == "cpu":
                torch.set_num_threads(1)

    def __call__(self, files: pa.Table) -> pa.Table:
        if self._restorer is None:
            return pa.table({"record": [""], "problem": [self._problem]})
        items = (PhotoItem(**json.loads(text)) for text in files.column("item").to_pylist())
        done = restore_files(self._restorer, dataclasses.replace(self._task, items=tuple(items)))
        records = [canonical_json(record) for record in done]
        return pa.table({"record": records, "problem": [""] * len(records)})
