"""Whom an endpoint lets in: keys, other sites, names that were made to point here."""

from typing import Any

import pytest

from callers import bearer, key
from expertree.errors import ConfigError
from expertree.serving import (
    HttpConfig,
    check_binding,
)
from expertree.serving.http.keys import Authenticator
from expertree.serving.http.problems import ProblemError


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
