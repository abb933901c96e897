"""A stand-in for W&B's server: the part of its HTTP API that wandb 0.31 calls, kept in lists."""

import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ENTITY = "lab"
PROJECT = {"id": "p1", "name": "expertree", "entity": {"id": "e1", "name": ENTITY}}


class WandbServer(ThreadingHTTPServer):
    """Answers what wandb asks, and remembers it.

    Attributes:
        calls: Name and variables of each GraphQL operation, in order.
        streamed: For each run id what was streamed to it, one dictionary a request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.streamed: dict[str, list[dict[str, Any]]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def called(self, name: str) -> list[dict[str, Any]]:
        return [variables for called, variables in self.calls if called == name]

    def history(self, run: str) -> list[dict[str, Any]]:
        """Lines of a run's history, W&B's own fields left out."""
        lines = [
            json.loads(line)
            for request in self.streamed.get(run, [])
            for line in request.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
        ]
        return [{k: v for k, v in line.items() if not k.startswith("_")} for line in lines]


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def do_POST(self) -> None:
        data = self._body()
        if self.path.startswith("/sdk/otel"):  # how wandb itself fares, not in JSON
            self._answer({})
            return
        body = json.loads(data or b"{}")
        if self.path.endswith("/graphql"):
            self._answer({"data": self._graphql(body)})
        else:
            run = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
            assert run, f"wandb posts to {self.path}, which the stand-in does not know"
            self.server.streamed.setdefault(run[1], []).append(body)
            self._answer({})

    def do_PUT(self) -> None:
        self._body()
        self._answer({})

    def do_GET(self) -> None:
        self._answer({})

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        return data

    def _answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        found = re.search(r"(?:query|mutation)\s+(\w+)", body["query"])
        name = found[1] if found else "anonymous"
        variables = body.get("variables") or {}
        self.server.calls.append((name, variables))
        answer = ANSWERS.get(name)
        return answer(self.server, variables) if answer else {}


def _viewer(_: WandbServer, __: dict[str, Any]) -> dict[str, Any]:
    viewer = {"id": "u1", "entity": ENTITY, "username": "someone", "flags": "{}", "admin": False}
    more = {"name": "Someone", "email": "", "deletedAt": None, "apiKeys": {"edges": []}}
    return {"viewer": {**viewer, **more, "teams": {"edges": []}}}


def _run(_: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    bucket = {
        "id": f"bucket-{variables.get('name')}",
        "name": variables.get("name"),
        "displayName": variables.get("displayName"),
        "description": "",
        "config": variables.get("config"),
        "sweepName": variables.get("sweep"),
        "historyLineCount": 0,
        "project": PROJECT,
    }
    return {"upsertBucket": {"bucket": bucket, "inserted": True}}


def _sweep(server: WandbServer, _: dict[str, Any]) -> dict[str, Any]:
    name = f"sweep{len(server.called('UpsertSweep'))}"
    return {
        "upsertSweep": {"sweep": {"name": name, "project": PROJECT}, "configValidationWarnings": []}
    }


def _files(_: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {
        "createRunFiles": {
            "runID": variables.get("run"),
            "uploadHeaders": [],
            "files": [{"name": name, "uploadUrl": ""} for name in variables.get("files", [])],
        }
    }


ANSWERS: dict[str, Callable[[WandbServer, dict[str, Any]], dict[str, Any]]] = {
    "Viewer": _viewer,
    "GetDefaultEntity": _viewer,
    "UpsertBucket": _run,
    "UpsertSweep": _sweep,
    "CreateRunFiles": _files,
    "RunResumeStatus": lambda *_: {"model": {"bucket": None}},
    "ServerFeaturesQuery": lambda *_: {"serverInfo": {"features": []}},
    "UpsertView2": lambda _, variables: {
        "upsertView": {"view": {"id": "v1", "name": variables["name"]}, "inserted": True}
    },
}


@pytest.fixture
def wandb_server() -> Iterator[WandbServer]:
    server = WandbServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def private_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's W&B is used: no key, no settings, no folder."""
    for name in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb-home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    # A run is offline because our default says so, and not because the environment does.
    for name in ("MODE", "API_KEY", "BASE_URL", "IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
