"""A served application for tests, and a client that behaves."""

import itertools
import socket
import time
from pathlib import Path

import numpy as np

from expertree.benchmarks.client import Answer, Client
from expertree.benchmarks.fresh import fresh_bundle
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.images.io import decode_u8, encode_png
from expertree.orchestration.serving.app import RunningApplication
from expertree.serving.deployments import (
    GatewayConfig,
    PoolConfig,
    RouterReplicas,
    ServeConfig,
)
from expertree.serving.settings import HttpConfig
from expertree.storage import Storage

SMALL = NAFNetConfig(width=4, encoder=(1, 1), decoder=(1, 1))


class Endpoint:
    """A served application, and a client of it."""

    def __init__(self, running: RunningApplication) -> None:
        self.running = running

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        with Client(self.running.url, timeout_s=120.0) as client:
            return client.ask(method, path, body)

    def restore(self, image: np.ndarray, query: str = "") -> Answer:
        return self.ask("POST", f"/v1/restore{query}", encode_png(image))

    def restore_until_done(self, image: np.ndarray, query: str = "") -> tuple[np.ndarray, int]:
        """As a client should: come again when told so. The image, and how often it was told."""
        for tries in itertools.count():
            answer = self.restore(image, query)
            if answer.status == 200:
                return decode_u8(answer.body), tries
            assert answer.status in {429, 503}, answer.body
            assert answer.headers["Content-Type"] == "application/problem+json"
            time.sleep(float(answer.headers["Retry-After"]))
        raise AssertionError


def config_of(bundle: str, port: int) -> ServeConfig:
    return ServeConfig(
        bundle=bundle,
        http=HttpConfig(port=port),
        num_cores=1,
        gateway=GatewayConfig(num_cpus=0.1, retry_after_s=0.2),
        router=RouterReplicas(num_cpus=0.1),
        pools=(PoolConfig(num_cpus=0.1, max_ongoing_requests=4, max_queued_requests=4),),
    )


def two_bundles(folder: Path) -> list[str]:
    """Two bundles with other experts each."""
    places = {seed: Storage.open(folder / f"bundle-{seed}") for seed in (1, 2)}
    return [fresh_bundle(place, SMALL, seed=seed).uri for seed, place in places.items()]


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
