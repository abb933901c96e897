"""Pools of experts that come and go; everything at once, under load."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expertree import Restorer
from expertree.benchmarks.load import LoadConfig, measure_load
from expertree.benchmarks.processes import titled
from expertree.orchestration.serving.app import serving
from expertree.routing import Wish
from expertree.serving.deployments import PoolConfig
from photographs import random_u8
from served import Endpoint, config_of, free_port, two_bundles

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

TAIL = 1
"""A node whose experts are multiplexed, one at a time in memory."""


def test_a_pool_stops_and_starts_again_and_another_one_multiplexes_its_experts(
    tmp_path: Path,
) -> None:
    bundle, _ = two_bundles(tmp_path)
    restorer, image = Restorer.load(bundle), random_u8(40, 40)
    pool = PoolConfig(num_cpus=0.1, min_replicas=0, idle_delay_s=1.0, downscale_delay_s=1.0)
    tail = PoolConfig(name="tail", below=(TAIL,), max_experts=1, num_cpus=0.1)
    config = replace(config_of(bundle, free_port()), pools=(pool, tail))
    with serving(config) as running:
        endpoint = Endpoint(running)

        def check(expert: int) -> float:
            begin = time.monotonic()
            restored, _ = endpoint.restore_until_done(image, f"?expert={expert}")
            assert np.array_equal(restored, restorer.restore(image, Wish(expert=expert)).image)
            return time.monotonic() - begin

        check(0)
        deadline_s = time.monotonic() + 120
        while titled(os.getpid(), ":pool-experts"):
            assert time.monotonic() < deadline_s
            time.sleep(0.5)
        cold_s = check(0)
        warm_s = check(0)
        print(f"an image took {cold_s:.1f} s from no replica, {warm_s:.3f} s after that")
        for expert in restorer.tree.experts():
            check(expert)


def test_under_load_every_request_gets_the_right_answer_whatever_is_killed_or_updated() -> None:
    found = measure_load(LoadConfig(num_requests=1500, port=free_port()))
    assert found["num_done"] == found["num_requests"]
    assert found["wrong"] == []
    assert found["updated"], found["update_problem"]
    assert len(found["models"]) == 2
    assert not {code for code in found["codes"] if code.startswith("5")} - {"503"}
    assert found["memory"]["end_gib"] < 1.1 * found["memory"]["begin_gib"]
