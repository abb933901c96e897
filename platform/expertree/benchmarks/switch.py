"""Benchmark of switching from one expert to another where experts are adapters on the root."""

import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from expertree.benchmarks.fresh import fresh_bundle
from expertree.experts import AdapterConfig
from expertree.experts.backbones import Backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.hierarchy import ROOT
from expertree.restorer import Bundle, open_bundle
from expertree.restorer.switching import SwitchedNetwork
from expertree.storage import Storage

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SwitchConfig:
    """The networks to time, with fresh weights, and the image."""

    backbone: Backbone = NAFNetConfig()
    """The root's network."""

    adapter: AdapterConfig = AdapterConfig()
    """The experts' adapters on it."""

    size_px: int = 512
    """Side of the image whose forward pass a switch is compared with."""

    num_pairs: int = 15
    """Number of timed switches, and of forward passes."""

    num_threads: int = 1
    """Threads of torch."""


def measure_switch(config: SwitchConfig) -> dict[str, Any]:
    """Time switches and forward passes in turns, and return the medians in seconds."""
    torch.set_num_threads(config.num_threads)
    with tempfile.TemporaryDirectory() as folder:
        bundle = open_bundle(fresh_bundle(Storage.open(folder), config.backbone, config.adapter))
        image = torch.rand(1, 3, config.size_px, config.size_px)
        with torch.inference_mode():
            return _measure(config, bundle, image)


def _measure(config: SwitchConfig, bundle: Bundle, image: torch.Tensor) -> dict[str, Any]:
    root = bundle.load_expert(ROOT)
    nodes = [node for node in bundle.tree.experts() if node != ROOT][:2]
    adapters = {node: bundle.load_adapter(node) for node in nodes}
    switched = SwitchedNetwork(root, adapters[nodes[0]].changed, adapters.__getitem__)

    def switch(node: int) -> nn.Module:
        with switched.expert(node) as network:
            return network

    network = switch(nodes[0])
    network(image)
    turns = itertools.islice(itertools.cycle(reversed(nodes)), config.num_pairs)
    times = [(_seconds(switch, node), _seconds(network, image)) for node in turns]
    reads = [_seconds(bundle.load_adapter, nodes[0]) for _ in range(config.num_pairs)]
    switch_s, forward_s = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "benchmark": "switch",
        "switch_s": round(switch_s, 5),
        "read_s": round(statistics.median(reads), 5),
        "forward_s": round(forward_s, 5),
        "ratio": round(switch_s / forward_s, 5),
        "root_parameters": sum(value.numel() for value in root.parameters()),
        "adapter_parameters": sum(v.numel() for v in adapters[nodes[0]].tensors.values()),
        "size_px": config.size_px,
        "num_pairs": config.num_pairs,
        "num_threads": config.num_threads,
    }


def _seconds(work: Callable[[T], object], given: T) -> float:
    begin = time.perf_counter()
    work(given)
    return time.perf_counter() - begin
