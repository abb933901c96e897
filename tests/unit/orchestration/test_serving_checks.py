"""What is wrong with serving a bundle here is said before a cluster starts."""

import contextlib
import os
import shutil
import socket
from pathlib import Path

import pytest

from expertree.errors import ArtefactError, ConfigError, ResourceError
from expertree.orchestration.serving import app
from expertree.serving.deployments import PoolConfig, ServeConfig
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


def test_a_proxy_that_does_not_come_is_told_in_a_sentence(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(**_: object) -> None:
        raise app.RayError

    monkeypatch.setattr(app, "connect", contextlib.nullcontext)
    monkeypatch.setattr(app.serve, "start", start)
    with pytest.raises(ResourceError, match=r"HTTP proxy on 127\.0\.0\.1:0 did not start in time"):
        serve(bundle_path)
