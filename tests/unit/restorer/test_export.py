"""What is exported is recognised by spandrel, and restores what the expert does."""

import json
from pathlib import Path

import pytest
import safetensors
import torch
from spandrel import ModelLoader

from expertree.cli.export import main
from expertree.restorer import open_bundle
from expertree.restorer.exports import export_expert
from expertree.storage import Storage


@pytest.mark.parametrize("kind", ["bundle_path", "adapter_bundle_path"])
def test_other_tools_load_an_expert_and_get_its_image(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    bundle = open_bundle(Storage.open(request.getfixturevalue(kind)))
    image = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    for node in (0, bundle.tree.experts()[-1]):
        name, note = export_expert(bundle, node, Storage.open(tmp_path), "spandrel")
        assert note == "spandrel opens it as NAFNet"
        loaded = ModelLoader(device="cpu").load_from_file(tmp_path / name)
        assert loaded.architecture.name == "NAFNet"
        with torch.inference_mode():
            torch.testing.assert_close(
                loaded.model(image), bundle.load_expert(node)(image), rtol=0, atol=1e-5
            )


def test_a_file_says_which_expert_it_is(bundle_path: Path, tmp_path: Path) -> None:
    bundle = open_bundle(Storage.open(bundle_path))
    name, _ = export_expert(bundle, 0, Storage.open(tmp_path), "safetensors")
    with safetensors.safe_open(tmp_path / name, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["bundle"] == bundle.manifest.digest
    assert metadata["expert"] == "0"
    assert json.loads(metadata["network"])["name"] == "nafnet"


def test_the_command_writes_all_experts_or_those_that_are_named(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experts = open_bundle(Storage.open(bundle_path)).tree.experts()
    assert main([str(bundle_path), "-o", str(tmp_path / "all")]) == 0
    assert len(list((tmp_path / "all").iterdir())) == len(experts)
    assert len(capsys.readouterr().out.splitlines()) == len(experts)
    assert main([str(bundle_path), "-o", str(tmp_path / "one"), "--expert", "0"]) == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["expert-000.safetensors"]


def test_what_cannot_be_is_said(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(bundle_path), "-o", str(tmp_path / "x"), "--expert", "99"]) == 2
    assert "there is no expert 99; there are 0" in capsys.readouterr().err
    for form in ("bundle", "routed"):
        wrong = [str(bundle_path), "-o", str(tmp_path / "x"), "--to", form, "--expert", "0"]
        assert main(wrong) == 2
        assert "writes all experts; leave --expert out" in capsys.readouterr().err
    assert main([str(tmp_path), "-o", str(tmp_path / "x")]) == 2
    assert "is not a bundle" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
