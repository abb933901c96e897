"""The stages that train the extractor on a lane and embed patch tables with it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from expertree.config import to_dict
from expertree.embedding import embed_patches, load_extractor
from expertree.experts import read_patches
from expertree.pipeline.extractor_work import ExtractorWork
from expertree.pipeline.runner import OnDone, Runner
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import Workbench, key_of
from expertree.pipeline.tables import write_table
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import NOTHING_WRITTEN, Storage, Written

EMBED_BATCH = 32


def train_extractor_stage(
    bench: Workbench,
    config: BuildConfig,
    table: Storage,
    result: Storage,
    on_done: OnDone,
    *,
    spec: Mapping[str, Any],
) -> None:
    """Train the extractor on a lane, which commits it, with the same retries as an expert."""
    work = ExtractorWork(
        config=config.extractor,
        table=table,
        directory=result,
        spec=spec,
        seed=config.seed,
        device="cuda" if bench.cluster.use_gpu else "cpu",
    )
    task = TrainingTask(key=key_of(result), label="the extractor", cost=1.0, work=work)

    def on_status(status: TrainingStatus) -> None:
        progress = status.tasks[0].progress
        if progress:
            on_done(int(progress["samples"]), int(progress["num_samples"]))

    bench.runner.train([task], directory=bench.lanes, on_status=on_status, at_once=1)


def make_extractor(
    config: BuildConfig,
    bench: Workbench,
    tables: Mapping[str, Storage],
) -> Storage:
    """Return the extractor, trained on its own patch set."""
    spec = {
        "extractor": to_dict(config.extractor),
        "table": key_of(tables["extractor"]),
        "seed": config.seed,
    }

    def make(result: Storage, on_done: OnDone) -> None:
        table = tables["extractor"]
        train_extractor_stage(bench, config, table, result, on_done, spec=spec)

    return bench.run("extractor", spec, make)


def embed(
    runner: Runner,
    tables: Sequence[tuple[Storage, Storage]],
    extractor: Storage,
    on_done: OnDone,
) -> Mapping[Storage, Written]:
    """Embed every degraded image; each table file gets one with `id` and `embedding`.

    Args:
        runner: Runner that does the work.
        tables: Table of each patch set, and the directory for its embeddings.
        extractor: The extractor.
        on_done: Called with files done and files in all.

    Returns:
        The files that this call wrote, by directory.
    """
    items = [
        {"name": name, "table": table, "directory": result}
        for table, result in tables
        for name in table.list_files(".parquet")
    ]
    use_gpu = runner.cluster.use_gpu
    arguments = (extractor, use_gpu)
    return runner.for_each(_Embedder, items, on_done, on_gpu=use_gpu, arguments=arguments)


class _Embedder:
    """A worker that holds the extractor and embeds a file at each call."""

    def __init__(self, extractor: Storage, use_gpu: bool) -> None:  # noqa: FBT001
        torch.set_num_threads(1)
        self._extractor = load_extractor(extractor).to("cuda" if use_gpu else "cpu")

    def __call__(self, item: Mapping[str, Any]) -> Written:
        directory, name = item["directory"], item["name"]
        if directory.exists(name):
            return NOTHING_WRITTEN
        patches = read_patches(item["table"], [name])
        vectors = embed_patches(self._extractor, patches, batch_size=EMBED_BATCH)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        table = pa.table({"id": patches.ids, "embedding": column})
        return {name: write_table(directory, name, table)}
