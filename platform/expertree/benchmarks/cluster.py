"""Benchmark of clustering at scale: synthetic embeddings, cut into a tree as a build does."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from expertree.benchmarks.processes import family, num_bytes
from expertree.hierarchy import HierarchyConfig
from expertree.hierarchy.build import draw_rows, fit_tree
from expertree.orchestration.cluster import connect
from expertree.orchestration.runner import RayRunner
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.tree import assign_in_stream, draw_in_stream
from expertree.repeating import repeating

GIB = 2**30
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClusteringConfig:
    """The synthetic embeddings, and the tree that they are cut into."""

    num_embeddings: tuple[int, ...] = (1_000_000, 3_000_000, 10_000_000)
    """Numbers of embeddings, ascending, a run for each; `growth` compares the last and first."""

    embed_dim: int = 512
    """Length of an embedding, the paper's."""

    num_components: int = 64
    """Number of round Gaussians that the embeddings are drawn from, more than there are leaves."""

    spread: float = 0.5
    """Standard deviation of the Gaussians' centres in each dimension; that of each is 1."""

    block_rows: int = 16_384
    """Embeddings that a worker makes and assigns at a time: 32 MiB at 512 dimensions."""

    hierarchy: HierarchyConfig = HierarchyConfig(groups=(1, 7, 19))
    """Shape and method of the tree, and size of the sample; the shape is the paper's large one."""

    seed: int = 0
    """Seed of the embeddings."""

    num_cores: int | None = None
    """Cores that work; by default all."""

    def __post_init__(self) -> None:
        """Raise ValueError unless all sizes and numbers of embeddings are at least 1."""
        for name in ("embed_dim", "num_components", "block_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.num_embeddings or min(self.num_embeddings) < 1:
            raise ValueError(f"num_embeddings must be positive, got {list(self.num_embeddings)}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MadeEmbeddings:
    """Embeddings from a mixture of Gaussians; a block is made when read, from seed and number.

    Attributes:
        num_rows: Number of embeddings in all.
        config: Settings of the mixture.
    """

    num_rows: int
    config: ClusteringConfig

    @property
    def sizes(self) -> Sequence[int]:
        """Rows of each block."""
        whole, rest = divmod(self.num_rows, self.config.block_rows)
        return [self.config.block_rows] * whole + [rest] * bool(rest)

    def read(self, block: int) -> Float32[np.ndarray, "rows dim"]:
        """Make the embeddings of one block, float32 [rows, dim]."""
        config, rows = self.config, self.sizes[block]
        shape = config.num_components, config.embed_dim
        centres = np.random.default_rng(config.seed).standard_normal(shape, dtype=np.float32)
        rng = np.random.default_rng([config.seed, block])
        made = rng.standard_normal((rows, config.embed_dim), dtype=np.float32)
        made += (config.spread * centres)[rng.integers(config.num_components, size=rows)]
        return made


def measure_clustering(config: ClusteringConfig) -> dict[str, Any]:
    """Cut each number of embeddings into a tree, by the functions of the tree's stage.

    `seconds` are those of the two passes, each of which makes all embeddings anew where a build
    reads them; `fit_seconds` are those of fitting the sample between them. `peak_gib` is the
    largest resident memory that any process had, Ray's own included.
    """
    with _watched() as peaks, connect(ClusterConfig(num_cores=config.num_cores)):
        # Workers start and import before anything is timed.
        _run(config, max(config.block_rows, config.hierarchy.fewest_samples))
        runs = [_run(config, num_rows) for num_rows in config.num_embeddings]
    per_million = [run["seconds"] / run["num_embeddings"] * 1e6 for run in runs]
    driver = peaks[_DRIVER]
    others = {name: peak for name, peak in peaks.items() if name != _DRIVER}
    largest = max(others, key=lambda name: others[name])
    return {
        "benchmark": "cluster",
        "peak_gib": round(max(peaks.values()) / GIB, 3),
        "driver_gib": round(driver / GIB, 3),
        "largest_other_gib": round(others[largest] / GIB, 3),
        "largest_other": largest,
        "growth": round(per_million[-1] / per_million[0], 3),
        "seconds_per_million": [round(seconds, 2) for seconds in per_million],
        "runs": [
            {name: round(v, 2) if isinstance(v, float) else v for name, v in run.items()}
            for run in runs
        ],
        "groups": list(config.hierarchy.groups),
        "embed_dim": config.embed_dim,
        "fit_samples": config.hierarchy.fit_samples,
        "block_rows": config.block_rows,
    }


def _run(config: ClusteringConfig, num_rows: int) -> dict[str, Any]:
    blocks = MadeEmbeddings(num_rows=num_rows, config=config)
    runner = RayRunner(ClusterConfig(num_cores=config.num_cores))
    begin = time.perf_counter()
    sample = draw_in_stream(runner, blocks, draw_rows(num_rows, config.hierarchy))
    drawn = time.perf_counter()
    tree = fit_tree(sample, config.hierarchy, extractor="made")
    fitted = time.perf_counter()
    leaves = assign_in_stream(runner, tree, blocks)
    end = time.perf_counter()
    return {
        "num_embeddings": num_rows,
        "seconds": (drawn - begin) + (end - fitted),
        "fit_seconds": fitted - drawn,
        "smallest_leaf": int(np.bincount(leaves, minlength=tree.num_leaves).min()),
    }


_DRIVER = "driver"


@contextlib.contextmanager
def _watched() -> Iterator[Mapping[str, int]]:
    """Yield the most resident bytes of this process and all below it, kept up to date in the block.

    The kernel keeps the peak of each process, so looking now and then misses only what a process
    that ended took in its last moments.
    """
    peaks: dict[str, int] = {}

    def look() -> None:
        for name, peak in resident_peaks(os.getpid()):
            peaks[name] = max(peaks.get(name, 0), peak)

    look()
    with repeating(look, _SECONDS_BETWEEN_LOOKS):
        yield peaks


def resident_peaks(root: int) -> list[tuple[str, int]]:
    """Return name and most resident bytes so far of a process, called `driver`, and all below."""
    return [
        (_DRIVER if pid == root else f"{status['Name']} {pid}", num_bytes(status["VmHWM"]))
        for pid, status in family(root).items()
        if "VmHWM" in status
    ]
