"""The stage that picks a classical restoration method for each degradation."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from expertree.classical import VERSION, Method, methods_of
from expertree.experts import read_patches
from expertree.images.metrics import psnr_rgb
from expertree.pipeline.runner import OnDone
from expertree.pipeline.stages import Workbench, key_of
from expertree.storage import Storage

NUM_JUDGED = 48
"""Most patches of a degradation that its methods are compared on."""


def choose_classical(bench: Workbench, tasks: Sequence[str], table: Storage) -> dict[str, str]:
    """Return the name of each degradation's best classical method on the routers' patches.

    It is chosen once, by mean PSNR over patches that have this degradation alone, from photographs
    that nothing is measured on. A degradation that never occurs alone there gets its first method.

    Args:
        bench: The workbench.
        tasks: The degradations.
        table: The routers' patches.
    """

    def make(result: Storage, on_done: OnDone) -> None:
        missing = [task for task in tasks if not result.exists(_record(task))]
        items = [{"task": task, "table": table, "result": result} for task in missing]
        if items:
            bench.runner.for_each(_judge, items, on_done)

    spec = {
        "methods": VERSION,
        "tasks": list(tasks),
        "table": key_of(table),
        "num_judged": NUM_JUDGED,
    }
    result = bench.run("classical", spec, make)
    return {task: result.read_json(_record(task))["chosen"] for task in tasks}


def best_method(
    methods: Sequence[Method], pairs: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]
) -> tuple[str, dict[str, float]]:
    """Return the name of the method with the best mean PSNR, and the mean PSNR (dB) of each.

    Args:
        methods: At least one. The first of equals is taken, and the first of all without images.
        pairs: Degraded and clean images, uint8 HWC RGB.
    """
    reached = {
        method.name: float(
            np.mean([psnr_rgb(method.restore(degraded), clean) for degraded, clean in pairs])
        )
        for method in methods
        if pairs
    }
    best = max((method.name for method in methods), key=lambda name: reached.get(name, 0.0))
    return best, reached


def _record(task: str) -> str:
    return f"{task}.json"


def _judge(item: Mapping[str, Any]) -> None:
    """Compare the methods of one degradation; a unit of work."""
    cv2.setNumThreads(1)
    task, table, result = item["task"], item["table"], item["result"]
    patches = read_patches(table, table.list_files(".parquet"))
    alone = [index for index, tasks in enumerate(patches.tasks) if tasks == (task,)]
    some = alone[:: max(1, len(alone) // NUM_JUDGED)][:NUM_JUDGED]
    pairs = list(zip(patches.images("lq", some), patches.images("gt", some), strict=True))
    chosen, reached = best_method(methods_of(task), pairs)
    result.write_json(
        _record(task), {"chosen": chosen, "psnr_db": reached, "num_patches": len(pairs)}
    )
