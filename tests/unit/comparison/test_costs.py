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
from expertree.comparison.methods import METHODS, MethodConfig
from expertree.comparison.settings import CompareConfig
from expertree.config import load
from expertree.embedding import ExtractorConfig, build_extractor
from expertree.events import EventLog
from expertree.experts import AdapterConfig
from expertree.experts.backbones import BackboneConfig, backbone_config, describe_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.stages import Workbench
from expertree.routing import Router, RouterConfig, RouterShape
from expertree.routing import measure as measures_of
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


class FakeTable:
    """A table of 40 patches for routers, whose middle of 64 px is scored."""

    def done(self) -> dict[str, Any]:
        patch_set = {"num_patches": 40, "patch_px": 128, "scored_px": 64}
        return {"spec": {"patch_set": patch_set}}


def costed(
    monkeypatch: pytest.MonkeyPatch,
    *plans: SimpleNamespace,
    searches: int = 0,
    cluster: Any = None,
    method: MethodConfig = METHODS["one_network"],
    extractor: torch.nn.Module | None = None,
    router: Router | None = None,
) -> CostRow:
    """The costs of one method with some networks, searched for so often."""
    training = SimpleNamespace(method=method, plans=plans, factor=1.0, num_samples=8)
    routed = None if router is None else SimpleNamespace(router=router)
    compared = SimpleNamespace(
        common=SimpleNamespace(extractor=None, tables={"route": FakeTable()}),
        reached=[SimpleNamespace(training=training, routed=routed)],
        searched={method.name: [training] * searches},
        latency_ms={"k": 1.0, "x": 10.0, latency.MEASURES: 100.0},
    )
    monkeypatch.setattr(costs, "load_extractor", lambda _: extractor or torch.nn.Identity())
    monkeypatch.setattr(costs, "load_router", lambda own: own)
    monkeypatch.setattr(costs, "key_of", lambda _: "x")
    if extractor is None:
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


@pytest.mark.parametrize("num_measures", [0, 13])
def test_what_routers_measure_and_take_in_training_is_counted(
    monkeypatch: pytest.MonkeyPatch, num_measures: int
) -> None:
    extractor = build_extractor(ExtractorConfig(embed_dim=16, view_px=64))
    shape = RouterShape(
        embed_dim=16, num_leaves=2, num_levels=2, num_costs=3, num_measures=num_measures
    )
    router = Router(shape)
    found = {}
    for name in ("tree", "tree_nearest"):
        found[name] = costed(
            monkeypatch,
            *[plan_of(NAFNetConfig())] * 3,
            method=METHODS[name],
            extractor=extractor,
            router=router if name == "tree" else None,
        )
    tree, nearest = found["tree"], found["tree_nearest"]
    size = sum(p.numel() for p in router.parameters())
    assert tree.num_beside - nearest.num_beside == size
    measured = tree.multiply_adds_512 - nearest.multiply_adds_512
    # Nine windows of 64 px; 48 cosines at each of 57 x 57 places, and their means.
    assert (measured > 9 * 57**2 * 48 * 64) == bool(num_measures)
    assert (measured == 0) != bool(num_measures)
    assert tree.latency_ms - nearest.latency_ms == (100.0 if num_measures else 0.0)
    whole = describe_backbone(NAFNetConfig()).multiply_adds_512
    looked = nearest.multiply_adds_512 - whole
    assert tree.least_multiply_adds_512 == looked + measured
    config = RouterConfig()
    trained = 3 * 40 * (1 - config.held_out_fraction) * config.num_epochs * size
    assert tree.routers_samples == 3 * 40
    assert tree.routers_multiply_adds == pytest.approx(3 * 40 * whole / 64 + trained)
    assert (nearest.routers_samples, nearest.routers_multiply_adds) == (0, 0.0)


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, float]]:
    """A function that measures networks of some names on a machine of some speed."""
    store = Storage.open(tmp_path / "store")

    def measured(*names: str, machine: str, seconds: float, **options: bool) -> dict[str, float]:
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
            extractor = store.sub("extractor", "x")
            return measure_latency(bench, experts, extractor, side_px=16, **options)

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


def test_what_routers_measure_is_timed_beside_the_extractor(
    measure: Callable[..., dict[str, float]],
) -> None:
    found = measure("a", machine="slow", seconds=2.0, measures=True)
    assert found == {"a": 2000.0, "x": 2000.0, latency.MEASURES: 2000.0}
    assert measure("a", machine="slow", seconds=9.0, measures=True) == found
    assert measure("a", machine="slow", seconds=9.0) == {"a": 2000.0, "x": 2000.0}


def test_measures_are_those_of_the_extractors_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ExtractorConfig(embed_dim=16, view_px=32, view="centre_crop")
    monkeypatch.setattr(latency, "load_extractor", lambda _: SimpleNamespace(config=config))
    image = torch.rand(1, 3, 48, 48)
    found = latency._opened(None, None, "cpu")(image)
    assert torch.equal(found, measures_of(image, view="centre_crop", side_px=32))
