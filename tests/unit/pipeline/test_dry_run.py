"""What a build would do, said without doing it."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from expertree.config import load
from expertree.errors import ResourceError
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.images.io import encode_png
from expertree.pipeline import dry_run as planning
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.costs import budget_of, rates_of
from expertree.pipeline.dry_run import (
    describe_plan,
    lanes_of,
    memory_line,
    play,
    training_bytes,
)
from expertree.pipeline.experts import ExpertPlan
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import NotMadeError
from expertree.storage import Storage


def expert(folder: Path, node: int, num_samples: int, parent: int | None = None) -> ExpertPlan:
    result = Storage.open(folder / "store").sub("expert", f"e{node}")
    job = ExpertJob(
        key=f"e{node}",
        backbone=NAFNetConfig(),
        recipe=RecipeConfig(),
        num_samples=num_samples,
        seed=0,
    )
    return ExpertPlan(
        role=node,
        label="root" if parent is None else f"level 1, group {node - 1}",
        job=job,
        files=(),
        result=result,
        parent=None if parent is None else f"e{parent}",
        start="random weights" if parent is None else "its parent's weights",
        spec={},
    )


@pytest.fixture
def plans(tmp_path: Path) -> list[ExpertPlan]:
    return [
        expert(tmp_path, 0, 1000),
        expert(tmp_path, 1, 500, parent=0),
        expert(tmp_path, 2, 700, parent=0),
    ]


def finish(plan: ExpertPlan, samples_per_s: float) -> None:
    plan.result.write_json("log.json", {"samples_per_s": samples_per_s})
    plan.result.commit({})


@pytest.fixture
def config(tmp_path: Path) -> BuildConfig:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(4):
        pixels = np.random.default_rng(seed).integers(0, 256, (130, 140, 3), dtype=np.uint8)
        (photos / f"{seed}.png").write_bytes(encode_png(pixels))
    places = {"store": str(tmp_path / "store"), "output": str(tmp_path / "out")}
    return load(BuildConfig, places | {"photographs": {"source": str(photos)}})


def test_before_anything_was_made_it_tells_the_most_there_can_be(config: BuildConfig) -> None:
    text = describe_plan(config)
    assert "to make  degrade, and what follows" in text
    assert "at most 13, for groups 1, 4, 8, and 2 networks to compare with" in text
    # 9600 + 4 x 3200 + 8 x 3200 for the tree, as many for one network, and a path's for the other.
    assert "samples  at most 112,000 to train on in all" in text
    from_root = dataclasses.replace(config.experts, start_from="root")
    # A leaf that starts from the root also sees what the level between would have seen.
    text = describe_plan(dataclasses.replace(config, experts=from_root))
    assert f"samples  at most {2 * (9600 + 4 * 3200 + 8 * 6400) + 16_000:,} to train" in text
    store = Path(config.store)
    assert [path for path in store.rglob("*") if path.is_file()] == []


def test_with_a_tree_it_lists_the_experts_in_the_order_of_their_beginnings(
    config: BuildConfig, plans: list[ExpertPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(plans[0], samples_per_s=10.0)

    def stop(*_: object) -> None:
        raise NotMadeError("experts", plans)

    monkeypatch.setattr(planning, "build", stop)
    text = describe_plan(dataclasses.replace(config, cluster=ClusterConfig(num_lanes=1)))
    assert "2 of 3 to train, on 1 lane" in text
    lines = [line.strip() for line in text.splitlines()]
    order = [line.split("  ")[0] for line in lines if " samples " in line]
    assert order == ["root", "level 1, group 1", "level 1, group 0"]
    assert "in the store" in next(line for line in lines if line.startswith("root"))
    assert any(line.startswith("time     2 min 00 s, at the speed") for line in text.splitlines())


def test_without_a_finished_expert_the_time_is_not_known(
    config: BuildConfig, plans: list[ExpertPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise NotMadeError("experts", plans)

    monkeypatch.setattr(planning, "build", stop)
    assert "time     not known" in describe_plan(config)
    assert play(plans, rates_of(plans), num_lanes=2) is None


def test_children_of_finished_experts_need_not_wait(plans: list[ExpertPlan]) -> None:
    finish(plans[0], samples_per_s=10.0)
    played = play(plans, rates_of(plans), num_lanes=2)
    assert played is not None
    assert {span.key: span.begin_s for span in played.spans} == {"e1": 0.0, "e2": 0.0}
    assert played.wall_s == pytest.approx(70.0)


def test_it_says_what_that_costs_and_when_the_budget_is_not_enough(
    config: BuildConfig, plans: list[ExpertPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(plans[0], samples_per_s=0.5)

    def stop(*_: object) -> None:
        raise NotMadeError("experts", plans)

    monkeypatch.setattr(planning, "build", stop)
    cluster = ClusterConfig(num_lanes=1, max_device_hours=0.5, price_per_device_hour=3.0)
    lines = describe_plan(dataclasses.replace(config, cluster=cluster)).splitlines()
    assert "cost     0.667 hours of CPUs, 2.00 at 3" in lines
    assert any(line.startswith("budget   cluster.max_device_hours=0.5 is not") for line in lines)


def test_a_budget_that_no_expert_can_begin_with_is_refused_before_any_work(
    plans: list[ExpertPlan],
) -> None:
    finish(plans[0], samples_per_s=0.5)
    enough = ClusterConfig(max_device_hours=0.3)
    assert budget_of(ClusterConfig(), plans) is None
    found = budget_of(enough, plans)
    assert found is not None
    assert found.rates == {plans[0].kind: 0.5}
    with pytest.raises(ResourceError, match=r"group 0: .*hours=0\.2 is not enough"):
        budget_of(dataclasses.replace(enough, max_device_hours=0.2), plans)


def test_without_a_finished_expert_a_budget_waits_for_the_first_ones_speed(
    plans: list[ExpertPlan],
) -> None:
    found = budget_of(ClusterConfig(max_device_hours=1e-9), plans)
    assert found is not None
    assert found.rates == {}


def test_lanes_are_known_where_the_cluster_is_our_own() -> None:
    cores = os.cpu_count() or 1
    assert lanes_of(ClusterConfig()) == cores
    assert lanes_of(ClusterConfig(num_cores=8, workers_per_lane=2)) == 4
    assert lanes_of(ClusterConfig(num_lanes=5)) == 5
    assert lanes_of(ClusterConfig(address="head:6379")) == 1


def test_memory_counts_weights_gradients_and_averages() -> None:
    assert training_bytes(1000, 1000, RecipeConfig(ema_decay=0.0)) == 16_000
    assert training_bytes(1000, 1000, RecipeConfig(ema_decay=0.9)) == 20_000
    assert training_bytes(1000, 100, RecipeConfig(ema_decay=0.0)) == 5_200


def test_lanes_that_share_a_gpu_are_told_what_they_need_together() -> None:
    alone = ClusterConfig(use_gpu=True)
    assert memory_line(3 * 2**20, alone) == (
        "memory   3 MiB a lane for weights and optimiser, and activations"
    )
    shared = memory_line(3 * 2**20, ClusterConfig(use_gpu=True, gpus_per_lane=0.25))
    assert "4 lanes share a GPU (cluster.gpus_per_lane=0.25): 12 MiB, 4 times the" in shared
    assert "share" not in memory_line(3, ClusterConfig(gpus_per_lane=0.25))


def test_hours_of_a_lane_count_by_its_part_of_a_gpu(plans: list[ExpertPlan]) -> None:
    finish(plans[0], 10.0)
    cluster = ClusterConfig(use_gpu=True, gpus_per_lane=0.25, max_device_hours=1.0)
    found = budget_of(cluster, plans)
    assert found is not None
    assert found.lane_s == 4 * 3600
