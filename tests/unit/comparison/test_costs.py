"""What a method took: hours of devices, and milliseconds of the machine that asks."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from expertree.comparison import costs, latency
from expertree.comparison.costs import CostRow, costs_of
from expertree.comparison.latency import measure_latency
from expertree.comparison.methods import METHODS
from expertree.comparison.settings import CompareConfig
from expertree.config import load
from expertree.events import EventLog
from expertree.experts import AdapterConfig
from expertree.experts.backbones import BackboneConfig, backbone_config, describe_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.stages import Workbench
from expertree.storage import Storage
from expertree.training import LOG

IN_THE_FILE = 10_000_000
"""Scalars of a stored file, its buffers included."""


def plan_of(backbone: BackboneConfig, *, result: Any = None, **more: Any) -> SimpleNamespace:
    """The plan of a network of 8 samples."""
    job = SimpleNamespace(
        **{"backbone": backbone, "recipe": None, "num_samples": 8, "adapter": None, **more}
    )
    return SimpleNamespace(key="k", job=job, result=result or FakeResult())


class FakeResult:
    """A stored network that took no time."""

    def read_json(self, _: str) -> dict[str, float]:
        return {"seconds": 0.0}


def costed(
    monkeypatch: pytest.MonkeyPatch, *plans: SimpleNamespace, searches: int = 0, cluster: Any = None
) -> CostRow:
    """The costs of one method with some networks, searched for so often."""
    method = METHODS["one_network"]
    training = SimpleNamespace(method=method, plans=plans, factor=1.0, num_samples=8)
    compared = SimpleNamespace(
        common=SimpleNamespace(extractor=None),
        reached=[SimpleNamespace(training=training, routed=None)],
        searched={method.name: [training] * searches},
        latency_ms={"k": 1.0},
    )
    monkeypatch.setattr(costs, "load_extractor", lambda _: torch.nn.Identity())
    monkeypatch.setattr(costs, "look", lambda *_: None)
    monkeypatch.setattr(costs, "read_card", lambda _: SimpleNamespace(num_parameters=IN_THE_FILE))
    monkeypatch.setattr(costs, "multiply_adds", lambda *_: 1.0)
    (row,) = costs_of(load(CompareConfig, {"cluster": cluster or {}}), compared)
    return row


@pytest.mark.parametrize(
    ("cluster", "hours"),
    [
        ({}, 2.0),
        ({"cpus_per_lane": 4}, 8.0),
        ({"cpus_per_lane": 2, "workers_per_lane": 3}, 12.0),
        ({"use_gpu": True, "gpus_per_lane": 0.25}, 0.5),
        ({"use_gpu": True, "gpus_per_lane": 1, "workers_per_lane": 2}, 4.0),
    ],
)
def test_hours_count_all_devices_of_a_lane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: dict[str, Any], hours: float
) -> None:
    result = Storage.open(tmp_path / "expert")
    result.write_json(LOG, {"seconds": 7200.0})
    row = costed(monkeypatch, plan_of(NAFNetConfig(), result=result), searches=2, cluster=cluster)
    assert (row.core_hours, row.searched_core_hours) == (hours, 2 * hours)


@pytest.mark.parametrize("name", ["airnet_small", "moce_ir_small", "sler_ir_small"])
def test_the_parameters_of_a_network_do_not_count_the_statistics_that_it_keeps(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    backbone = backbone_config(name)
    row = costed(monkeypatch, plan_of(backbone))
    assert row.num_parameters == describe_backbone(backbone).num_parameters
    assert row.num_active_parameters < row.num_parameters < IN_THE_FILE


def test_the_parameters_of_an_adapter_are_what_it_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    root, adapter = plan_of(NAFNetConfig()), plan_of(NAFNetConfig(), adapter=AdapterConfig())
    row = costed(monkeypatch, root, adapter)
    assert row.num_parameters == describe_backbone(NAFNetConfig()).num_parameters + IN_THE_FILE


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, float]]:
    """A function that measures networks of some names on a machine of some speed."""
    store = Storage.open(tmp_path / "store")

    def measured(*names: str, machine: str, seconds: float) -> dict[str, float]:
        monkeypatch.setattr(latency, "_machine", lambda _: machine)
        monkeypatch.setattr(latency, "_opened", lambda *_: None)
        monkeypatch.setattr(latency, "_timed", lambda *_: seconds)
        bench = Workbench(
            store=store,
            events=EventLog(tmp_path / "events.jsonl"),
            runner=LocalRunner(CompareConfig().cluster),
            on_stage=lambda *_: None,
        )
        with bench:
            experts = {name: store.sub("expert", name) for name in names}
            return measure_latency(bench, experts, store.sub("extractor", "x"), side_px=16)

    return measured


def test_milliseconds_of_one_table_are_of_one_machine(
    measure: Callable[..., dict[str, float]],
) -> None:
    assert measure("a", machine="slow", seconds=2.0) == {"a": 2000.0, "x": 2000.0}
    fast = measure("a", "b", machine="fast", seconds=0.5)
    assert fast == {"a": 500.0, "b": 500.0, "x": 500.0}
    assert measure("a", machine="slow", seconds=9.0) == {"a": 2000.0, "x": 2000.0}


def test_machines_differ_by_processor_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert latency._processor()
    names = set()
    for processor, cores in (("one", 2), ("one", 4), ("two", 4)):
        monkeypatch.setattr(latency, "_processor", lambda own=processor: own)
        monkeypatch.setattr(latency.os, "cpu_count", lambda own=cores: own)
        names.add(latency._machine("cpu"))
    assert len(names) == 3
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert latency._machine("cuda") == "a GPU"
