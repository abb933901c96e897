"""Load test of a served bundle: mixed and invalid requests while replicas and nodes go.

Replicas are killed, the bundle is exchanged, and a node is drained and taken away.
"""

import contextlib
import dataclasses
import hashlib
import http.client
import itertools
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from expertree.benchmarks.client import Answer, Client
from expertree.benchmarks.fresh import fresh_bundle
from expertree.benchmarks.processes import family, num_bytes, titled
from expertree.experts.backbones import Backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.images.io import decode_u8, encode_png
from expertree.orchestration.local_nodes import LocalNodes, local_nodes
from expertree.orchestration.serving.app import RunningApplication, serving
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving.deployments import (
    GatewayConfig,
    PoolConfig,
    RouterReplicas,
    ServeConfig,
)
from expertree.serving.settings import HttpConfig
from expertree.serving.updates import UpdateStatus
from expertree.storage import Storage

SIZES = ((1, 1), (1, 200), (8, 120), (64, 64), (100, 130), (150, 90), (200, 200))
"""Height and width of the images."""

QUERIES = ("", "?level=0", "?expert=0", "?expert=3", "?tile=96", "?confidence=2")

TOO_MANY = (429, 503)
MAX_TRIES = 200

_DRAINED_S = 60.0
"""Seconds that the old bundle's replicas, and those of a drained node, may take to end."""

_CPUS, _STORE_BYTES = 4, 256 * 2**20
"""What each node says it has."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadConfig:
    """The size of the load test."""

    num_requests: int = 10_000
    """Requests in all; one in eight is invalid."""

    concurrency: int = 32
    """Callers at a time."""

    num_kills: int = 2
    """Replicas of experts that are killed during the test."""

    num_updates: int = 2
    """Times that the other of two bundles is served, without a pause for requests."""

    num_drained: int = 1
    """Nodes whose end is announced, and that go when another has come."""

    num_nodes: int = 2
    """Nodes of this machine that work, beside a head that does not."""

    num_replicas: int = 2
    """Replicas of experts."""

    backbone: Backbone = NAFNetConfig(width=4, encoder=(1, 1), decoder=(1, 1))
    """The experts' network: small, so that most of the time goes into what surrounds it."""

    port: int = 8766
    """Port to serve on."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """A request, and the answer that it must get.

    Attributes:
        path: Path with its query.
        body: Body that is posted.
        hashes: Hashes of the right pixels by digest of the model; empty if a 4xx must come.
    """

    path: str
    body: bytes
    hashes: Mapping[str, str]


class _Tally:
    """Counts of what all requests led to; many threads may use it."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.num_done = 0
        self.models: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, code: int) -> None:
        with self._lock:
            self.codes[str(code)] += 1

    def done(self, case: _Case, problem: str | None, model: str | None = None) -> None:
        with self._lock:
            self.num_done += 1
            if model is not None:
                self.models[model] += 1
            if problem is not None:
                self.wrong.append(f"{case.path} ({len(case.body)} bytes): {problem}")


def measure_load(config: LoadConfig) -> dict[str, Any]:
    """Send all requests, kill replicas and update meanwhile, and check each image by its hash."""
    with tempfile.TemporaryDirectory() as folder:
        store = Storage.open(folder)
        bundles = [
            fresh_bundle(store.sub(str(seed)), config.backbone, seed=seed).uri for seed in (1, 2)
        ]
        shares, tally = _shares(config, _cases(bundles), _nonsense()), _Tally()
        with (
            _nodes(config) as nodes,
            serving(_served(config, bundles[0], nodes)) as running,
            ThreadPoolExecutor(config.concurrency) as pool,
        ):
            begin = time.perf_counter()
            calls = [pool.submit(_call, running.url, share, tally) for share in shares]
            disturbances = _Disturbances(config, running, nodes, bundles)
            disturbances.run(tally)
            seconds = max(call.result() for call in calls) - begin
            status = running.status()
    return {
        "benchmark": "load",
        "num_requests": config.num_requests,
        "num_done": tally.num_done,
        "num_wrong": len(tally.wrong),
        "wrong": tally.wrong[:5],
        "codes": dict(sorted(tally.codes.items())),
        "models": sorted(tally.models.values()),
        "rps": round(config.num_requests / seconds, 2),
        "updated": status.serving == bundles[config.num_updates % 2],
        "update_problem": status.problem,
        "num_updates": config.num_updates,
        "num_drained": config.num_drained,
        "num_kills": config.num_kills,
        "memory": {name: round(own, 3) for name, own in disturbances.memory.items()},
    }


