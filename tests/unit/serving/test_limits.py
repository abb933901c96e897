"""What an endpoint does not let through: too much, too slow, too late."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from callers import claiming
from expertree.images.containers import Header, read_header
from expertree.images.io import encode_png
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving import (
    HttpConfig,
    Limits,
    LocalEngine,
    create_app,
)
from expertree.serving.metrics import Measurement


def test_a_body_is_counted_while_it_comes_in(ask_with: Any, png: bytes) -> None:
    ask = ask_with(HttpConfig(limits=Limits(max_body_bytes=len(png))))
    assert ask("POST", "/v1/route", content=png).status_code == 200
    ask.problem(ask("POST", "/v1/route", content=png + b"x"), 413, "too-large")
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += len(png)
            yield png

    ask.problem(ask("POST", "/v1/route", content=chunks()), 413, "too-large")
    assert sent <= 3 * len(png)


def test_a_slow_body_is_given_up(ask_with: Any, png: bytes) -> None:
    limits = Limits(body_grace_s=0.05, min_body_bytes_per_s=1 << 20)
    ask = ask_with(HttpConfig(limits=limits))

    async def drops() -> AsyncIterator[bytes]:
        for letter in png:
            yield bytes([letter])
            await asyncio.sleep(0.02)

    ask.problem(ask("POST", "/v1/route", content=drops()), 408, "slow-body")


def test_pixels_are_counted_before_they_are_decoded(ask_with: Any) -> None:
    ask = ask_with(HttpConfig())
    for file in (claiming(9000, 9000), claiming(2**31 - 1, 2**31 - 1)):
        content = ask.problem(ask("POST", "/v1/restore", content=file), 413, "too-many-pixels")
        assert "50,000,000" in content["detail"]
    ask.problem(ask("POST", "/v1/jobs", content=claiming(9000, 9000)), 413, "too-many-pixels")


def test_a_large_image_is_not_restored_without_tiles(ask_with: Any, png: bytes) -> None:
    ask = ask_with(HttpConfig())
    large = claiming(1025, 1)
    for path in ("/v1/restore?tile=0", "/v1/jobs?tile=0"):
        content = ask.problem(ask("POST", path, content=large), 422, "bad-option")
        assert "at most 1024" in content["detail"]
    assert ask("POST", "/v1/restore?tile=0", content=png).status_code == 200


def test_what_takes_too_long_is_stopped(asker: Any, restorer: Restorer, png: bytes) -> None:
    stopped = threading.Event()

    class Slow(LocalEngine):
        async def route(self, pixels: Any, wish: Wish) -> Any:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stopped.set()
                raise
            return await super().route(pixels, wish)

    config = HttpConfig(limits=Limits(deadline_s=0.05))
    ask = asker(create_app(Slow(restorer), config))
    ask.problem(ask("POST", "/v1/route", content=png), 504, "deadline")
    assert stopped.is_set()


def test_a_caller_who_leaves_stops_the_work(restorer: Restorer, png: bytes) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()
    measured: list[Measurement] = []

    class Slow(LocalEngine):
        async def restore(self, pixels: Any, wish: Wish, *, on_tile: Any = None) -> Any:
            begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stopped.set()
                raise
            return await super().restore(pixels, wish, on_tile=on_tile)

    class Metrics:
        def record(self, measurement: Measurement) -> None:
            measured.append(measurement)

    app = create_app(Slow(restorer), HttpConfig(), metrics=Metrics())
    bodies = [{"type": "http.request", "body": png, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if bodies:
            return bodies.pop()
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/restore",
        "raw_path": b"/v1/restore",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def ask() -> None:
        await app(scope, receive, send)
        await asyncio.wait_for(stopped.wait(), 5)

    asyncio.run(ask())
    assert [own.code for own in measured] == [499]


def test_overload_says_when_to_come_again(asker: Any, restorer: Restorer, png: bytes) -> None:
    ask = asker(create_app(LocalEngine(restorer, max_queued=1), HttpConfig()))

    async def many() -> list[httpx.Response]:
        async with ask.client() as client:
            calls = (client.post("/v1/restore", content=png) for _ in range(6))
            return await asyncio.gather(*calls)

    answers = asyncio.run(many())
    assert {answer.status_code for answer in answers} == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            ask.problem(answer, 429, "overload")
            assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/v1/restore", "/v1/route"])
def test_no_header_is_read_where_others_are_answered(
    ask: Any, png: bytes, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def read(data: bytes) -> Header:
        threads.append(threading.current_thread().name)
        return read_header(data)

    monkeypatch.setattr("expertree.serving.service.read_header", read)
    assert ask("POST", path, content=png).status_code == 200
    assert threads
    assert all(name.startswith("header") for name in threads)


def test_images_in_work_are_bounded_in_memory(ask_with: Any) -> None:
    image = encode_png(np.zeros((200, 200, 3), dtype=np.uint8))
    ask = ask_with(HttpConfig(limits=Limits(max_memory_bytes=1_500_000)))

    async def two() -> list[httpx.Response]:
        async with ask.client() as client:
            calls = (client.post("/v1/restore", content=image) for _ in range(2))
            return await asyncio.gather(*calls)

    assert sorted(answer.status_code for answer in asyncio.run(two())) == [200, 429]
    assert ask("POST", "/v1/restore", content=image).status_code == 200  # all given back


def test_requests_are_measured_by_route_and_expert(
    ask_with: Any, restorer: Restorer, photo: np.ndarray, png: bytes
) -> None:
    measured: list[Measurement] = []

    class Metrics:
        def record(self, measurement: Measurement) -> None:
            measured.append(measurement)

    ask = ask_with(HttpConfig(), metrics=Metrics())
    ask("POST", "/v1/restore", content=png)
    ask("POST", "/v1/restore?level=9", content=png)
    ask("GET", "/v1/models/nobody")
    ask("GET", "/nothing")
    assert [(own.method, own.endpoint, own.code) for own in measured] == [
        ("POST", "/v1/restore", 200),
        ("POST", "/v1/restore", 422),
        ("GET", "/v1/models/{model_id}", 404),
        ("GET", "", 404),
    ]
    route = restorer.route(photo)
    assert (measured[0].expert, measured[0].level) == (route.expert, route.level)
    assert measured[0].num_pixels == photo.shape[0] * photo.shape[1]
    assert list(measured[0].stages) == ["decode", "queue", "route", "restore", "encode"]


@pytest.mark.parametrize(
    ("query", "detail"), [("quality=90", "without loss"), ("format=jpeg", "JPEG cannot hold")]
)
def test_a_file_that_cannot_be_written_is_refused_before_an_expert_runs(
    restorer: Restorer, asker: Any, query: str, detail: str
) -> None:
    num_runs: list[int] = []

    class Counting(LocalEngine):
        async def restore(self, *arguments: Any, **more: Any) -> Any:
            num_runs.append(1)
            return await super().restore(*arguments, **more)

    ask = asker(create_app(Counting(restorer), HttpConfig()))
    _, encoded = cv2.imencode(".png", np.full((9, 9, 4), 7, dtype=np.uint8))
    refused = ask("POST", f"/v1/restore?{query}", content=encoded.tobytes())
    assert detail in ask.problem(refused, 422, "bad-option")["detail"]
    assert num_runs == []


def test_a_quality_of_a_format_without_loss_is_refused_where_a_job_is_asked_for(
    ask: Any, png: bytes
) -> None:
    for query in ("quality=90", "quality=90&format=tiff"):
        refused = ask("POST", f"/v1/jobs?{query}", content=png)
        assert "without loss" in ask.problem(refused, 422, "bad-option")["detail"]
    assert ask("POST", "/v1/jobs?quality=90&format=webp", content=png).status_code == 202
