"""Benchmark of a served bundle against `Restorer` in one process, on the same images."""

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from expertree.benchmarks.client import Client
from expertree.benchmarks.fresh import fresh_bundle
from expertree.experts.backbones import Backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.images.arrays import ImageU8
from expertree.images.io import encode_png
from expertree.orchestration.serving.app import serving
from expertree.restorer import Restorer
from expertree.serving.deployments import (
    GatewayConfig,
    PoolConfig,
    RouterReplicas,
    ServeConfig,
)
from expertree.serving.settings import HttpConfig
from expertree.storage import Storage

_PNG_HEADER = 26
"""Bytes of a PNG up to its size, depth and kind of colour."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServeBenchConfig:
    """The bundle that is served, and the requests."""

    bundle: str | None = None
    """A bundle; by default one with fresh weights, which take the same time as trained ones."""

    backbone: Backbone = NAFNetConfig()
    """The experts' network, where `bundle` is not given."""

    size_px: int = 512
    """Sides of the photographs."""

    concurrency: tuple[int, ...] = (1, 8, 32)
    """Callers at a time."""

    num_requests: int = 32
    """Requests of each round."""

    num_rounds: int = 3
    """Rounds at each concurrency, each after one of `Restorer` alone."""

    num_replicas: int | None = None
    """Replicas of experts, of one thread each; null takes one for each core. `Restorer` has as
    many threads as there are cores."""

    port: int = 8765
    """Port to serve on."""

    address: str | None = None
    """Address of a running cluster, of several nodes say; null starts one on this machine."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    seconds: float
    stages: dict[str, float]


def measure_serving(config: ServeBenchConfig) -> dict[str, Any]:
    """Time rounds of `Restorer` and of HTTP in turns; each ratio is the median over rounds."""
    cores = len(os.sched_getaffinity(0))
    num_replicas = config.num_replicas or cores
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory() as folder:
        where = config.bundle or fresh_bundle(Storage.open(folder), config.backbone).uri
        restorer = Restorer.load(where)
        photographs = [_photograph(config.size_px, seed) for seed in range(4)]
        bodies = [encode_png(image) for image in photographs]
        found: dict[str, Any] = {name: {} for name in ("ratio", "rps", "p50_s", "p99_s")}
        stages: dict[str, float] = {}
        alone: list[float] = []
        with serving(_served(config, where, num_replicas)) as running:
            _ask_all(running.url, bodies, len(bodies) * num_replicas, callers=num_replicas)
            for callers in config.concurrency:
                answers: list[_Answer] = []
                rates, ratios = [], []
                for _ in range(config.num_rounds):
                    alone.append(_alone(restorer, photographs, config.num_requests))
                    rate, got = _ask_all(running.url, bodies, config.num_requests, callers=callers)
                    rates.append(rate)
                    ratios.append(rate / alone[-1])
                    answers += got
                seconds = sorted(answer.seconds for answer in answers)
                found["ratio"][f"c{callers}"] = round(statistics.median(ratios), 4)
                found["rps"][f"c{callers}"] = round(statistics.median(rates), 3)
                found["p50_s"][f"c{callers}"] = round(statistics.median(seconds), 4)
                found["p99_s"][f"c{callers}"] = round(seconds[int(0.99 * len(seconds))], 4)
                if callers == min(config.concurrency):
                    stages = _mean_stages(answers)
    return {
        "benchmark": "serve",
        "ratio_c8": found["ratio"].get("c8"),
        **found,
        "restorer_rps": round(statistics.median(alone), 3),
        "stages_s": {name: round(value, 4) for name, value in stages.items()},
        "routing_share": round(stages.get("route", 0.0) / stages["total"], 4),
        "num_replicas": num_replicas,
        "num_cores": cores,
        "size_px": config.size_px,
        "num_requests": config.num_requests,
        "num_rounds": config.num_rounds,
    }


def _served(config: ServeBenchConfig, bundle: str, num_replicas: int) -> ServeConfig:
    return ServeConfig(
        bundle=bundle,
        address=config.address,
        http=HttpConfig(port=config.port),
        gateway=GatewayConfig(num_cpus=0.1),
        router=RouterReplicas(num_cpus=0.1),
        pools=(PoolConfig(min_replicas=num_replicas, max_replicas=num_replicas, num_threads=1),),
    )


def _photograph(size_px: int, seed: int) -> ImageU8:
    """Return a smooth image with noise, which is as hard to code as a noisy photograph."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.0, 200.0, size_px)
    across, down = np.meshgrid(ramp, ramp)
    smooth = np.stack([across, down, (across + down) / 2.0], axis=-1)
    return np.clip(smooth + rng.normal(0.0, 12.0, smooth.shape), 0, 255).astype(np.uint8)


def _alone(restorer: Restorer, photographs: list[ImageU8], num_requests: int) -> float:
    """Return images per second of `Restorer`, one after the other."""
    begin = time.perf_counter()
    for number in range(num_requests):
        restorer.restore(photographs[number % len(photographs)])
    return num_requests / (time.perf_counter() - begin)


def _ask_all(
    url: str, bodies: list[bytes], num_requests: int, *, callers: int
) -> tuple[float, list[_Answer]]:
    """Return requests per second of callers that each ask again once answered, and the answers."""
    shares = [range(caller, num_requests, callers) for caller in range(callers)]

    def call(share: range) -> list[_Answer]:
        return list(_ask(url, [bodies[number % len(bodies)] for number in share]))

    begin = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        answers = [answer for share in pool.map(call, shares) for answer in share]
    return num_requests / (time.perf_counter() - begin), answers


def _ask(url: str, bodies: list[bytes]) -> Iterator[_Answer]:
    """Send one caller's requests over one connection, and yield the times of each.

    Raises:
        RuntimeError: If an answer is not an image of the same size.
    """
    with Client(url, timeout_s=600.0) as client:
        for body in bodies:
            begin = time.perf_counter()
            answer = client.ask("POST", "/v1/restore", body)
            seconds = time.perf_counter() - begin
            # Both are PNG; decoding them would take the cores that are measured.
            if answer.status != 200 or answer.body[:_PNG_HEADER] != body[:_PNG_HEADER]:
                raise RuntimeError(f"/v1/restore answered {answer.status}: {answer.body[:300]!r}")
            yield _Answer(seconds=seconds, stages=_stages(answer.headers["Server-Timing"]))


def _stages(timing: str) -> dict[str, float]:
    """Return seconds by stage from a header such as `route;dur=12.5, restore;dur=301`."""
    found = {}
    for entry in timing.split(","):
        name, _, rest = entry.strip().partition(";")
        found[name] = float(rest.partition("dur=")[2]) / 1000.0
    return found


def _mean_stages(answers: list[_Answer]) -> dict[str, float]:
    names = sorted({name for answer in answers for name in answer.stages})
    means = {
        name: statistics.mean(answer.stages.get(name, 0.0) for answer in answers) for name in names
    }
    return {**means, "total": statistics.mean(answer.seconds for answer in answers)}
