"""OpenVINO in torch's place: the same images, graphs that are made once, and what it refuses."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch

from expertree.batch.arguments import parse
from expertree.errors import ConfigError, ExportError
from expertree.restorer import Restorer, engines, open_bundle
from expertree.restorer.engines import OpenVinoNetwork, _why_not, open_engine
from expertree.routing import Wish
from expertree.storage import Storage

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "expertree" / "openvino"


def image_of(height: int, width: int) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(height))


@pytest.mark.parametrize("kind", ["bundle_path", "adapter_bundle_path"])
def test_it_restores_as_torch_does_whole_and_in_tiles(
    request: pytest.FixtureRequest, kind: str
) -> None:
    path = request.getfixturevalue(kind)
    here, there = Restorer.load(path), Restorer.load(path, engine="openvino")
    last = here.tree.experts()[-1]
    for wish in (Wish(expert=last), Wish(expert=last, tile_px=96)):
        image = image_of(131, 150)
        wanted, found = here.restore(image, wish), there.restore(image, wish)
        assert found.num_tiles == wanted.num_tiles
        assert not torch.equal(found.image, image)
        torch.testing.assert_close(found.image, wanted.image, rtol=0, atol=1e-5)
    with there.expert(last) as network:
        assert isinstance(network, OpenVinoNetwork)
        batch = torch.stack([image_of(40, 30), image_of(41, 30)[:, 1:]])
        assert network(batch).shape == batch.shape


def test_a_graph_is_made_once_and_again_if_it_is_damaged(
    bundle_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    to_onnx = engines.to_onnx
    monkeypatch.setattr(engines, "to_onnx", lambda module: made.append(1) or to_onnx(module))
    for _ in range(2):
        Restorer.load(bundle_path, engine="openvino").read_expert(0)
    assert len(made) == 1
    (graph,) = cache.glob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:-1])
    Restorer.load(bundle_path, engine="openvino").read_expert(0)
    assert len(made) == 2
    (note,) = cache.glob("*.json")
    note.write_text("{}")
    Restorer.load(bundle_path, engine="openvino").read_expert(0)
    assert len(made) == 3


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    network = Restorer.load(bundle_path, engine="openvino").read_expert(0)
    assert isinstance(network, OpenVinoNetwork)


def test_what_differs_from_torch_is_not_used(
    bundle_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "TOLERANCE", {torch.float32: 0.0})
    with pytest.raises(ExportError, match=r"differs from torch by .* in expert 0"):
        Restorer.load(bundle_path, engine="openvino").read_expert(0)
    assert not isinstance(Restorer.load(bundle_path, engine="auto").read_expert(0), OpenVinoNetwork)
    assert not cache.exists()


def test_auto_takes_it_where_it_can(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(Storage.open(bundle_path))
    assert open_engine("torch", bundle, CPU, torch.float32) is None
    assert open_engine("auto", bundle, CPU, torch.float32) is not None
    assert open_engine("auto", bundle, torch.device("cuda"), torch.float32) is None
    assert open_engine("auto", bundle, CPU, torch.float16) is None
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)
    assert open_engine("auto", bundle, CPU, torch.float32) is None


def test_what_is_asked_for_by_name_and_cannot_be_is_said(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(Storage.open(bundle_path))
    with pytest.raises(ConfigError, match="not on cuda"):
        open_engine("openvino", bundle, torch.device("cuda"), torch.float32)
    with pytest.raises(ConfigError, match="does not compute in float16 on this CPU"):
        open_engine("openvino", bundle, CPU, torch.float16)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"pip install 'expertree\[openvino\]'"):
        Restorer(bundle, engine="openvino")


class Broken:
    """A core that is there and does not compile."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def compile_model(self, *_: object) -> None:
        raise RuntimeError("[CPU] cannot compile")


def not_here(*_: object) -> None:
    raise RuntimeError("no plugins.xml")


@pytest.mark.parametrize("what", ["no onnx", "no start"])
def test_auto_is_torch_with_a_warning_where_openvino_does_not_start(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    if what == "no onnx":
        monkeypatch.setitem(sys.modules, "onnx", None)
    else:
        monkeypatch.setattr(openvino, "Core", not_here)
    network = Restorer.load(bundle_path, engine="auto").read_expert(0)
    assert not isinstance(network, OpenVinoNetwork)
    assert ["torch computes instead" in own.message for own in caplog.records] == [True]
    with pytest.raises(ConfigError):
        Restorer.load(bundle_path, engine="openvino")


def test_auto_is_torch_with_one_warning_where_openvino_does_not_compile(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    core = openvino.Core
    monkeypatch.setattr(openvino, "Core", lambda: Broken(core()))
    there = Restorer.load(bundle_path, engine="auto")
    for node in there.tree.experts():
        assert not isinstance(there.read_expert(node), OpenVinoNetwork)
    assert ["OpenVINO fails on expert 0" in own.message for own in caplog.records] == [True]
    with pytest.raises(ExportError, match="cannot compile"):
        Restorer.load(bundle_path, engine="openvino").read_expert(0)


@pytest.mark.parametrize("engine", ["openvino", "auto"])
def test_without_a_home_there_is_no_cache(
    bundle_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", not_here)
    network = Restorer.load(bundle_path, engine=engine).read_expert(0)
    assert isinstance(network, OpenVinoNetwork)
    assert not cache.exists()


def test_bfloat16_is_for_cpus_that_have_it() -> None:
    assert _why_not(torch.bfloat16, ["FP32", "BF16"]) is None
    assert "take float32" in (_why_not(torch.bfloat16, ["FP32", "INT8"]) or "")


def test_the_command_line_names_an_engine() -> None:
    given = ["-i", "a", "-o", "b"]
    assert parse(given, program="p", description="d").engine == "torch"
    chosen = parse([*given, "--engine", "auto"], program="p", description="d")
    assert chosen.engine == "auto"
    # What is restored already stays, whatever computed it.
    assert chosen.options.digest == parse(given, program="p", description="d").options.digest


def test_routes_are_torchs_own(careful_bundle_path: Path, two_kinds) -> None:
    here = Restorer.load(careful_bundle_path)
    there = Restorer.load(careful_bundle_path, engine="auto")
    for image in two_kinds:
        assert here.route(image) == there.route(image)
        difference = here.restore(image).image.astype(int) - there.restore(image).image
        assert np.abs(difference).max() <= 1
