"""Benchmark of the cost of routing: route and restore one photograph against the expert alone."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from expertree.benchmarks.fresh import fresh_bundle
from expertree.experts.backbones import Backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.images.io import to_float, to_u8
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.storage import Storage

PAPER_RATIO = 1.32
"""UniRestorer's 0.484 s over Restormer's 0.368 s at 512 x 512 (paper 000, table 6)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OverheadConfig:
    """The bundle, the photograph and the number of runs to time."""

    bundle: str | None = None
    """A bundle; by default one with fresh weights, which take the same time as trained ones."""

    backbone: Backbone = NAFNetConfig()
    """The experts' network, where `bundle` is not given."""

    size_px: int = 512
    """Sides of the photograph."""

    num_pairs: int = 15
    """Number of timed pairs: the expert alone, then with routing."""

    num_threads: int = 1
    """Threads of torch."""


def measure_overhead(config: OverheadConfig) -> dict[str, Any]:
    """Time the expert alone and with routing in turns, and return the medians.

    The ratio is the median over pairs, so that a slow moment of the machine hits both.
    """
    torch.set_num_threads(config.num_threads)
    with tempfile.TemporaryDirectory() as folder:
        where = config.bundle or fresh_bundle(Storage.open(folder), config.backbone).uri
        restorer = Restorer.load(where)
        rng = np.random.default_rng(0)
        photograph = rng.integers(0, 256, (config.size_px, config.size_px, 3), dtype=np.uint8)
        node = restorer.tree.expert_of(restorer.route(photograph, Wish(insist=True)).node)
        expert = restorer.bundle.load_expert(node)

        def alone() -> None:
            with torch.inference_mode():
                to_u8(expert(to_float(photograph)[None])[0])

        def routed() -> None:
            restorer.restore(photograph, Wish(insist=True))

        for warm in (alone, routed):
            warm()
        pairs = [(_seconds(alone), _seconds(routed)) for _ in range(config.num_pairs)]
    return {
        "benchmark": "overhead",
        "ratio": round(statistics.median(b / a for a, b in pairs), 4),
        "expert_s": round(statistics.median(a for a, _ in pairs), 4),
        "routed_s": round(statistics.median(b for _, b in pairs), 4),
        "paper_ratio": PAPER_RATIO,
        "size_px": config.size_px,
        "num_pairs": config.num_pairs,
        "num_threads": config.num_threads,
        "expert_parameters": restorer.bundle.entry(node).num_parameters,
    }


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
