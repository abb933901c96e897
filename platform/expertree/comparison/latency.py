"""The stage that measures how long networks take for one image: in turns, in this process."""

import contextlib
import functools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from expertree.embedding import load_extractor
from expertree.pipeline.runner import OnDone
from expertree.pipeline.score import open_expert
from expertree.pipeline.stages import Workbench, key_of
from expertree.routing import measure
from expertree.storage import Storage
from expertree.threads import threads

MEASURES = "measures"
"""Key of the time of what routers measure in an image."""

ROUNDS = 3
"""Times that each one is measured, after once unmeasured; the median counts."""


def measure_latency(
    bench: Workbench,
    experts: Mapping[str, Storage],
    extractor: Storage,
    *,
    side_px: int,
    measures: bool = False,
) -> dict[str, float]:
    """Return the milliseconds that each network takes for a square image, on one thread.

    A network that is told of images takes the time to look at the image, too. What another machine
    measured does not count.

    Args:
        bench: The workbench.
        experts: Networks by key.
        extractor: An extractor, which is measured under its key.
        side_px: Side of the image.
        measures: Whether to measure, under the key `MEASURES`, what routers measure in the windows
            that the extractor looks at.
    """
    device = "cuda" if bench.cluster.use_gpu and torch.cuda.is_available() else "cpu"
    places = {**experts, key_of(extractor): extractor}
    common = {"side_px": side_px, "device": device, "machine": _machine(device)}
    specs: dict[str, dict[str, object]] = {key: {"of": key, **common} for key in places}
    if measures:
        specs[MEASURES] = {"of": key_of(extractor), "what": MEASURES, **common}

    def make(missing: Mapping[str, Storage], on_done: OnDone) -> None:
        image = torch.rand(1, 3, side_px, side_px, device=device)
        calls = {key: _opened(places.get(key), extractor, device) for key in missing}
        taken: dict[str, list[float]] = {key: [] for key in missing}
        with threads(1), torch.inference_mode():
            for turn in range(ROUNDS + 1):
                for number, (key, call) in enumerate(calls.items(), start=1):
                    seconds = _timed(call, image)
                    if turn:
                        taken[key].append(1000.0 * seconds)
                    on_done(turn * len(calls) + number, (ROUNDS + 1) * len(calls))
        for key, result in missing.items():
            found = {"ms": taken[key], "median_ms": statistics.median(taken[key])}
            result.write_json("latency.json", found)

    results = bench.run_many("latency", specs, make)
    return {k: float(own.read_json("latency.json")["median_ms"]) for k, own in results.items()}


def _machine(device: str) -> str:
    """Return the GPU's name; without one the processor's, and the number of cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    """Return the name of the processor's model, or of its architecture where it tells no model."""
    with contextlib.suppress(OSError):
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        for line in told.splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _opened(place: Storage | None, extractor: Storage, device: str) -> Callable[[Tensor], Tensor]:
    """Return the network of a place; without one what is measured as the extractor looks."""
    if place is None:
        view = load_extractor(extractor).config
        return functools.partial(measure, view=view.view, side_px=view.view_px)
    if place == extractor:
        opened = load_extractor(extractor).eval().to(device)
        return opened.embed
    return open_expert(place).eval().to(device)


def _timed(call: Callable[[Tensor], Tensor], image: Tensor) -> float:
    begin = time.perf_counter()
    call(image)
    if image.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begin
