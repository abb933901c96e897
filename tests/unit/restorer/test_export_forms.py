"""What is exported is opened by the program it is for, and makes the images of the expert."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from expertree.cli.export import main
from expertree.errors import ConfigError, ExportError
from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.instructir import InstructIRConfig
from expertree.experts.backbones.moce_ir import MoCEIRConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.backbones.padding import pad_to_multiple
from expertree.experts.portable import Portable, reached, to_onnx
from expertree.hierarchy import HierarchyConfig, build_tree
from expertree.hierarchy.tree import Metric
from expertree.images.io import to_float, to_u8
from expertree.restorer import Restorer, open_bundle
from expertree.restorer.exports import export_expert
from expertree.restorer.exports.checking import check_images, onnx_runner
from expertree.restorer.exports.choosing import standardised
from expertree.restorer.exports.routed import to_routed
from expertree.storage import Storage

ODD_SIDES = ((1, 1), (3, 50), (33, 47), (130, 71))
CPU = ["CPUExecutionProvider"]


@pytest.fixture
def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, 3, *sides, generator=generator) for sides in ODD_SIDES]


@pytest.mark.parametrize("multiple_px", [1, 4, 8])
def test_padding_in_a_graph_is_that_of_the_networks(multiple_px: int) -> None:
    for height in range(1, 20):
        for width in range(1, 20):
            image = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
            rows, columns = reached(torch.tensor([height, width]), multiple_px)
            assert torch.equal(image[:, :, rows][..., columns], pad_to_multiple(image, multiple_px))


@pytest.mark.parametrize("kind", ["bundle_path", "adapter_bundle_path"])
def test_onnx_runtime_restores_any_size_as_torch_does(
    request: pytest.FixtureRequest, tmp_path: Path, images: list[torch.Tensor], kind: str
) -> None:
    bundle = open_bundle(Storage.open(request.getfixturevalue(kind)))
    node = bundle.tree.experts()[-1]
    name, _ = export_expert(bundle, node, Storage.open(tmp_path), "onnx")
    model = onnx.load(tmp_path / name)
    onnx.checker.check_model(model, full_check=True)
    assert [(part.domain, part.version) for part in model.opset_import] == [("", 17)]
    session = onnxruntime.InferenceSession(tmp_path / name, providers=CPU)
    assert session.get_inputs()[0].shape == [1, 3, "height", "width"]
    for image in images:
        (found,) = session.run(["output"], {"input": image.numpy()})
        with torch.inference_mode():
            wanted = bundle.load_expert(node)(image)
        np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-5)


def test_darktable_finds_a_folder_that_has_its_models_id(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(bundle_path), "-o", str(tmp_path), "--to", "darktable", "--expert", "0"]) == 0
    (folder,) = tmp_path.iterdir()
    assert f"{folder.name}/config.json" in capsys.readouterr().out
    config = json.loads((folder / "config.json").read_text())
    assert config["id"] == folder.name
    assert folder.name.startswith("denoise-")
    assert folder.name == folder.name.lower()
    assert (config["task"], config["backend"], config["num_inputs"]) == ("denoise", "onnx", 1)
    assert config["name"]
    assert config["description"]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=CPU)
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, made.name, given.type) == ("input", "output", "tensor(float)")
    # Tiles of darktable: sides of its own, mirrored at the borders.
    tile = np.random.default_rng(0).random((1, 3, 256, 320), dtype=np.float32)
    assert session.run(None, {"input": tile})[0].shape == tile.shape


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")
def test_torchscript_needs_no_expertree(
    bundle_path: Path, tmp_path: Path, images: list[torch.Tensor]
) -> None:
    bundle = open_bundle(Storage.open(bundle_path))
    name, _ = export_expert(bundle, 0, Storage.open(tmp_path), "torchscript")
    loaded = torch.jit.load(tmp_path / name)
    for image in images:
        with torch.inference_mode():
            wanted = bundle.load_expert(0)(image)
            torch.testing.assert_close(loaded(image), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("metric", ["l2", "cosine", "angular"])
def test_a_graph_brings_embeddings_into_the_space_of_the_tree(metric: Metric) -> None:
    points = np.random.default_rng(0).normal(2.0, 1.5, (64, 8)).astype(np.float32)
    tree, _ = build_tree(points, HierarchyConfig(groups=(1, 2), metric=metric), extractor="")
    mean, std = (torch.from_numpy(np.array(own)) for own in (tree.mean, tree.std))
    found = standardised(torch.from_numpy(points), mean, std, metric)
    np.testing.assert_allclose(found.numpy(), tree.standardise(points), atol=1e-6)


@pytest.mark.parametrize("kind", ["bundle_path", "careful_bundle_path"])
def test_one_graph_chooses_and_restores_as_the_restorer_does(
    request: pytest.FixtureRequest, two_kinds: tuple[np.ndarray, np.ndarray], kind: str
) -> None:
    restorer = Restorer.load(request.getfixturevalue(kind))
    run, rng = onnx_runner(to_routed(restorer.bundle)), np.random.default_rng(3)
    # Smaller than a window of the extractor, as large, between two and three, and above.
    sides = ((7, 9), (64, 64), (65, 130), (129, 191), (250, 200))
    pictures = [*two_kinds, rng.integers(0, 32, (90, 70, 3), dtype=np.uint8)]
    for height, width in sides:
        scale, offset = rng.uniform(0.1, 0.7, (1, 1, 3)), rng.uniform(0, 0.3)
        pictures.append((255 * (rng.random((height, width, 3)) * scale + offset)).astype(np.uint8))
    chosen = set()
    for picture in pictures:
        found, expert = run(to_float(picture)[None])
        restoration = restorer.restore(picture)
        wanted = -1 if restoration.route.expert is None else restoration.route.expert
        assert expert.tolist() == [wanted]
        assert np.abs(to_u8(torch.from_numpy(found[0])) - restoration.image.astype(int)).max() <= 1
        chosen.add(wanted)
    assert len(chosen) > 1
    assert (-1 in chosen) == (kind == "careful_bundle_path")


def test_networks_without_such_a_form_are_refused() -> None:
    told = InstructIRConfig(
        width=4, encoder=(1,), middle=1, decoder=(1,), told_width=8, embed_dim=8
    )
    with pytest.raises(ExportError, match="is told of the whole image"):
        Portable(told, build_backbone(told))
    sizes = {"encoder": (1, 1, 1), "middle": 1, "decoder": (1, 1, 1), "heads": (1, 2, 2, 4)}
    gated = MoCEIRConfig(width=4, refinement=1, windows=(2, 4, 8), **sizes)
    with pytest.raises(ExportError, match="different ways"):
        Portable(gated, build_backbone(gated))


def test_a_graph_that_restores_otherwise_is_not_written() -> None:
    config = NAFNetConfig(width=4, encoder=(1,), decoder=(1,))
    network = build_backbone(config).eval()
    run = onnx_runner(to_onnx(Portable(config, network)))
    with torch.no_grad():
        network.get_parameter("ending.bias").add_(0.01)
    with pytest.raises(ExportError, match=r"differs from torch by 0\.01"):
        check_images("ONNX Runtime", lambda image: torch.from_numpy(run(image)[0]), network)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install 'expertree\[onnx\]'"):
        export_expert(open_bundle(Storage.open(bundle_path)), 0, Storage.open(tmp_path), "onnx")
    assert not list(tmp_path.iterdir())
