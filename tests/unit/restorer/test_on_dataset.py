"""A bundle on a data set."""

import json
from pathlib import Path

import numpy as np
import pytest

from expertree.errors import ConfigError, DatasetError
from expertree.images.io import encode_png
from expertree.restorer.on_dataset import EvaluateConfig, evaluate_bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(2):
        image = np.random.default_rng(number).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        (tmp_path / f"kodim{number:02d}.png").write_bytes(encode_png(image))
    return tmp_path


def test_every_image_is_routed_and_scored(bundle_path: Path, root: Path, tmp_path: Path) -> None:
    said: list[tuple[int, int, str]] = []
    config = EvaluateConfig(
        bundle=str(bundle_path),
        dataset="kodak24",
        root=str(root),
        split="noise15",
        partial=True,
        channels="y",
        output=str(tmp_path / "new" / "out.json"),
    )
    result = evaluate_bundle(config, on_image=lambda *args: said.append(args))
    assert said == [(1, 2, "kodim00"), (2, 2, "kodim01")]
    assert sum(result["experts"].values()) == result["groups"]["all"]["num_images"] == 2
    assert result["protocol"]["channels"] == "y"
    assert [image["name"] for image in result["images"]] == ["kodim00", "kodim01"]
    assert result["groups"]["all"]["restored"] != result["groups"]["all"]["degraded"]
    written = json.loads((tmp_path / "new" / "out.json").read_text())
    assert written["groups"] == result["groups"]


def test_what_has_no_default_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"give root=\.\.\.$"):
        evaluate_bundle(EvaluateConfig(dataset="gopro"), on_image=lambda *_: None)


def test_the_data_set_is_checked_before_the_bundle_is_read(root: Path) -> None:
    config = EvaluateConfig(bundle="nowhere", dataset="kodak24", root=str(root))
    with pytest.raises(DatasetError, match="2 images where the whole set has 24"):
        evaluate_bundle(config, on_image=lambda *_: None)
