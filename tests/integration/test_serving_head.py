"""The head of an endpoint's cluster is lost and comes again, with the cluster's state in Redis."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import yaml

from expertree import Restorer
from expertree.benchmarks.client import Client
from expertree.images.io import decode_u8, encode_png
from expertree.routing import Wish
from photographs import random_u8
from served import free_port, two_bundles

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not here"),
]

AWAY_S = 8.0


class Asking:
    """A client that asks one question again and again, and connects anew where it is cut off."""

    def __init__(self, url: str, image: np.ndarray, query: str = "") -> None:
        self.answers: list[tuple[float, int, bytes]] = []
        self.num_cut_off = 0
        self._url, self._path, self._body = url, f"/v1/restore{query}", encode_png(image)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            try:
                with Client(self._url, timeout_s=60.0) as client:
                    answer = client.ask("POST", self._path, self._body)
            except OSError:
                self.num_cut_off += 1
            else:
                self.answers.append((time.monotonic(), answer.status, answer.body))

    def statuses(self, since_s: float = 0.0) -> set[int]:
        return {status for at_s, status, _ in self.answers if at_s >= since_s}


def settings(bundle: str, port: int) -> dict[str, Any]:
    """What `serve deploy` is given: `serve/production.yaml`, small."""
    little = {"num_cpus": 0.1}
    arguments = {
        "http": {"port": port},
        "gateway": little,
        "router": little,
        "pools": [{"name": "experts", "num_cpus": 0.1}],
    }
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [
            {
                "name": "expertree",
                "route_prefix": "/",
                "import_path": "expertree.orchestration.serving.app:build",
                "args": arguments,
                "deployments": [{"name": "control", "user_config": {"bundle": bundle}}],
            }
        ],
    }


def deploy(cluster: Any, folder: Path, bundle: str, port: int) -> None:
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(settings(bundle, port)))
    done = cluster.run("serve", "deploy", str(file), "--address", cluster.dashboard)
    assert done.returncode == 0, done.stdout + done.stderr


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.2)


def model_of(url: str) -> Any:
    """Return the digest of what is served; None while nothing is."""
    try:
        with Client(url, timeout_s=30.0) as client:
            answer = client.ask("GET", "/v1/models")
    except OSError:
        return None
    return json.loads(answer.body)["models"][0]["digest"] if answer.status == 200 else None


def are_proxies_healthy(cluster: Any, count: int) -> bool:
    """Return whether that many proxies take requests, as a balancer before them would find."""
    proxies = cluster.get("/api/serve/applications/")["proxies"].values()
    return [each["status"] for each in proxies] == ["HEALTHY"] * count


def test_requests_are_answered_while_the_head_is_away_and_updates_go_on_after(
    cluster_in_redis: Any, tmp_path: Path
) -> None:
    bundles = two_bundles(tmp_path)
    first, second = (Restorer.load(bundle) for bundle in bundles)
    cluster, port = cluster_in_redis, free_port()
    url, image = f"http://127.0.0.1:{port}", random_u8(48, 64)
    deploy(cluster, tmp_path, bundles[0], port)
    wait_until(
        lambda: model_of(url) == first.bundle.manifest.digest,
        timeout_s=300,
        what="the first bundle is served",
    )
    wait_until(lambda: are_proxies_healthy(cluster, 2), timeout_s=60, what="both proxies serve")
    # Nothing was asked before: no proxy and no gateway knows its replicas from earlier requests.
    cluster.nodes[0].kill()
    lost_s = time.monotonic()
    with Asking(url, image, "?expert=0") as told, Asking(url, image) as untold:
        time.sleep(AWAY_S)
        while_away = [each.statuses(lost_s) for each in (told, untold)]
        # A new machine does not remember that it is in a cluster already.
        (cluster.folder / "ray_current_cluster").unlink(missing_ok=True)
        head = cluster.start_head(num_cpus=0)
        back_s = time.monotonic()
        wait_until(
            lambda: all(each.statuses(back_s + 5.0) == {200} for each in (told, untold)),
            timeout_s=240,
            what="answers after",
        )
    for asking, wish in ((told, Wish(expert=0)), (untold, Wish())):
        print(f"{len(asking.answers)} answers, {asking.num_cut_off} cut off, away {while_away}")
        assert asking.statuses() == {200}
        expected = first.restore(image, wish).image
        for _, _, body in asking.answers:
            assert np.array_equal(decode_u8(body), expected)
    assert while_away == [{200}, {200}]
    assert head.process.poll() is None
    deploy(cluster, tmp_path, bundles[1], port)
    wait_until(
        lambda: model_of(url) == second.bundle.manifest.digest,
        timeout_s=300,
        what="the second bundle is served",
    )
