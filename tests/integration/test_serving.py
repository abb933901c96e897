"""A served bundle over HTTP: the images of `Restorer`, whatever happens on the way."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import ray

from expertree import Restorer
from expertree.benchmarks.processes import titled
from expertree.images.io import decode_u8, encode_png
from expertree.orchestration.serving.app import serving
from expertree.routing import Wish
from photographs import random_u8
from served import Endpoint, config_of, free_port, two_bundles

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return two_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def endpoint(bundles: list[str]) -> Iterator[Endpoint]:
    with serving(config_of(bundles[0], free_port())) as running:
        yield Endpoint(running)


@pytest.fixture(scope="module")
def restorer(bundles: list[str]) -> Restorer:
    return Restorer.load(bundles[0])


def test_every_expert_restores_as_the_restorer_does(endpoint: Endpoint, restorer: Restorer) -> None:
    image = random_u8(70, 90)
    for expert in restorer.tree.experts():
        answer = endpoint.restore(image, f"?expert={expert}")
        assert answer.status == 200, answer.body
        expected = restorer.restore(image, Wish(expert=expert)).image
        assert np.array_equal(decode_u8(answer.body), expected)
    restored, _ = endpoint.restore_until_done(image)
    assert np.array_equal(restored, restorer.restore(image).image)


def test_an_answer_has_one_request_id(endpoint: Endpoint) -> None:
    for path in ("/healthz", "/v1/nothing"):
        names = endpoint.ask("GET", path).headers.get_all("X-Request-Id")
        assert names is not None
        assert len(names) == 1


def test_tiles_that_run_side_by_side_give_the_restorers_image(
    endpoint: Endpoint, restorer: Restorer
) -> None:
    image = random_u8(200, 260)
    answer = endpoint.restore(image, "?tile=96")
    assert answer.status == 200, answer.body
    assert int(answer.headers["X-Restore-Tiles"]) > 4
    assert np.array_equal(decode_u8(answer.body), restorer.restore(image, Wish(tile_px=96)).image)


def test_a_job_is_known_to_the_endpoint_until_it_is_done_and_after(
    endpoint: Endpoint, restorer: Restorer
) -> None:
    image = random_u8(120, 90)
    asked = endpoint.ask("POST", "/v1/jobs?tile=96", encode_png(image))
    assert asked.status == 202, asked.body
    where = asked.headers["Location"]
    deadline_s = time.monotonic() + 60
    while (state := json.loads(endpoint.ask("GET", where).body)["state"]) != "done":
        assert state in {"queued", "running"}
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    result = endpoint.ask("GET", f"{where}/result")
    assert np.array_equal(decode_u8(result.body), restorer.restore(image, Wish(tile_px=96)).image)


def test_those_that_are_too_many_are_told_when_to_come_again_and_then_served(
    endpoint: Endpoint, restorer: Restorer
) -> None:
    image = random_u8(64, 64)
    expected = restorer.restore(image, Wish(expert=0)).image
    was_told = threading.Event()

    def ask(_: int) -> np.ndarray:
        answer = endpoint.restore(image, "?expert=0")
        if answer.status == 200:
            return decode_u8(answer.body)
        was_told.set()
        return endpoint.restore_until_done(image, "?expert=0")[0]

    with ThreadPoolExecutor(24) as pool:
        with paused(titled(os.getpid(), ":pool-experts")):
            asked = [pool.submit(ask, number) for number in range(24)]
            # Four are in the pool and four wait; they would hang here if nobody were told.
            assert was_told.wait(timeout=60)
        assert all(np.array_equal(each.result(), expected) for each in asked)


@contextlib.contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    """Processes that stand still meanwhile, as if each of their requests took that long."""
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_metrics_count_requests_experts_and_stages(endpoint: Endpoint) -> None:
    endpoint.restore(random_u8(8, 8), "?level=99")
    port = ray.nodes()[0]["MetricsExportPort"]
    wanted = (
        'ray_expertree_requests_total{.*code="422"',
        'ray_expertree_requests_total{.*code="200"',
        "ray_expertree_images_total{",
        "ray_expertree_stage_seconds_bucket{",
        "ray_expertree_tile_network_seconds_bucket{",
    )
    deadline_s = time.monotonic() + 60
    while missing := [pattern for pattern in wanted if not found_in(pattern, exported(port))]:
        assert time.monotonic() < deadline_s, missing
        time.sleep(1.0)


def exported(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return str(response.read(), "utf-8")


def found_in(pattern: str, text: str) -> bool:
    head, _, tail = pattern.partition(".*")
    return any(line.startswith(head) and tail in line for line in text.splitlines())


def test_a_bundle_that_is_damaged_leaves_the_old_one_serving_and_is_named(
    endpoint: Endpoint, bundles: list[str], tmp_path: Path, restorer: Restorer
) -> None:
    shutil.copytree(bundles[1], tmp_path / "bad")
    weights = tmp_path / "bad" / "experts" / "000" / "expert.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    before = endpoint.running.status().serving
    status = endpoint.running.update(str(tmp_path / "bad"))
    assert status.serving == before
    assert status.problem is not None
    assert "expert.safetensors has sha256" in status.problem
    image = random_u8(40, 40)
    restored, _ = endpoint.restore_until_done(image)
    assert np.array_equal(restored, restorer.restore(image).image)


@pytest.mark.slow
def test_an_update_loses_no_request_and_every_image_is_of_one_bundle_or_the_other(
    endpoint: Endpoint, bundles: list[str]
) -> None:
    image, query = random_u8(64, 64), "?expert=0"
    old, new = (Restorer.load(bundle).restore(image, Wish(expert=0)).image for bundle in bundles)
    assert not np.array_equal(old, new)
    stop = threading.Event()
    restored: list[np.ndarray] = []

    def ask() -> None:
        while not stop.is_set():
            restored.append(endpoint.restore_until_done(image, query)[0])

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            status = endpoint.running.update(bundles[1])
            deadline_s = time.monotonic() + 60
            while endpoint.running.status().draining and time.monotonic() < deadline_s:
                time.sleep(0.2)
            time.sleep(0.5)
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert (status.serving, status.problem) == (bundles[1], None)
    assert endpoint.running.status().draining == ()
    are_new = [np.array_equal(one, new) for one in restored]
    assert all(np.array_equal(one, old) or np.array_equal(one, new) for one in restored)
    assert not are_new[0]
    assert are_new[-1]
    back = endpoint.running.update(bundles[0])
    assert back.problem is None


@pytest.mark.slow
def test_a_killed_replica_costs_no_request(endpoint: Endpoint, restorer: Restorer) -> None:
    image, query = random_u8(300, 300), "?expert=0"
    expected = restorer.restore(image, Wish(expert=0)).image
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(endpoint.restore_until_done, image, query) for _ in range(30)]
        time.sleep(0.3)
        os.kill(titled(os.getpid(), ":pool-experts")[0], signal.SIGKILL)
        for each in asked:
            assert np.array_equal(each.result()[0], expected)
