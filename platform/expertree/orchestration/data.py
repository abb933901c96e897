"""Ray Data pipelines whose rows are units of work: a file to write or to read, not an image.

`for_each` runs units that write files, `stream` units that return numbers. Image bytes never travel
through the object store, every output file has one writer and a name that depends on the plan
alone, and a stage that was killed resumes after the files that it has written.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ray

from expertree.orchestration.cluster import num_data_workers
from expertree.pipeline.runner import Files, OnDone, size_of
from expertree.storage import Storage, Written


def for_each(
    work: Any,  # noqa: ANN401 - a function or the class of a callable
    items: Sequence[Mapping[str, Any]],
    on_done: OnDone,
    *,
    on_gpu: bool = False,
    arguments: tuple[Any, ...] = (),
) -> Files:
    """Run units of work in tasks; see `Runner`.

    A class is built once in each process that takes a task. Such processes stay when the stage
    ends, with all that they have imported, for the next stage and for lanes; actors of a pool would
    end, and those of the next stage import torch anew, 3 s of a core each. With GPUs they are
    actors all the same, as a process keeps its share of a GPU's memory as long as it lives.
    """
    size = min(num_data_workers(), len(items))
    total, done_size = sum(map(size_of, items)), 0
    dataset = ray.data.from_items(
        [{"item": item} for item in items], override_num_blocks=min(len(items), 1000)
    )
    # Ray's types know neither callable classes nor `fn_kwargs`.
    run: Any = _Unit if on_gpu else _run_unit
    if on_gpu:
        done = dataset.map(
            run,
            fn_constructor_args=(work, arguments),
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=1,
            num_gpus=1,
        )
    else:
        done = dataset.map(
            run,
            fn_kwargs={"work": work, "arguments": arguments},
            compute=ray.data.TaskPoolStrategy(size=size),
            num_cpus=1,
        )
    written: Files = {}
    for row in done.iter_rows():
        uri, files, own_size = json.loads(row["written"])
        if files:
            written.setdefault(Storage(uri), {}).update(files)
        done_size += own_size
        on_done(done_size, total)
    return written


def stream(
    work: Callable[[int], Mapping[str, np.ndarray[Any, Any]]], num_units: int
) -> Iterator[Mapping[str, np.ndarray[Any, Any]]]:
    """Run `work` with each number below `num_units` in tasks, and yield the columns it returns.

    The columns come in any order, those of several units together, while other units still run. The
    object store holds what has not been taken yet.

    Args:
        work: Picklable function; returns columns of equal length, at least one row.
        num_units: Number of units.
    """
    size = min(num_data_workers(), num_units)
    numbers = ray.data.range(num_units, override_num_blocks=min(num_units, 1000))
    run: Any = _run_number
    made = numbers.map_batches(
        run,
        batch_size=1,
        fn_kwargs={"work": work},
        compute=ray.data.TaskPoolStrategy(size=size),
        num_cpus=1,
    )
    yield from made.iter_batches(batch_size=None, batch_format="numpy")


def _run_unit(
    row: dict[str, Any],
    *,
    work: Any,  # noqa: ANN401 - as in `for_each`
    arguments: tuple[Any, ...],
) -> dict[str, Any]:
    run = built(work, *arguments) if isinstance(work, type) else work
    return _told(row["item"], run(row["item"]))


@functools.lru_cache(maxsize=1)
def built(work: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - whatever the class is
    """Return the worker that this process has built of a class, or build it.

    `built.cache_clear()` drops it, with what it holds in memory.
    """
    return work(*arguments)


def _told(item: Mapping[str, Any], written: Written | None) -> dict[str, Any]:
    """Return what a unit wrote, as text: rows of a data set have columns, and files any names."""
    uri = item["directory"].uri if written else ""
    return {"written": json.dumps([uri, written, size_of(item)])}


class _Unit:
    """An actor of the pool: builds the worker once, then runs items through it."""

    def __init__(self, worker: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._worker = worker(*arguments)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return _told(row["item"], self._worker(row["item"]))


def _run_number(
    batch: dict[str, np.ndarray[Any, Any]],
    *,
    work: Callable[[int], Mapping[str, np.ndarray[Any, Any]]],
) -> dict[str, np.ndarray[Any, Any]]:
    return dict(work(int(batch["id"][0])))
