"""The stage that fits the tree on a sample of the embeddings, and assigns all of them to leaves.

Up to `hierarchy.fit_samples` embeddings all are read at once, and no cluster is needed. Beyond that
they stay in blocks that workers read: one pass brings the sample here, the tree is fitted on it,
and another pass brings the leaf of each. No process holds more than the sample and a batch (METHOD
section 3).
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int64

from expertree.config import to_dict
from expertree.embedding import stored_extractor_hash
from expertree.hierarchy import Growth, HierarchyConfig, Tree, assign, load_tree, save_tree
from expertree.hierarchy.build import count_leaves, draw_rows, fit_tree, with_counts
from expertree.pipeline.make_patches import shard
from expertree.pipeline.runner import OnDone, Runner
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench, key_of
from expertree.pipeline.tables import (
    LeafTable,
    count_rows,
    read_embeddings,
    read_leaves,
    read_table,
    read_tables,
    vectors_of,
    write_leaves,
)
from expertree.routing import Guide
from expertree.storage import NOTHING_WRITTEN, Storage, Written, read_together

Rows = Int64[np.ndarray, " rows"]
Vectors = Float32[np.ndarray, "rows dim"]
Work = Callable[[int], Mapping[str, np.ndarray[Any, Any]]]
Each = Callable[[Work, int], Iterable[Mapping[str, np.ndarray[Any, Any]]]]
"""A function that runs work for each number below a count; the results come in any order."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OldLeaves:
    """What the leaves of a bundle's tree were trained on.

    Attributes:
        guide: The bundle's guide.
        counts: Images of each leaf that it describes.
    """

    guide: Guide
    counts: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Hierarchy:
    """The tree, where it is stored, and the leaf of each training patch.

    Attributes:
        result: Result in the store that holds the tree.
        tree: The tree.
        leaf_of: The leaf of each training patch.
        growth: Growth of an earlier build's tree into this one; None for a new tree.
        before: What the leaves of a bundle's tree were trained on; None for other trees.
    """

    result: Storage
    tree: Tree
    leaf_of: LeafTable
    growth: Growth | None = None
    before: OldLeaves | None = None

    @property
    def leaves(self) -> Rows:
        """The leaf of each training patch, in the order of their ids."""
        return self.leaf_of.leaves


class Blocks(Protocol):
    """Embeddings in blocks that any worker can read; picklable, and small itself."""

    @property
    def sizes(self) -> Sequence[int]:
        """The number of rows of each block."""
        ...

    def read(self, block: int) -> Vectors:
        """Return the embeddings of one block, float32 [rows, dim]."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingFiles:
    """The embeddings of a patch set, a block a file.

    Attributes:
        directory: The result of the stage that embeds.
        names: Names of its files.
        sizes: Number of rows of each file.
    """

    directory: Storage
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, directory: Storage) -> Self:
        """Find the files of a result and their sizes; reads footers only."""
        names = tuple(directory.list_files(".parquet"))
        return cls(
            directory=directory,
            names=names,
            sizes=tuple(read_together(partial(count_rows, directory), names)),
        )

    def read(self, block: int) -> Vectors:
        """Return the embeddings of one file, float32 [rows, dim]."""
        return vectors_of(read_table(self.directory, self.names[block], ["embedding"]))

    def ids(self) -> pa.ChunkedArray:
        """Return the ids of all rows, file after file."""
        return read_tables(self.directory, self.names, ["id"])["id"]


def cut_embeddings(
    directory: Storage, config: HierarchyConfig, *, extractor: str, runner: Runner
) -> tuple[Tree, LeafTable]:
    """Cut the embeddings of a patch set into a tree.

    Args:
        directory: The result of the stage that embeds.
        config: Shape and method; at most `fit_samples` embeddings are in memory at once.
        extractor: Hash of the extractor, kept in the tree.
        runner: Runner that reads them if they are more than `fit_samples`.

    Returns:
        The tree, and the leaf of each patch: the same in memory and in a stream.
    """
    sample = sample_embeddings(directory, config, runner)
    tree = fit_tree(sample, config, extractor=extractor)
    found = assign_embeddings(tree, directory, config, runner)
    return with_counts(tree, count_leaves(tree, found.leaves)), found


def sample_embeddings(directory: Storage, config: HierarchyConfig, runner: Runner) -> Vectors:
    """Return a patch set's embeddings in the order of their ids, or a sample of `fit_samples`."""
    files = EmbeddingFiles.of(directory)
    if sum(files.sizes) <= config.fit_samples:
        return read_embeddings(directory)[1]
    order = _order(files.ids())
    return draw_in_stream(runner, files, order[draw_rows(len(order), config)])


def assign_embeddings(
    tree: Tree, directory: Storage, config: HierarchyConfig, runner: Runner
) -> LeafTable:
    """Return the leaf of each patch of a set; up to `fit_samples` no cluster is needed."""
    files = EmbeddingFiles.of(directory)
    if sum(files.sizes) <= config.fit_samples:
        found, vectors = read_embeddings(directory)
        return LeafTable(ids=found, leaves=assign(tree, vectors))
    leaves = assign_in_stream(runner, tree, files)
    ids = files.ids().combine_chunks()
    order = _order(ids)
    return LeafTable(ids=ids.take(pa.array(order)), leaves=leaves[order])


def assign_here(tree: Tree, directory: Storage) -> Rows:
    """Return the leaf of each patch of a set by id, found in this process a file at a time."""
    files = EmbeddingFiles.of(directory)
    leaves: Rows = _assign_all(tree, files, _here)[_order(files.ids())]
    return leaves


