"""Experts with windows: what a manifest says of them is what every way to restore does."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from expertree.config import fingerprint
from expertree.errors import ArtefactError
from expertree.experts.backbones.nafnet_layers import set_window, window_of
from expertree.experts.portable import Portable, open_torchscript, to_torchscript
from expertree.restorer import Restorer, open_bundle
from expertree.restorer.compact import write_compact
from expertree.restorer.exports import export_expert
from expertree.restorer.exports.checking import restoring
from expertree.restorer.manifest import MANIFEST, describe, read_manifest
from expertree.routing import Wish
from expertree.storage import Storage

SIDE_PX = 64
SIDES = ((20, 30), (64, 64), (131, 150), (70, 200))


def image_of(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))


@pytest.fixture
def windowed(tmp_path: Path) -> Callable[[Path], Path]:
    """Returns a copy of a bundle whose last expert has windows, and no other."""

    def make(bundle: Path) -> Path:
        path = Path(shutil.copytree(bundle, tmp_path / "windowed"))
        manifest = json.loads((path / MANIFEST).read_text())
        manifest["experts"][-1]["window_px"] = SIDE_PX
        (path / MANIFEST).write_text(json.dumps(manifest))
        return path

    return make


def test_each_expert_has_its_own(bundle_path: Path, windowed: Callable[[Path], Path]) -> None:
    bundle = open_bundle(Storage.open(windowed(bundle_path)))
    last = bundle.tree.experts()[-1]
    found = {node: window_of(bundle.load_expert(node)) for node in bundle.tree.experts()}
    assert {node for node, side in found.items() if side is not None} == {last}
    assert found[last] == SIDE_PX
    before = open_bundle(Storage.open(bundle_path))
    image = image_of(131, 150)
    with torch.inference_mode():
        assert not torch.equal(bundle.load_expert(last)(image), before.load_expert(last)(image))


@pytest.mark.parametrize("kind", ["bundle_path", "adapter_bundle_path"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_engines_and_adapters_restore_by_them(
    request: pytest.FixtureRequest,
    windowed: Callable[[Path], Path],
    kind: str,
    engine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = windowed(request.getfixturevalue(kind))
    restorer = Restorer.load(path, engine=engine)
    nodes = restorer.tree.experts()
    for node in (nodes[-1], nodes[-2], nodes[-1]):
        network = restorer.bundle.load_expert(node)
        for sides in SIDES:
            image = image_of(*sides)
            found = restorer.restore(image, Wish(expert=node)).image
            with torch.inference_mode():
                wanted = network(image).clamp(0.0, 1.0)
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")
def test_graphs_have_them(
    bundle_path: Path, windowed: Callable[[Path], Path], tmp_path: Path
) -> None:
    bundle = open_bundle(Storage.open(windowed(bundle_path)))
    last = bundle.tree.experts()[-1]
    network = bundle.load_expert(last)
    target = Storage.open(tmp_path / "out")
    name, _ = export_expert(bundle, last, target, "onnx")
    graphs = (
        restoring(target.read_bytes(name)),
        open_torchscript(to_torchscript(Portable(bundle.backbone(last), network))),
    )
    for sides in SIDES:
        image = image_of(*sides)
        with torch.inference_mode():
            wanted = network(image)
            for graph in graphs:
                torch.testing.assert_close(graph(image), wanted, rtol=0, atol=1e-5)


def test_weights_alone_are_of_the_whole_picture(
    bundle_path: Path, windowed: Callable[[Path], Path], tmp_path: Path
) -> None:
    bundle = open_bundle(Storage.open(windowed(bundle_path)))
    last = bundle.tree.experts()[-1]
    name, note = export_expert(bundle, last, Storage.open(tmp_path / "out"), "spandrel")
    assert (tmp_path / "out" / name).exists()
    assert "NAFNet" in note


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")
@pytest.mark.parametrize("side_px", [9, 48, 72, 100])
def test_graphs_of_odd_windows_are_the_networks(bundle_path: Path, side_px: int) -> None:
    bundle = open_bundle(Storage.open(bundle_path))
    network = bundle.load_expert(0)
    set_window(network, side_px)
    graph = open_torchscript(to_torchscript(Portable(bundle.backbone(0), network)))
    for sides in ((side_px, side_px), (side_px + 5, 2 * side_px)):
        with torch.inference_mode():
            torch.testing.assert_close(
                graph(image_of(*sides)), network(image_of(*sides)), rtol=0, atol=1e-5
            )


@pytest.mark.parametrize("side_px", [0, -5, "wide"])
def test_windows_without_a_side_are_refused(
    bundle_path: Path, windowed: Callable[[Path], Path], side_px: object
) -> None:
    path = windowed(bundle_path)
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["experts"][-1]["window_px"] = side_px
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="window_px"):
        open_bundle(Storage.open(path))


def test_a_compact_bundle_keeps_them(
    bundle_path: Path, windowed: Callable[[Path], Path], tmp_path: Path
) -> None:
    bundle = open_bundle(Storage.open(windowed(bundle_path)))
    manifest = write_compact(bundle, Storage.open(tmp_path / "compact"))
    assert [own.window_px for own in manifest.experts] == [
        own.window_px for own in bundle.manifest.experts
    ]


def test_without_any_the_digest_is_what_it_was(bundle_path: Path) -> None:
    manifest = json.loads((bundle_path / MANIFEST).read_text())
    found = read_manifest(Storage.open(bundle_path))
    for entry in manifest["experts"]:
        assert entry.pop("window_px") is None
    assert found.digest == fingerprint(manifest)


def test_a_bundle_from_before_windows_is_read(bundle_path: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(bundle_path, tmp_path / "old"))
    manifest = json.loads((path / MANIFEST).read_text())
    for entry in manifest["experts"]:
        del entry["window_px"]
    (path / MANIFEST).write_text(json.dumps(manifest | {"format": 4}))
    bundle = open_bundle(Storage.open(path))
    assert {own.window_px for own in bundle.manifest.experts} == {None}


def test_a_network_that_has_none_is_refused(
    bundle_path: Path, windowed: Callable[[Path], Path]
) -> None:
    path = windowed(bundle_path)
    manifest = json.loads((path / MANIFEST).read_text())
    name = f"experts/{manifest['experts'][-1]['node']:03d}/expert.json"
    card = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps(card | {"backbone": {"name": "restormer"}}))
    entry = describe((path / name).read_bytes())
    manifest["files"][name] = {"sha256": entry.sha256, "num_bytes": entry.num_bytes}
    (path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match="gives windows to another network"):
        open_bundle(Storage.open(path))
