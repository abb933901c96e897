"""A bundle holds the networks of other papers, restores by them, tiled or whole, and exports."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch

from expertree import Restorer
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones import backbone_config, build_backbone
from expertree.experts.published import find_published, load_published
from expertree.experts.weights import load_expert, save_expert
from expertree.images.io import to_float, to_u8
from expertree.restorer.exports import export_expert
from expertree.routing import Wish
from expertree.storage import Storage

U_NET = {
    "width": 4,
    "encoder": (1, 1, 1),
    "middle": 1,
    "decoder": (1, 1, 1),
    "heads": (1, 2, 2, 4),
    "refinement": 1,
}
METHODS: dict[str, dict[str, Any]] = {
    "promptir": {**U_NET, "prompts": 2, "prompt_widths": (8, 4, 4), "prompt_px": (2, 4, 8)},
    "adair": U_NET,
    "moce_ir": {**U_NET, "windows": (2, 4, 8)},
    "airnet": {"width": 4, "groups": 1, "blocks": 1, "embedding": 8, "queue": 6},
}


@pytest.fixture(params=METHODS)
def restorer(request: pytest.FixtureRequest, parts: Any, tmp_path: Path) -> Restorer:
    """All experts are one network, as it is before its training."""
    torch.manual_seed(0)
    backbone = backbone_config(request.param, **METHODS[request.param])
    job = ExpertJob(key="m", backbone=backbone, recipe=RecipeConfig(), num_samples=8, seed=0)
    store = Storage.open(tmp_path / "m")
    save_expert(store, build_backbone(backbone).state_dict(), job)
    own = dataclasses.replace(parts, experts=dict.fromkeys(parts.experts, store))
    own.write(Storage.open(tmp_path / "bundle"))
    return Restorer.load(tmp_path / "bundle")


def test_it_is_restored_by_whole_or_tiled_and_exported(restorer: Restorer, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 131, 3), dtype=np.uint8)
    whole = restorer.restore(image, Wish(expert=0))
    network = load_expert(Storage.open(tmp_path / "m"))
    with torch.inference_mode():
        expected = to_u8(network(to_float(image)[None])[0])
    assert np.array_equal(whole.image, expected)
    assert np.array_equal(restorer.restore(image, Wish(expert=0)).image, whole.image)
    tiled = restorer.restore(image, Wish(expert=0, tile_px=96))
    assert tiled.num_tiles > 1
    assert tiled.image.shape == image.shape

    name, _ = export_expert(restorer.bundle, 0, Storage.open(tmp_path), "safetensors")
    with safetensors.safe_open(tmp_path / name, framework="pt") as file:
        sizes = json.loads(file.metadata()["network"])
    backbone = backbone_config(sizes.pop("name"), **sizes)
    again = build_backbone(backbone).eval()
    load_published(again, backbone, find_published(str(tmp_path / name)))
    with torch.inference_mode():
        assert np.array_equal(to_u8(again(to_float(image)[None])[0]), expected)
