"""Load test of a served bundle: mixed images, invalid requests, replicas killed, one update."""

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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from expertree.benchmarks.client import Answer, Client
from expertree.benchmarks.fresh import fresh_bundle
from expertree.benchmarks.processes import family, num_bytes, titled
from expertree.experts.backbones import Backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.images.io import decode_u8, encode_png
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
from expertree.storage import Storage

SIZES = ((1, 1), (1, 200), (8, 120), (64, 64), (100, 130), (150, 90), (200, 200))
"""Height and width of the images."""

QUERIES = ("", "?level=0", "?expert=0", "?expert=3", "?tile=96", "?confidence=2")

TOO_MANY = (429, 503)
MAX_TRIES = 200

_DRAINED_S = 60.0
"""Seconds that the old bundle's replicas may take to end."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadConfig:
    """The size of the load test."""

    num_requests: int = 10_000
    """Requests in all; one in eight is invalid."""

    concurrency: int = 32
    """Callers at a time."""

    num_kills: int = 2
    """Replicas of experts that are killed during the test."""

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
        cases, nonsense = _cases(bundles), _nonsense()
        tally, memory = _Tally(), dict[str, float]()
        with serving(_served(config, bundles[0])) as running:
            begin = time.perf_counter()
            events = threading.Thread(
                target=_disturb, args=(config, running, bundles[1], tally, memory)
            )
            events.start()
            with ThreadPoolExecutor(config.concurrency) as pool:
                for share in _shares(config, cases, nonsense):
                    pool.submit(_call, running.url, share, tally)
            seconds = time.perf_counter() - begin
            events.join()
            memory["end_gib"] = _memory_gib()
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
        "updated": status.serving == bundles[1],
        "update_problem": status.problem,
        "num_kills": config.num_kills,
        "memory": {name: round(value, 3) for name, value in memory.items()},
    }


def _served(config: LoadConfig, bundle: str) -> ServeConfig:
    return ServeConfig(
        bundle=bundle,
        http=HttpConfig(port=config.port),
        num_cores=1,
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


def _shares(config: LoadConfig, cases: list[_Case], nonsense: list[_Case]) -> Iterator[list[_Case]]:
    """Yield the requests of each caller."""
    choose = random.Random(0)  # noqa: S311 - nothing is secret
    drawn = [
        choose.choice(nonsense if number % 8 == 7 else cases)
        for number in range(config.num_requests)
    ]
    for caller in range(config.concurrency):
        yield drawn[caller :: config.concurrency]


def _call(url: str, share: list[_Case], tally: _Tally) -> None:
    """Send one caller's requests one after the other, each again when the server says so."""
    for case in share:
        try:
            _ask(url, case, tally)
        except (OSError, http.client.HTTPException, ValueError) as error:
            tally.done(case, f"{type(error).__name__}: {error}")


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


def _disturb(
    config: LoadConfig,
    running: RunningApplication,
    bundle: str,
    tally: _Tally,
    memory: dict[str, float],
) -> None:
    """Measure memory after a tenth, update at half, kill at even distances, and print progress.

    Returns when the last request is answered, the update is over and the old bundle is gone.
    """
    update = threading.Thread(target=running.update, args=(bundle,))
    kills = [(n + 1) / (config.num_kills + 1.5) for n in range(config.num_kills)]
    tenths = [(n / 10, "say") for n in range(1, 11)]
    events = [(0.1, "measure"), (0.5, "update"), *((share, "kill") for share in kills)]
    for share, event in sorted([*events, *tenths]):
        while tally.num_done < share * config.num_requests:
            time.sleep(0.05)
        if event == "measure":
            memory["begin_gib"] = _memory_gib()
        elif event == "update":
            update.start()
        elif event == "say":
            sys.stderr.write(f"{tally.num_done} done, {len(tally.wrong)} of them wrong\n")
        else:
            os.kill(_replicas()[0], signal.SIGKILL)
    update.join()
    deadline_s = time.monotonic() + _DRAINED_S
    while len(_replicas()) > config.num_replicas and time.monotonic() < deadline_s:
        time.sleep(0.5)


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
