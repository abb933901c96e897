"""A tree from embeddings in files: in a stream the same as from all of them in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from expertree.hierarchy import HierarchyConfig, build_tree, save_tree
from expertree.pipeline.runner import Columns, LocalRunner
from expertree.pipeline.tables import read_embeddings, write_table
from expertree.pipeline.tree import (
    EmbeddingFiles,
    assign_here,
    assign_in_stream,
    cut_embeddings,
    draw_in_stream,
    read_rows,
)
from expertree.storage import Storage

SIZES = (70, 1, 130, 99)


@pytest.fixture
def files(tmp_path: Path) -> Storage:
    """Four files whose rows are not in the order of their ids."""
    rng = np.random.default_rng(0)
    points = np.repeat(8 * rng.normal(size=(5, 12)), 60, axis=0) + rng.normal(size=(300, 12))
    ids = np.array([f"train/{row:04d}" for row in rng.permutation(300)])
    directory, start = Storage.open(tmp_path / "embed"), 0
    for number, size in enumerate(SIZES):
        rows = points[start : start + size].astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 12)
        table = pa.table({"id": ids[start : start + size], "embedding": column})
        write_table(directory, f"part-{number:05d}.parquet", table)
        start += size
    return directory


class Backwards(LocalRunner):
    """Runs the last unit first, and remembers that it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked = False

    def stream(self, work: Callable[[int], Columns], num_units: int) -> Iterator[Columns]:
        self.was_asked = True
        return (work(number) for number in reversed(range(num_units)))


@pytest.fixture
def runner() -> Backwards:
    return Backwards()


def bytes_of(directory: Storage) -> dict[str, bytes]:
    return {name: directory.read_bytes(name) for name in directory.list_files()}


@pytest.mark.parametrize("method", ["kmeans", "bisecting"])
@pytest.mark.parametrize("fit_samples", [150, 299, 100_000])
def test_stream_and_memory_give_the_same_tree_and_leaves(
    files: Storage, tmp_path: Path, runner: Backwards, method: str, fit_samples: int
) -> None:
    config = HierarchyConfig(groups=(1, 2, 5), method=method, fit_samples=fit_samples)
    expected_ids, vectors = read_embeddings(files)
    expected, expected_leaves = build_tree(vectors, config, extractor="x")
    tree, found = cut_embeddings(files, config, extractor="x", runner=runner)
    assert found.ids.equals(expected_ids)
    np.testing.assert_array_equal(found.leaves, expected_leaves)
    np.testing.assert_array_equal(assign_here(tree, files), expected_leaves)
    save_tree(expected, Storage.open(tmp_path / "memory"))
    save_tree(tree, Storage.open(tmp_path / "stream"))
    assert bytes_of(Storage.open(tmp_path / "memory")) == bytes_of(
        Storage.open(tmp_path / "stream")
    )
    assert runner.was_asked == (fit_samples < 300)


def test_rows_are_drawn_in_the_order_that_is_asked_for(files: Storage, runner: Backwards) -> None:
    blocks = EmbeddingFiles.of(files)
    assert blocks.sizes == SIZES
    everything = np.concatenate([blocks.read(block) for block in range(len(SIZES))])
    rows = np.array([299, 70, 0, 71, 201, 69])
    np.testing.assert_array_equal(draw_in_stream(runner, blocks, rows), everything[rows])


def test_rows_of_several_sets_are_those_of_all_of_them_in_memory(
    files: Storage, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=60).astype(np.float32)), 12)
    other = Storage.open(tmp_path / "other")
    write_table(other, "part.parquet", pa.table({"id": list("edcba"), "embedding": column}))
    sets = [other, files, other]
    everything = np.concatenate([read_embeddings(found)[1] for found in sets])
    for rows in (np.arange(310), np.array([4, 5, 77, 304, 305]), np.array([6, 200])):
        np.testing.assert_array_equal(read_rows(sets, rows), everything[rows])


def test_leaves_come_in_the_order_of_the_blocks(files: Storage, runner: Backwards) -> None:
    blocks = EmbeddingFiles.of(files)
    everything = np.concatenate([blocks.read(block) for block in range(len(SIZES))])
    tree, leaves = build_tree(everything, HierarchyConfig(groups=(1, 5)), extractor="x")
    np.testing.assert_array_equal(assign_in_stream(runner, tree, blocks), leaves)