@contextlib.contextmanager
def _nodes(config: LoadConfig) -> Iterator[LocalNodes]:
    with local_nodes(num_cpus=_CPUS, store_bytes=_STORE_BYTES) as nodes:
        for _ in range(config.num_nodes):
            nodes.join()
        yield nodes


def _served(config: LoadConfig, bundle: str, nodes: LocalNodes) -> ServeConfig:
    return ServeConfig(
        bundle=bundle,
        address=nodes.address,
        http=HttpConfig(port=config.port),
        gateway=GatewayConfig(num_cpus=0.1, retry_after_s=0.5),
        router=RouterReplicas(num_cpus=0.1),
        pools=(
            PoolConfig(
                num_cpus=0.1,
                min_replicas=config.num_replicas,
                max_replicas=config.num_replicas,
                max_ongoing_requests=4,
                max_queued_requests=16,
            ),
        ),
    )


def _cases(bundles: list[str]) -> list[_Case]:
    """Return requests with images and options, and the hashes of each bundle's `Restorer`."""
    restorers = {
        restorer.bundle.manifest.digest: restorer for restorer in map(Restorer.load, bundles)
    }
    cases = []
    rng = np.random.default_rng(0)
    for (height_px, width_px), query in itertools.product(SIZES, QUERIES):
        image = rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
        name, _, value = query.removeprefix("?").partition("=")
        options: dict[str, Any] = {}
        if query:
            options = {{"tile": "tile_px"}.get(name, name): int(value)}
        hashes = {
            digest: _hash(restorer.restore(image, Wish(**options)).image)
            for digest, restorer in restorers.items()
        }
        cases.append(_Case(path=f"/v1/restore{query}", body=encode_png(image), hashes=hashes))
    return cases


