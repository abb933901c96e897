"""A bundle on a data set."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from expertree.errors import ConfigError, DatasetError, ExpertreeError, StorageError
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


@pytest.fixture
def small(bundle_path: Path, root: Path) -> EvaluateConfig:
    return EvaluateConfig(
        bundle=str(bundle_path), dataset="kodak24", root=str(root), split="noise15", partial=True
    )


def untouched(*_: object) -> None:
    pytest.fail("an image was restored")


def test_an_output_that_cannot_be_written_is_said_before_anything_is_restored(
    small: EvaluateConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    cases = {
        str(tmp_path): "is a folder; give a file",
        str(tmp_path / "file/x"): "cannot be written",
    }
    for output, message in cases.items():
        with pytest.raises(ExpertreeError, match=message):
            evaluate_bundle(dataclasses.replace(small, output=output), on_image=untouched)


def test_the_result_is_told_though_it_cannot_be_written_in_the_end(
    small: EvaluateConfig, tmp_path: Path
) -> None:
    output, told = tmp_path / "out.json", []

    def block(number: int, total: int, name: str) -> None:  # noqa: ARG001 - as all callbacks
        output.mkdir(exist_ok=True)

    config = dataclasses.replace(small, output=str(output))
    with pytest.raises(StorageError, match=r"out\.json cannot be written"):
        evaluate_bundle(config, on_image=block, on_result=told.append)
    assert [result["groups"]["all"]["num_images"] for result in told] == [2]


def test_the_output_may_be_a_uri(
    small: EvaluateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(small, output=f"file://{tmp_path}/below/out.json")
    result = evaluate_bundle(config, on_image=lambda *_: None)
    assert json.loads((tmp_path / "below/out.json").read_text())["groups"] == result["groups"]
    assert not (tmp_path / "file:").exists()


def test_settings_of_sets_are_refused_for_one_set(small: EvaluateConfig) -> None:
    config = dataclasses.replace(small, expert=999, cluster="nowhere:1", classical=False)
    with pytest.raises(
        ConfigError,
        match=r"classical=False and expert=999 and cluster=nowhere:1 would do nothing; give sets=",
    ):
        evaluate_bundle(config, on_image=untouched)
    with pytest.raises(ConfigError, match=r"published=x\.yaml would .* or leave it out"):
        evaluate_bundle(dataclasses.replace(small, published="x.yaml"), on_image=untouched)
