"""What an application is made with: strict, and experts in the right pools."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from expertree.config import load
from expertree.errors import ConfigError
from expertree.hierarchy import HierarchyConfig, Tree, build_tree
from expertree.serving.deployments import (
    PoolConfig,
    ServingConfig,
    likeliest_first,
    place_experts,
)


@pytest.fixture(scope="module")
def tree() -> Tree:
    points = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    config = HierarchyConfig(groups=(1, 2, 4), min_group_samples=4)
    return build_tree(points, config, extractor="none")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"router": {"max_replica": 2}}, "router.max_replica.*did you mean 'router.max_replicas'"),
        (
            {"pools": [{"target_num_ongoing_requests_per_replica": 3}]},
            "unknown configuration key 'pools.0.target_num_ongoing",
        ),
        ({"pools": [{"min_replicas": 3, "max_replicas": 2}]}, "min_replicas=3, max_replicas=2"),
        ({"pools": [{"max_queued_requests": 0}]}, "max_queued_requests must be positive, got 0"),
        ({"pools": [{"batch_size": 0}]}, "batch_size must be at least 1"),
        ({"pools": [{"name": "a"}, {"name": "a", "below": [1]}]}, "names of their own"),
        ({"pools": [{"below": [1]}]}, "exactly one pool must have no nodes"),
        ({"pools": []}, "names of their own"),
    ],
)
def test_arguments_that_cannot_work_are_refused_by_name(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(ServingConfig, arguments)


SERVE = Path(__file__).parents[3] / "serve"


@pytest.mark.parametrize("file", sorted(SERVE.glob("*.yaml")), ids=lambda file: str(file.stem))
def test_a_replica_that_stops_cuts_off_no_request_that_is_in_time(file: Path) -> None:
    for application in yaml.safe_load(file.read_text())["applications"]:
        config = load(ServingConfig, application["args"])
        for replicas in (config.gateway, config.router, *config.pools):
            assert replicas.drain_s >= config.http.limits.deadline_s


def test_a_pool_holds_the_experts_below_its_nodes_and_the_nearest_pool_wins(tree: Tree) -> None:
    upper = tree.nodes[0].children[0]
    lower = tree.nodes[upper].children[0]
    pools = (
        PoolConfig(),
        PoolConfig(name="upper", below=(upper,)),
        PoolConfig(name="lower", below=(lower,)),
    )
    placed = place_experts(tree, pools)
    assert placed[0] == "experts"
    assert placed[tree.expert_of(upper)] == "upper"
    assert placed[tree.expert_of(lower)] == "lower"
    siblings = [node for node in tree.nodes[upper].children if node != lower]
    assert {placed[tree.expert_of(node)] for node in siblings} <= {"upper"}
    assert set(placed) == set(tree.experts())


@pytest.mark.parametrize(
    ("pools", "message"),
    [
        ((PoolConfig(), PoolConfig(name="far", below=(99,))), "pool 'far': node 99 is not in 0"),
        (
            (PoolConfig(), PoolConfig(name="a", below=(1,)), PoolConfig(name="b", below=(1,))),
            "pool 'b': node 1 is named twice",
        ),
        ((PoolConfig(), PoolConfig(name="all", below=(0,))), "'experts' would hold no expert"),
    ],
)
def test_pools_that_do_not_fit_the_tree_are_refused(
    tree: Tree, pools: tuple[PoolConfig, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        place_experts(tree, pools)


def test_torch_gets_a_thread_for_each_whole_cpu_that_a_replica_reserves() -> None:
    assert PoolConfig(num_cpus=0.5).threads == 1
    assert PoolConfig(num_cpus=4.0).threads == 4
    assert PoolConfig(num_cpus=4.0, num_threads=2).threads == 2
    assert PoolConfig().device == "cpu"
    assert PoolConfig(num_gpus=0.5).device == "cuda"


def test_experts_of_many_samples_are_the_likeliest_and_the_root_comes_first(tree: Tree) -> None:
    ordered = likeliest_first(tree, tree.experts())
    assert sorted(ordered) == sorted(tree.experts())
    assert ordered[0] == 0
    shares = [
        sum(node.num_samples for node in tree.nodes if tree.expert_of(node.index) == expert)
        for expert in ordered
    ]
    assert shares == sorted(shares, reverse=True)
    assert likeliest_first(tree, ordered[:0:-1]) == ordered[1:]