def read_rows(directories: Sequence[Storage], rows: Rows) -> Vectors:
    """Read some embeddings of several patch sets, in this process, a file at a time.

    Args:
        directories: The results of the stage that embeds, at least one.
        rows: Rows to read, ascending, counted through the sets, in each in the order of the ids.
    """
    parts, start = [], 0
    for directory in directories:
        files = EmbeddingFiles.of(directory)
        end = start + sum(files.sizes)
        own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)] - start
        if len(own):
            parts.append(_draw_all(files, _order(files.ids())[own], _here))
        start = end
    return np.concatenate(parts)


def _order(ids: pa.ChunkedArray | pa.StringArray) -> Rows:
    return np.asarray(pc.sort_indices(ids).to_numpy(), dtype=np.int64)


def _here(work: Work, num_units: int) -> Iterator[Mapping[str, np.ndarray[Any, Any]]]:
    """Run work for each number in this process, as `Runner.stream` does on a cluster."""
    return (work(number) for number in range(num_units))


def draw_in_stream(runner: Runner, blocks: Blocks, rows: Rows) -> Vectors:
    """Read some embeddings into this process, through the runner's workers.

    Args:
        runner: Runner whose workers read the blocks.
        blocks: All embeddings.
        rows: Rows to read, counted through all blocks; in any order, none twice.

    Returns:
        float32 [rows, dim], in the order of `rows`.
    """
    return _draw_all(blocks, rows, runner.stream)


def _draw_all(blocks: Blocks, rows: Rows, each: Each) -> Vectors:
    ends = np.cumsum(blocks.sizes)
    starts = ends - np.asarray(blocks.sizes)
    of_block = np.searchsorted(ends, rows, side="right")
    order = np.argsort(of_block, kind="stable")
    places = np.split(order, np.flatnonzero(np.diff(of_block[order])) + 1)
    parts = tuple(
        (int(of_block[own[0]]), own, rows[own] - starts[of_block[own[0]]]) for own in places
    )
    drawn: Vectors | None = None
    for found in each(_Draw(blocks, parts), len(parts)):
        if drawn is None:
            drawn = np.empty((len(rows), found["embedding"].shape[1]), dtype=np.float32)
        drawn[found["place"]] = found["embedding"]
    return np.empty((0, 0), dtype=np.float32) if drawn is None else drawn


def assign_in_stream(runner: Runner, tree: Tree, blocks: Blocks) -> Rows:
    """Return the leaf of every embedding, block after block, found where the blocks are read."""
    return _assign_all(tree, blocks, runner.stream)


def _assign_all(tree: Tree, blocks: Blocks, each: Each) -> Rows:
    leaves = np.empty(sum(blocks.sizes), dtype=np.int64)
    starts = (0, *np.cumsum(blocks.sizes)[:-1].tolist())
    for found in each(_Assign(tree, blocks, starts), len(blocks.sizes)):
        leaves[found["row"]] = found["leaf"]
    return leaves


@dataclasses.dataclass(frozen=True, slots=True)
class _Draw:
    """A unit of work that reads wanted rows; a part is (block, places in the result, its rows)."""

    blocks: Blocks
    parts: tuple[tuple[int, Rows, Rows], ...]

    def __call__(self, number: int) -> Mapping[str, np.ndarray[Any, Any]]:
        block, places, rows = self.parts[number]
        return {"place": places, "embedding": self.blocks.read(block)[rows]}


@dataclasses.dataclass(frozen=True, slots=True)
class _Assign:
    """A unit of work that reads a block and finds the leaf of each row."""

    tree: Tree
    blocks: Blocks
    starts: tuple[int, ...]

    def __call__(self, number: int) -> Mapping[str, np.ndarray[Any, Any]]:
        leaves = assign(self.tree, self.blocks.read(number))
        return {"row": self.starts[number] + np.arange(len(leaves)), "leaf": leaves}


def cut_tree(
    config: BuildConfig, bench: Workbench, extractor: Storage, embeddings: Storage
) -> Hierarchy:
    """Cut embeddings into a tree, or find that tree in the store."""

    def make(result: Storage, _: OnDone) -> None:
        tree, leaf_of = cut_embeddings(
            embeddings,
            config.hierarchy,
            extractor=stored_extractor_hash(extractor),
            runner=bench.runner,
        )
        save_tree(tree, result)
        write_leaves(result, leaf_of)

    spec = {"hierarchy": to_dict(config.hierarchy), "embeddings": key_of(embeddings)}
    result = bench.run("tree", spec, make)
    return Hierarchy(result=result, tree=load_tree(result), leaf_of=read_leaves(result))


def shard_tree(bench: Workbench, table: Storage, hierarchy: Hierarchy) -> Storage:
    """Write the training images by leaf; for a tree that has grown, those of the new leaves.

    Leaves of a bundle's tree may have none.
    """
    growth = hierarchy.growth
    leaves: Sequence[int] = range(hierarchy.tree.num_leaves) if growth is None else growth.leaves
    if hierarchy.before is not None:
        leaves = np.unique(hierarchy.leaves).tolist()

    def make(result: Storage, on_done: OnDone) -> Written:
        if not leaves:
            return NOTHING_WRITTEN
        return shard(bench.runner, table, hierarchy.leaf_of, leaves, result, on_done)

    spec = {"table": key_of(table), "tree": key_of(hierarchy.result)}
    return bench.run("shard", spec, make)
