"""Benchmark of the bytes that an expert reads of its shards against those of its images."""

import dataclasses
import tempfile
from typing import Any

import numpy as np

from expertree.degradation.parts import plan_patches
from expertree.degradation.photographs import list_photographs
from expertree.degradation.registry import DEFAULT_TASKS
from expertree.degradation.table import DegradationConfig
from expertree.experts import read_patches
from expertree.hierarchy import HierarchyConfig
from expertree.orchestration.cluster import connect
from expertree.orchestration.runner import RayRunner
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.make_patches import degrade, shard
from expertree.pipeline.tables import LeafTable, leaf_files, read_table
from expertree.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig:
    """The table that is sharded."""

    source: str = "bundled"
    """Photographs: `bundled` or a folder."""

    num_patches: int = 2100
    """Rows of the training table."""

    groups: tuple[int, ...] = HierarchyConfig().groups
    """Groups by level; the last is the number of leaves, of which the last is for mixed patches."""


def measure_shards(config: ShardConfig) -> dict[str, Any]:
    """Make a table, shard it through Ray Data, read each leaf, and compare the bytes."""
    num_leaves = config.groups[-1]
    with tempfile.TemporaryDirectory() as folder, connect(ClusterConfig()):
        table, shards = Storage.open(folder).sub("table"), Storage.open(folder).sub("shards")
        _make_table(config, table)
        files = table.list_files(".parquet")
        whole = read_patches(table, files)
        leaves = [
            DEFAULT_TASKS.index(tasks[0]) % num_leaves if len(tasks) == 1 else num_leaves - 1
            for tasks in whole.tasks
        ]
        leaf_of = LeafTable(ids=whole.ids, leaves=np.array(leaves))
        shard(
            RayRunner(ClusterConfig()), table, leaf_of, range(num_leaves), shards, lambda *_: None
        )
        names = shards.list_files(".parquet")
        bytes_of_all = _bytes_of(table, files)
        ratios = []
        for leaf in range(num_leaves):
            own = read_patches(shards, leaf_files(names, [leaf]))
            own.pair(range(len(own)))
            share = len(own) / len(whole)
            image_bytes = _image_bytes(table, files, set(own.ids.to_pylist()))
            ratios.append((own.num_bytes_read / image_bytes, own.num_bytes_read, share))
    worst = max(ratio for ratio, _, _ in ratios)
    return {
        "benchmark": "shard",
        "read_over_share": round(worst, 4),
        "num_leaves": num_leaves,
        "num_patches": len(whole.ids),
        "bytes_of_table": bytes_of_all,
        "bytes_read_by_all_leaves": sum(read for _, read, _ in ratios),
        "filtering_the_table_over_share": round(
            max(bytes_of_all * ratio / read for ratio, read, _ in ratios), 4
        ),
    }


def _make_table(config: ShardConfig, table: Storage) -> None:
    patch_set = DegradationConfig(num_train=config.num_patches).patch_sets()["train"]
    photos, _ = list_photographs(config.source, min_side_px=patch_set.patch_px)
    plan = plan_patches(patch_set, photos, seed=0)
    degrade(RayRunner(ClusterConfig()), [(plan, table)], lambda *_: None)


def _bytes_of(storage: Storage, names: list[str]) -> int:
    infos = storage.filesystem.get_file_info([storage.path(name) for name in names])
    return sum(info.size for info in infos)


def _image_bytes(table: Storage, names: list[str], ids: set[str]) -> int:
    """Return the bytes of the encoded images of some rows, the least that must be read."""
    total = 0
    for name in names:
        rows = read_table(table, name, ["id", "lq", "gt"])
        for row in rows.to_pylist():
            if row["id"] in ids:
                total += len(row["lq"]) + len(row["gt"])
    return total
