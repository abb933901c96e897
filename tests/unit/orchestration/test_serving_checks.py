"""What is wrong with serving a bundle here is said before a cluster starts."""

import contextlib
import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from expertree.errors import ArtefactError, ConfigError, ResourceError
from expertree.orchestration.serving import app
from expertree.serving.deployments import PoolConfig, ServeConfig, ServingConfig
from expertree.serving.settings import HttpConfig


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(_: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(app, "connect", started)
    monkeypatch.delitem(os.environ, "RAY_ADDRESS", raising=False)


def serve(bundle: Path, port: int = 0, **settings: object) -> None:
    config = ServeConfig(bundle=str(bundle), http=HttpConfig(port=port), **settings)
    with app.serving(config):
        pass


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_port_that_somebody_listens_on_is_refused(bundle_path: Path, is_shared: bool) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=is_shared) as other:
        port = other.getsockname()[1]
        with pytest.raises(ResourceError, match=rf"127.0.0.1:{port}: Address already in use.*port"):
            serve(bundle_path, port)


def test_a_wrong_bundle_is_refused(bundle_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="nowhere is not a bundle"):
        serve(tmp_path / "nowhere")
    damaged = Path(shutil.copytree(bundle_path, tmp_path / "bundle"))
    weights = next(damaged.glob("experts/*/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match=weights.name):
        serve(damaged)
    pools = (PoolConfig(), PoolConfig(name="other", below=(99,)))
    with pytest.raises(ConfigError, match="node 99 is not in"):
        serve(bundle_path, pools=pools)


def test_what_is_right_goes_on_to_the_cluster(bundle_path: Path) -> None:
    with pytest.raises(AssertionError, match="a cluster was started"):
        serve(bundle_path)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("mine/bundle", "{here}/mine/bundle"),
        ("./photo-1", "{here}/photo-1"),
        ("photo-1", "photo-1"),
        ("hf://owner/name@1", "hf://owner/name@1"),
    ],
)
def test_a_path_is_sent_as_this_process_understands_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, sent: str
) -> None:
    found: list[str] = []

    class Running:
        def __init__(self, _: str) -> None:
            pass

        def update(self, bundle: str) -> None:
            found.append(bundle)

    def run(application: ServingConfig) -> None:
        found.append(application.bundle)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "connect", contextlib.nullcontext)
    monkeypatch.setattr(app, "RunningApplication", Running)
    monkeypatch.setattr(app, "_listen", lambda _: None)
    monkeypatch.setattr(app, "_end", lambda: None)
    monkeypatch.setattr(app, "build_application", run)
    status = SimpleNamespace(applications={app.APP: None})
    monkeypatch.setattr(app.serve, "status", lambda: status)
    app.update_running(ServeConfig(bundle=given, update=True))
    with pytest.raises(KeyboardInterrupt), app.serving(ServeConfig(bundle=given, address="auto")):
        pass
    assert found == [sent.format(here=tmp_path)] * 2


def test_an_update_to_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="give bundle="):
        app.update_running(ServeConfig(bundle="", update=True))


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_address_of_version_6_is_listened_on_bare_and_called_in_brackets(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    def start(*, http_options: dict[str, object], **_: object) -> None:
        assert http_options == {"host": "::1", "port": 8123}
        raise app.RayError

    http = HttpConfig(host=host, port=8123)
    monkeypatch.setattr(app, "connect", contextlib.nullcontext)
    monkeypatch.setattr(app, "refuse_taken", lambda _: None)
    monkeypatch.setattr(app.serve, "start", start)
    config = ServeConfig(bundle=str(bundle_path), http=http)
    url = app.url_of(config)
    assert (url, urlsplit(url).hostname, urlsplit(url).port) == ("http://[::1]:8123", "::1", 8123)
    with pytest.raises(ResourceError, match=r"HTTP proxy on \[::1\]:8123"), app.serving(config):
        pass


def test_a_proxy_that_does_not_come_is_told_in_a_sentence(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(**_: object) -> None:
        raise app.RayError

    monkeypatch.setattr(app, "connect", contextlib.nullcontext)
    monkeypatch.setattr(app.serve, "start", start)
    with pytest.raises(ResourceError, match=r"HTTP proxy on 127\.0\.0\.1:0 did not start in time"):
        serve(bundle_path)
