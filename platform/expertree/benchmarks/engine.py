"""Benchmark of the engines that experts compute by on a CPU: torch, and OpenVINO."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from expertree.benchmarks.command import time_command
from expertree.hierarchy import ROOT
from expertree.restorer import SHIPPED, Bundle, find_bundle, open_bundle
from expertree.restorer.engines import EngineName, OpenVinoEngine
from expertree.storage import Storage
from expertree.threads import torch_threads


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """The expert to time, and the images."""

    bundle: str = SHIPPED
    """The bundle whose root's expert is timed; others of the same sizes take as long."""

    sizes_px: tuple[int, ...] = (256, 512, 1024)
    """Sides of the images."""

    num_threads: tuple[int, ...] = (1, 2)
    """Threads of an engine."""

    num_rounds: int = 5
    """Times that each image is restored by each engine, in turns."""

    num_photographs: tuple[int, ...] = (1, 10)
    """Sizes of folders that `expertree restore` is timed on as a whole; (1, 10, 100) takes long."""

    width_px: int = 4000
    """Width of these photographs."""

    height_px: int = 3000
    """Height of these photographs."""

    command_engines: tuple[EngineName, ...] = ("torch",)
    """Engines that the whole command is timed with."""

    command_dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32",)
    """What the whole command computes in, by each engine; bfloat16 where the processor has it."""


_MATRIX = 1024
"""Side of the matrices whose product says what the processor can do."""


def measure_engines(config: EngineConfig) -> dict[str, Any]:
    """Time both engines in turns, and return images a second by engine, size and threads.

    The ratio to torch is the median over the rounds, of which each has both engines one after the
    other, so that other work on the machine counts in both; `cpu_ratio` is that of the seconds
    that the CPU worked for them. `peak_share` is the part of the processor's peak that the
    network's multiply-adds reach, `cpu_peak_share` the same by the seconds that the CPU worked;
    for its peak is taken what a product of two matrices of 1024 x 1024 reaches in the same round.
    Starting up is told apart. `commands` are times of the whole command on photographs.
    """
    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(find_bundle(config.bundle))
        start: dict[str, float] = {}
        rows = []
        for count in config.num_threads:
            with torch_threads(count), torch.inference_mode():
                networks, start = _opened(bundle, Storage.open(folder).sub(str(count)))
                rows += [
                    row
                    for size_px in config.sizes_px
                    for row in _rows(networks, size_px, count, config.num_rounds)
                ]
    return {
        "benchmark": "engine",
        "backbone": bundle.entry(ROOT).backbone,
        "num_parameters": bundle.entry(ROOT).num_parameters,
        "num_rounds": config.num_rounds,
        "start_s": start,
        "rows": rows,
        "commands": [
            _command(config, count, engine, dtype)
            for count in config.num_photographs
            for engine in config.command_engines
            for dtype in config.command_dtypes
        ],
    }


def _command(config: EngineConfig, count: int, engine: EngineName, dtype: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        sides = config.width_px, config.height_px
        return time_command(
            Path(folder), count, *sides, bundle=config.bundle, engine=engine, dtype=dtype
        )


def _opened(bundle: Bundle, cache: Storage) -> tuple[dict[str, nn.Module], dict[str, float]]:
    """Return an expert by each engine, and the seconds that each took to open.

    `openvino_first` makes and checks the graph, `openvino_again` has it from the cache.
    """
    openvino = OpenVinoEngine(bundle, torch.float32, is_strict=True, cache=cache)
    ways: dict[str, Callable[[int], nn.Module | None]] = {
        "torch": bundle.load_expert,
        "openvino_first": openvino.network,
        "openvino_again": openvino.network,
    }
    opened, seconds = {}, {}
    for name, way in ways.items():
        begin = time.perf_counter()
        network = way(ROOT)
        seconds[name] = round(time.perf_counter() - begin, 3)
        if network is not None:  # which a strict engine never is
            opened[name.partition("_")[0]] = network
    return opened, seconds


def _rows(
    networks: dict[str, nn.Module], size_px: int, num_threads: int, num_rounds: int
) -> list[dict[str, Any]]:
    image = torch.rand(1, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    work = _num_multiply_adds(networks["torch"], image) / _MATRIX**3
    for network in networks.values():
        network(image)
    matrix = torch.rand(_MATRIX, _MATRIX)
    rounds = [
        {name: _seconds(network, image) for name, network in networks.items()}
        | {"peak": _seconds(matrix.mm, matrix)}
        for _ in range(num_rounds)
    ]

    def ratio(of: str, to: str, clock: int) -> float:
        return statistics.median(took[of][clock] / took[to][clock] for took in rounds)

    return [
        {
            "engine": name,
            "size_px": size_px,
            "num_threads": num_threads,
            "images_per_s": round(1.0 / statistics.median(took[name][0] for took in rounds), 3),
            "ratio": round(ratio("torch", name, 0), 3),
            "cpu_ratio": round(ratio("torch", name, 1), 3),
            "peak_share": round(work * ratio("peak", name, 0), 4),
            "cpu_peak_share": round(work * ratio("peak", name, 1), 4),
        }
        for name in networks
    ]


def _num_multiply_adds(network: nn.Module, image: torch.Tensor) -> float:
    with torch.inference_mode(mode=False), torch.no_grad():  # in which operations are counted
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(image.shape))
        return float(counter.get_total_flops()) / 2


def _seconds(
    work: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor
) -> tuple[float, float]:
    """Return the seconds that an image took, and those that the CPU worked for it."""
    begin, cpu_begin = time.perf_counter(), time.process_time()
    work(image)
    return time.perf_counter() - begin, time.process_time() - cpu_begin
