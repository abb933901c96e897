"""The benchmarks by name."""

from pathlib import Path

import pytest

from expertree.benchmarks.engine import EngineConfig
from expertree.benchmarks.overhead import OverheadConfig
from expertree.benchmarks.registry import BENCHMARKS, BenchConfig
from expertree.benchmarks.switch import SwitchConfig
from expertree.config import all_keys, load
from expertree.errors import ConfigError
from expertree.experts.backbones.nafnet import NAFNetConfig


def test_an_unknown_benchmark_is_answered_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"bench='speed' does not exist; .*overhead.*shard"):
        load(BenchConfig, {"bench": "speed"})


def test_every_benchmark_has_a_section_of_its_name() -> None:
    assert set(BENCHMARKS) <= set(all_keys(BenchConfig))


def test_overhead_gives_a_ratio_of_two_times() -> None:
    found = BENCHMARKS["overhead"](BenchConfig(overhead=OverheadConfig(size_px=64, num_pairs=1)))
    assert found["benchmark"] == "overhead"
    assert found["ratio"] == pytest.approx(found["routed_s"] / found["expert_s"], rel=0.1)
    assert min(found["expert_s"], found["routed_s"]) > 0


def test_switch_compares_a_switch_with_an_image() -> None:
    config = SwitchConfig(size_px=32, num_pairs=3, backbone=NAFNetConfig(width=8))
    found = BENCHMARKS["switch"](BenchConfig(switch=config))
    assert found["benchmark"] == "switch"
    assert found["ratio"] == pytest.approx(found["switch_s"] / found["forward_s"], rel=0.1)
    assert found["adapter_parameters"] < found["root_parameters"]


def test_engine_compares_each_engine_with_torch(bundle_path: Path) -> None:
    config = EngineConfig(
        bundle=str(bundle_path),
        sizes_px=(32, 40),
        num_threads=(1,),
        num_rounds=1,
        num_photographs=(2,),
        width_px=48,
        height_px=32,
    )
    found = BENCHMARKS["engine"](BenchConfig(engine=config))
    assert [(row["engine"], row["size_px"]) for row in found["rows"]] == [
        ("torch", 32),
        ("openvino", 32),
        ("torch", 40),
        ("openvino", 40),
    ]
    for row in found["rows"]:
        assert row["images_per_s"] > 0
        assert min(row["ratio"], row["cpu_ratio"]) > 0
        assert 0 < row["cpu_peak_share"] < 1.5  # small images: overhead, not multiply-adds
        assert row["peak_share"] > 0
        if row["engine"] == "torch":
            assert row["ratio"] == row["cpu_ratio"] == 1.0
    assert found["start_s"].keys() == {"torch", "openvino_first", "openvino_again"}
    (command,) = found["commands"]
    assert command["num_photographs"] == 2
    assert command["wall_s"] == pytest.approx(
        command["start_s"] + 2 * command["photograph_s"], abs=0.03
    )
    assert command["start_s"] > command["photograph_s"] > 0