def _nonsense() -> list[_Case]:
    """Return requests that must be refused, each for another reason."""
    png = encode_png(np.zeros((32, 32, 3), dtype=np.uint8))
    huge = png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:]
    wrong = [
        ("/v1/restore", b""),
        ("/v1/restore", b"not an image"),
        ("/v1/restore", png[: len(png) // 2]),
        ("/v1/restore", huge),
        ("/v1/restore?level=99", png),
        ("/v1/restore?expert=99", png),
        ("/v1/restore?unknown=1", png),
        ("/v1/restore?instruction=zeppelin", png),
        ("/v1/nothing", png),
    ]
    return [_Case(path=path, body=body, hashes={}) for path, body in wrong]


def _shares(config: LoadConfig, cases: list[_Case], nonsense: list[_Case]) -> list[list[_Case]]:
    """Return the requests of each caller."""
    choose = random.Random(0)  # noqa: S311 - nothing is secret
    drawn = [
        choose.choice(nonsense if number % 8 == 7 else cases)
        for number in range(config.num_requests)
    ]
    return [drawn[caller :: config.concurrency] for caller in range(config.concurrency)]


def _call(url: str, share: list[_Case], tally: _Tally) -> float:
    """Send one caller's requests one after the other, each again when the server says so.

    Returns:
        When the last one was answered, as `time.perf_counter` counts.
    """
    for case in share:
        try:
            _ask(url, case, tally)
        except (OSError, http.client.HTTPException, ValueError) as error:
            tally.done(case, f"{type(error).__name__}: {error}")
    return time.perf_counter()


def _ask(url: str, case: _Case, tally: _Tally) -> None:
    for _ in range(MAX_TRIES):
        with Client(url) as client:
            answer = client.ask("POST", case.path, case.body)
        tally.count(answer.status)
        if answer.status not in TOO_MANY:
            tally.done(case, _problem(case, answer), answer.headers.get("X-Restore-Model"))
            return
        wait = answer.headers.get("Retry-After")
        if wait is None:
            tally.done(case, f"{answer.status} without Retry-After: {answer.body[:200]!r}")
            return
        time.sleep(float(wait))
    tally.done(case, f"refused {MAX_TRIES} times")


def _problem(case: _Case, answer: Answer) -> str | None:
    """Return what is wrong with an answer; None if nothing is."""
    model = answer.headers.get("X-Restore-Model")
    if not case.hashes:
        is_right = 400 <= answer.status < 500
        return None if is_right else f"{answer.status} for nonsense: {answer.body[:200]!r}"
    if answer.status != 200:
        return f"{answer.status}: {answer.body[:200]!r}"
    if case.hashes.get(model or "") != _hash(decode_u8(answer.body)):
        return f"another image than Restorer's, by model {model}"
    return None


class _Disturbances:
    """What happens while requests are sent; nodes must join in a process's main thread."""

    def __init__(
        self, config: LoadConfig, running: RunningApplication, nodes: LocalNodes, bundles: list[str]
    ) -> None:
        self.memory: dict[str, float] = {}
        self._config, self._running = config, running
        self._nodes, self._bundles = nodes, bundles
        self._updates: list[Future[UpdateStatus]] = []
        self._updating = ThreadPoolExecutor(1)

    def run(self, tally: _Tally) -> None:
        """Do what is due at each share of the requests, and print progress.

        Returns when the last request is answered, and what was exchanged is gone.
        """
        acts: dict[str, Callable[[], None]] = {
            "measure": self._measure,
            "update": self._update,
            "drain": self._drain,
            "kill": self._kill,
        }
        for share, event in _events(self._config):
            while tally.num_done < share * self._config.num_requests:
                time.sleep(0.05)
            if event in acts:
                acts[event]()
            sys.stderr.write(f"{event}: {tally.num_done} done, {len(tally.wrong)} of them wrong\n")
        with self._updating:
            for update in self._updates:
                update.result()
        self._take_leave()

    def _measure(self) -> None:
        self.memory["begin_gib"] = _memory_gib()

    def _update(self) -> None:
        bundle = self._bundles[(len(self._updates) + 1) % 2]
        self._updates.append(self._updating.submit(self._running.update, bundle))

    def _drain(self) -> None:
        self._nodes.join()
        self._nodes.drain(self._nodes.names[0], within_s=_DRAINED_S)

    def _kill(self) -> None:
        os.kill(_replicas()[0], signal.SIGKILL)

    def _take_leave(self) -> None:
        deadline_s = time.monotonic() + _DRAINED_S
        while len(_replicas()) > self._config.num_replicas and time.monotonic() < deadline_s:
            time.sleep(0.5)
        self._nodes.take_drained()
        self.memory["end_gib"] = _memory_gib()


def _events(config: LoadConfig) -> list[tuple[float, str]]:
    """Return what happens after which share of the requests, in order."""
    counts = {"update": config.num_updates, "drain": config.num_drained, "kill": config.num_kills}
    found = [(0.1, "measure"), *((n / 10, "so far") for n in range(1, 11))]
    for what, count in counts.items():
        found += [((n + 1) / (count + 1.5), what) for n in range(count)]
    return sorted(found)


def _replicas() -> list[int]:
    """Return the process numbers of the experts' replicas."""
    return titled(os.getpid(), ":pool-")


def _memory_gib() -> float:
    """Return the memory that Ray's processes below this one share with no other, in GiB."""
    statuses = family(os.getpid())
    own = [status for pid, status in statuses.items() if pid != os.getpid()]
    return sum(num_bytes(status.get("RssAnon", "0 kB")) for status in own) / 2**30


def _hash(image: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
