"""What an endpoint does not let through: strangers, other sites, too much, too slow, too late."""

import asyncio
import base64
import hashlib
import struct
import threading
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest

from expertree.errors import ConfigError
from expertree.images.io import encode_png
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving import (
    HttpConfig,
    Key,
    Limits,
    LocalEngine,
    check_binding,
    create_app,
)
from expertree.serving.http.keys import Authenticator
from expertree.serving.http.problems import ProblemError
from expertree.serving.metrics import Measurement


def key(name: str, token: str, **limits: Any) -> Key:
    return Key(name=name, sha256=hashlib.sha256(token.encode()).hexdigest(), **limits)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def claiming(width_px: int, height_px: int) -> bytes:
    """A PNG of 65 bytes or so that claims to be large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


@pytest.fixture
def ask_with(asker: Any, restorer: Restorer) -> Any:
    """Asks an application with a configuration of its own."""

    def make(config: HttpConfig, **parts: Any) -> Any:
        return asker(create_app(LocalEngine(restorer), config, **parts))

    return make


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_keys(host: str) -> None:
    check_binding(HttpConfig(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_nothing_beyond_loopback_is_bound_without_keys(host: str) -> None:
    with pytest.raises(ConfigError, match="allow_without_keys"):
        check_binding(HttpConfig(host=host))
    check_binding(HttpConfig(host=host, keys=(key("alice", "secret"),)))
    check_binding(HttpConfig(host=host, allow_without_keys=True))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(""),
        {"Authorization": "Basic c2VjcmV0"},
        {"Authorization": "secret"},
        {"Authorization": "Bearer"},
        bearer("x" * 100_000),
        {"Authorization": b"Bearer \xff\xfe"},
    ],
)
def test_without_a_right_key_there_is_no_answer(
    ask_with: Any, headers: dict[str, Any], png: bytes
) -> None:
    ask = ask_with(HttpConfig(keys=(key("alice", "secret"), key("bob", "other"))))
    for method, path in (("POST", "/v1/restore"), ("GET", "/v1/models"), ("GET", "/v1/jobs/x")):
        response = ask(method, path, content=png, headers=headers)
        ask.problem(response, 401, "no-key")
        assert response.headers["www-authenticate"] == "Bearer"
    for token in ("secret", "other"):
        assert ask("GET", "/v1/models", headers=bearer(token)).status_code == 200
    for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json"):
        assert ask("GET", path, headers=headers).status_code == 200


def test_every_key_is_compared_by_its_whole_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(a: str, b: str) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr("expertree.serving.http.keys.hmac.compare_digest", compare)
    keys = (key("alice", "secret"), key("bob", "other"))
    assert Authenticator(keys).authenticate("bearer secret") == keys[0]
    assert [pair[0] for pair in compared] == [own.sha256 for own in keys]
    assert all(len(b) == 64 for _, b in compared)


def test_a_key_has_its_requests_a_minute_and_then_waits() -> None:
    now = 0.0
    alice = key("alice", "secret", requests_per_minute=2)
    keeper = Authenticator((alice,), clock=lambda: now)
    for _ in range(2):
        with keeper.admitted(alice):
            pass
    with pytest.raises(ProblemError) as refused, keeper.admitted(alice):
        pass
    assert refused.value.kind == "overload"
    assert refused.value.headers["Retry-After"] == "30"
    now = 30.0
    with keeper.admitted(alice):
        pass


def test_a_key_has_its_requests_at_a_time() -> None:
    alice, bob = key("alice", "secret", max_concurrent=1), key("bob", "other")
    keeper = Authenticator((alice, bob))
    with keeper.admitted(alice):
        with pytest.raises(ProblemError), keeper.admitted(alice):
            pass
        with keeper.admitted(bob):
            pass
    with keeper.admitted(alice):
        pass


def test_pages_of_other_sites_may_ask_only_where_they_are_listed(ask_with: Any, png: bytes) -> None:
    ask = ask_with(HttpConfig(cors_origins=("https://friend.example",)))
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        response = ask("POST", "/v1/restore", content=png, headers={"Origin": origin})
        ask.problem(response, 403, "forbidden")
        assert "access-control-allow-origin" not in response.headers
    own = ask("POST", "/v1/restore", content=png, headers={"Origin": "http://localhost"})
    assert own.status_code == 200
    friend = ask("POST", "/v1/restore", content=png, headers={"Origin": "https://friend.example"})
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    exposed = friend.headers["access-control-expose-headers"].split(", ")
    assert {"X-Restore-Route", "Server-Timing", "Location"} <= set(exposed)
    preflight = {
        "Origin": "https://friend.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    assert ask("OPTIONS", "/v1/restore", headers=preflight).status_code == 200


def test_a_name_that_was_made_to_point_here_is_refused(ask_with: Any, png: bytes) -> None:
    ask = ask_with(HttpConfig())
    for host in ("evil.example", "evil.example:8000", "[::1", ""):
        response = ask("POST", "/v1/restore", content=png, headers={"Host": host})
        ask.problem(response, 403, "forbidden")
    for host in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert ask("GET", "/v1/models", headers={"Host": host}).status_code == 200
    keyed = ask_with(HttpConfig(keys=(key("alice", "secret"),)))
    named = {"Host": "restore.example", **bearer("secret")}
    assert keyed("GET", "/v1/models", headers=named).status_code == 200


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
    ("body", "content_type"),
    [
        (b"", "image/png"),
        (b"{", "application/json"),
        (b"[1]", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"image": 5}', "application/json"),
        (b'{"image": "###"}', "application/json"),
        (b'{"image": "", "image": ""}', "application/json"),
        (b"\xff\xfe{", "application/json"),
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary=a"),
        (b"--a\r\n\r\nx\r\n--a--\r\n", "multipart/form-data; boundary=a"),
        (
            b'--a\r\nContent-Disposition: form-data; name="image"\r\n\r\nx',
            "multipart/form-data; boundary=a",
        ),
        (
            b'--a\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--a--\r\n',
            "multipart/form-data; boundary=a",
        ),
        (
            b'--a\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"x" * 9000 + b"\r\n--a--",
            "multipart/form-data; boundary=a",
        ),
    ],
)
def test_a_body_that_is_not_what_it_says_is_named(
    ask_with: Any, body: bytes, content_type: str
) -> None:
    ask = ask_with(HttpConfig())
    headers = {"Content-Type": content_type}
    ask.problem(ask("POST", "/v1/route", content=body, headers=headers), 400, "bad-request")


def test_the_kind_of_an_image_is_in_its_bytes_and_not_in_a_header(
    ask_with: Any, png: bytes
) -> None:
    ask = ask_with(HttpConfig())
    for kind in ("image/jpeg", "text/plain", "application/x-www-form-urlencoded"):
        response = ask("POST", "/v1/route", content=png, headers={"Content-Type": kind})
        assert response.status_code == 200
    fake = ask("POST", "/v1/route", content=b"GIF89a", headers={"Content-Type": "image/png"})
    ask.problem(fake, 415, "unsupported-format")
    ask.problem(ask("POST", "/v1/route", content=png[:-30]), 422, "bad-image")


def test_options_of_json_are_checked_like_all_others(ask_with: Any, png: bytes) -> None:
    ask = ask_with(HttpConfig())
    image = base64.b64encode(png).decode()
    for own in ({"levl": 1}, {"level": [1]}, {"level": {"a": 1}}, {"tile": 1.5}, {"level": True}):
        response = ask("POST", "/v1/restore", json={"image": image, **own})
        ask.problem(response, 422, "bad-option")
    good = {"image": image, "instruction": ["rain", "noise"], "level": None, "explain": False}
    assert ask("POST", "/v1/route", json=good).status_code == 200
