"""What stages leave is read back as arrays: the same values as one by one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from expertree.degradation.captions import caption_of_kinds
from expertree.pipeline.tables import (
    LeafTable,
    read_labels,
    read_leaves,
    read_names,
    read_pictures,
    read_table,
    write_leaves,
    write_table,
)
from expertree.storage import Storage

ROWS = [
    ("b", [], "a clean photograph"),
    ("c", ["noise"], "medium noise"),
    ("é", ["low_light", "rain"], "dark night, large rain"),
    ("a", ["noise"], "medium noise"),
    ("d", ["noise"], "small noise"),
]


@pytest.fixture
def table(tmp_path: Path) -> Storage:
    """Two files whose rows are not in the order of their ids."""
    directory = Storage.open(tmp_path / "table")
    for number, rows in enumerate((ROWS[:2], ROWS[2:])):
        ids, tasks, captions = zip(*rows, strict=True)
        tasks = pa.array(tasks, pa.list_(pa.string()))
        columns = {"id": list(ids), "tasks": tasks, "caption": list(captions)}
        write_table(directory, f"part-{number}.parquet", pa.table(columns))
    return directory


def test_labels_are_in_the_order_of_the_ids(table: Storage) -> None:
    ordered = sorted(ROWS)
    labels, names = read_labels(table), read_names(table)
    assert list(labels) == [tuple(tasks) for _, tasks, _ in ordered]
    assert list(names) == [(*tasks, *caption.split(", ")) for _, tasks, caption in ordered]
    assert len(labels.values) == 3
    assert len(names.values) == 4


def test_a_pair_has_no_degree_beside_its_degradation(tmp_path: Path) -> None:
    tasks = [["low_light"], ["rain", "haze"], ["raindrop"]]
    columns = {
        "id": ["a", "b", "c"],
        "tasks": pa.array(tasks, pa.list_(pa.string())),
        "caption": [caption_of_kinds(own) for own in tasks],
    }
    directory = Storage.open(tmp_path)
    write_table(directory, "part-0.parquet", pa.table(columns))
    assert list(read_names(directory)) == [("low_light",), ("rain", "haze"), ("raindrop",)]


@pytest.fixture
def leaf_of() -> LeafTable:
    """Of a thousand patches."""
    ids = sorted(f"train/{n // 100:04d}-é/{n % 100:05d}" for n in range(1000))
    leaves = np.random.default_rng(0).integers(0, 5, 1000)
    return LeafTable(ids=pa.array(ids), leaves=leaves)


def test_leaves_go_through_storage(leaf_of: LeafTable, tmp_path: Path) -> None:
    write_leaves(Storage.open(tmp_path), leaf_of)
    found = read_leaves(Storage.open(tmp_path))
    assert found.ids.equals(leaf_of.ids)
    np.testing.assert_array_equal(found.leaves, leaf_of.leaves)
    assert read_table(Storage.open(tmp_path), "leaves.parquet")["leaf"].type == pa.int64()


@pytest.mark.parametrize("rows", [[7], [3, 2, 999, 0], list(range(400, 500))])
def test_the_leaf_of_a_patch_is_found_by_its_id(leaf_of: LeafTable, rows: list[int]) -> None:
    ids = [*leaf_of.ids.take(rows).to_pylist(), "before all", "train/0004-é/x", "~"]
    expected = [*leaf_of.leaves[rows], -1, -1, -1]
    assert leaf_of.find(pa.array(ids)).tolist() == expected


def test_pictures_are_told_apart_by_what_ids_say_between_set_and_row(tmp_path: Path) -> None:
    ids = {
        "val_in": ["val_in/0000-a/00000", "val_in/0000-a/00001", "val_in/rain100l/00003-b/00000"],
        "val_out": ["val_out/0000-a/00000", "val_out/0002-c/00000"],
    }
    found = []
    for name, own in ids.items():
        directory = Storage.open(tmp_path / name)
        write_table(directory, "part-0.parquet", pa.table({"id": own}))
        found.append(read_pictures(directory))
    assert found == [{"0000-a", "rain100l/00003-b"}, {"0000-a", "0002-c"}]
