"""A bundle in a repository: one commit, every hash, fetched once, by the protocol of the Hub."""

import hashlib
import http.server
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from expertree.errors import ArtefactError, StorageError, TransientStorageError
from expertree.restorer import Restorer, find_bundle
from expertree.restorer import hub as hub_module
from expertree.restorer.hub import fetch_bundle

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "somebody/tree"


class Hub(http.server.ThreadingHTTPServer):
    """A repository with one commit, whose files lie in a folder; counts what is downloaded."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.changed, self.downloads = folder, {}, []
        self.cut, self.status = "", 200

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that are cut."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.server.downloads.append(self.path)
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        start = f"/{REPOSITORY}/resolve/{COMMIT}/"
        path = self.server.folder / self.path.removeprefix(start)
        if not self.path.startswith(start):
            self.refuse("RepoNotFound")
        elif not path.is_file():
            self.refuse("EntryNotFound")
        else:
            name = self.path.removeprefix(start)
            data = self.server.changed.get(name, path.read_bytes())
            self.send_response(self.server.status)
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if with_body and name == self.server.cut:
                self.reset_after(data[: len(data) // 2])
            elif with_body:
                self.wfile.write(data)

    def reset_after(self, data: bytes) -> None:
        self.wfile.write(data)
        time.sleep(0.1)
        at_once = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.connection.close()

    def refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(bundle_path)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    download, sleep = huggingface_hub.hf_hub_download, time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))  # the client's
    monkeypatch.setattr(
        huggingface_hub,
        "hf_hub_download",
        lambda *given, **named: download(
            *given, endpoint=server.url, cache_dir=tmp_path / "cache", **named
        ),
    )
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_repository_restores_as_its_bundle_does_and_is_fetched_once(
    hub: Hub, bundle_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    there = Restorer.from_pretrained(REPOSITORY, revision=COMMIT)
    here = Restorer.load(bundle_path)
    assert np.array_equal(there.restore(image).image, here.restore(image).image)
    assert len(hub.downloads) == 1 + len(here.bundle.manifest.files)
    again = find_bundle(f"hf://{REPOSITORY}@{COMMIT}")
    assert again.read_bytes("manifest.json") == (bundle_path / "manifest.json").read_bytes()
    assert len(hub.downloads) == 1 + len(here.bundle.manifest.files)
    digest = here.bundle.manifest.digest
    assert fetch_bundle(REPOSITORY, revision=COMMIT, digest=digest) == again
    with pytest.raises(ArtefactError, match="not cafe"):
        fetch_bundle(REPOSITORY, revision=COMMIT, digest="cafe")


def test_a_file_that_is_not_what_the_manifest_says_is_refused(hub: Hub) -> None:
    hub.changed["router/guide.json"] = b"{}"
    with pytest.raises(ArtefactError, match=r"guide.json has sha256"):
        fetch_bundle(REPOSITORY, revision=COMMIT)


def test_a_manifest_reaches_for_nothing_outside(hub: Hub, bundle_path: Path) -> None:
    manifest = json.loads((bundle_path / "manifest.json").read_text())
    manifest["files"]["../../escaped.json"] = {"sha256": "0" * 64, "num_bytes": 1}
    hub.changed["manifest.json"] = json.dumps(manifest).encode()
    with pytest.raises(ArtefactError, match="escaped"):
        fetch_bundle(REPOSITORY, revision=COMMIT)
    assert len(hub.downloads) == 1


def test_what_is_not_there_is_said(hub: Hub) -> None:
    with pytest.raises(ArtefactError, match="there is no somebody/else"):
        fetch_bundle("somebody/else", revision=COMMIT)
    hub.folder = hub.folder / "experts"
    with pytest.raises(ArtefactError, match=r"has no manifest.json"):
        fetch_bundle(REPOSITORY, revision=COMMIT)


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:12], COMMIT.upper()])
def test_a_revision_that_may_move_is_refused(revision: str) -> None:
    with pytest.raises(ValueError, match="40 hexadecimal digits"):
        fetch_bundle(REPOSITORY, revision=revision)
    with pytest.raises(ArtefactError, match="40"):
        find_bundle(f"hf://{REPOSITORY}@{revision}")


def test_a_hub_that_cannot_be_reached_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(StorageError, match="cannot be reached") as told:
        hub_module.fetch_bundle(REPOSITORY, revision=COMMIT)
    assert not isinstance(told.value, TransientStorageError)  # nobody but the user changes that


def test_a_connection_that_is_cut_may_hold_another_time(hub: Hub) -> None:
    hub.cut = "experts/000/expert.safetensors"
    with pytest.raises(TransientStorageError, match=f"{REPOSITORY} cannot be fetched"):
        fetch_bundle(REPOSITORY, revision=COMMIT)
    hub.cut = ""
    assert fetch_bundle(REPOSITORY, revision=COMMIT).exists("manifest.json")


def test_a_hub_that_is_away_may_be_back_later(hub: Hub) -> None:
    hub.shutdown()  # else the first request is still accepted by its loop, and reset
    hub.server_close()
    with pytest.raises(TransientStorageError, match="the Hub cannot be reached"):
        fetch_bundle(REPOSITORY, revision=COMMIT)


@pytest.mark.parametrize(("status", "passes"), [(503, True), (403, False)])
def test_what_the_hub_answers_says_whether_it_passes(hub: Hub, status: int, passes: bool) -> None:
    hub.status = status
    with pytest.raises(StorageError) as told:
        fetch_bundle(REPOSITORY, revision=COMMIT)
    assert isinstance(told.value, TransientStorageError) == passes


def test_a_proxy_that_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class ProxyError(huggingface_hub.errors.HTTPError):
        """As the library for HTTP names it."""

    def refuse(*_: object, **__: object) -> None:
        raise ProxyError("")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(TransientStorageError, match="ProxyError"):
        fetch_bundle(REPOSITORY, revision=COMMIT)
