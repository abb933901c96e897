"""What cannot work ends before any work starts, with one clear sentence."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from expertree.config import load
from expertree.errors import ConfigError, ExpertreeError, PhotoError, ResourceError, StorageError
from expertree.images.io import encode_png
from expertree.pipeline.build import prepare
from expertree.pipeline.settings import BuildConfig

ROOT = Path(__file__).parents[3]


def config(folder: Path, **sections: object) -> BuildConfig:
    places = {"store": str(folder / "store"), "output": str(folder / "out")}
    return load(BuildConfig, places | sections)


def add_photograph(folder: Path, name: str, side_px: int = 160) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seed = sum(name.encode())
    image = np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    (folder / name).write_bytes(encode_png(image))


def test_a_good_folder_is_listed_and_split_and_bad_files_are_named(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("a.png", "b.png", "c.png", "d.png"):
        add_photograph(photos, name)
    (photos / "broken.png").write_bytes((photos / "a.png").read_bytes()[:500])
    (photos / "notes.txt").write_text("not a photograph")
    material = prepare(config(tmp_path, photographs={"source": str(photos)}))
    assert set(material.sources[0].splits.values()) == {"train", "route", "val"}
    assert {name for name, _ in material.skipped} == {"broken.png", "notes.txt"}


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(PhotoError, match="has no files"):
        prepare(config(tmp_path, photographs={"source": str(tmp_path / "photos")}))


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="is not a folder"):
        prepare(config(tmp_path, photographs={"source": str(tmp_path / "nothing")}))


def test_a_folder_of_maps_that_does_not_exist(tmp_path: Path) -> None:
    maps = {"depth": {"folder": str(tmp_path / "nothing")}}
    with pytest.raises(PhotoError, match=r"photographs\.maps\.depth\.folder: .* is not a folder"):
        prepare(config(tmp_path, photographs={"maps": maps}))


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"photographs": {"source": "s3://ID:SECRET@bucket/a"}}, r"photographs\.source"),
        ({"photographs": {"maps": {"rain": "gs://bucket/a"}}}, r"photographs\.maps\.rain"),
        (
            {"photographs": {"maps": {"snow": {"large": "s3://bucket/a"}}}},
            r"photographs\.maps\.snow\.large",
        ),
        ({"data": {"root": "s3://bucket/a"}}, r"data\.root"),
        ({"data": {"sources": [{"root": "file:///a"}]}}, r"data\.sources: root"),
    ],
)
def test_pictures_in_a_bucket_are_refused_before_anything_is_planned(
    tmp_path: Path, sections: dict[str, object], key: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{key}=.*/a is a URI, .* every node sees") as refused:
        config(tmp_path, **sections)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize(("val", "route"), [(0.9, 0.2), (-0.1, 0.2), (float("nan"), 0.2)])
def test_fractions_that_leave_nothing_for_the_experts(
    tmp_path: Path, val: float, route: float
) -> None:
    with pytest.raises(ConfigError, match=r"'photographs'.* below 1 together, got"):
        config(tmp_path, photographs={"val_fraction": val, "route_fraction": route})


def test_a_photograph_without_its_map(tmp_path: Path) -> None:
    add_photograph(tmp_path / "light", "astronaut.png")
    maps = {"illumination": str(tmp_path / "light")}
    with pytest.raises(
        PhotoError, match=r"illumination: .* no map for 9 of 10 photographs: chelsea"
    ):
        prepare(config(tmp_path, photographs={"maps": maps}))


def test_fewer_photographs_than_the_split_needs(tmp_path: Path) -> None:
    add_photograph(tmp_path / "photos", "a.png")
    with pytest.raises(PhotoError, match="at least 3 are needed"):
        prepare(config(tmp_path, photographs={"source": str(tmp_path / "photos")}))


def test_more_groups_than_samples(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="40 groups of at least 8 samples, 320 in all"):
        config(
            tmp_path,
            hierarchy={"groups": [1, 40]},
            experts={"num_samples": [800, 800]},
            degradation={"num_train": 280},
        )


def test_samples_for_fewer_levels_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 2 values for 3 levels"):
        config(tmp_path, experts={"num_samples": [800, 800]})


def test_a_gpu_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="no GPU that torch can use"):
        prepare(config(tmp_path, cluster={"use_gpu": True}))


@pytest.mark.parametrize("key", ["store", "output"])
def test_a_place_that_cannot_be_written(tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        prepare(load(BuildConfig, {key: str(tmp_path / "file" / "below")}))


def test_every_one_of_these_is_an_error_of_this_package() -> None:
    for error in (ConfigError, PhotoError, ResourceError, StorageError):
        assert issubclass(error, ExpertreeError)


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        (
            "experts.recipe.batch_sise=4",
            "'experts.recipe.batch_sise'; did you mean 'experts.recipe.batch_size'?",
        ),
        ("photographs.source=${oc.env:NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE"),
        ("experts.adapter.rank=0", "rank must be at least 1, got 0"),
    ],
)
def test_the_job_says_it_on_the_command_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argument: str,
    sentence: str,
) -> None:
    places = [f"store={tmp_path}/store", f"output={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["jobs/build_tree.py", argument, *places])
    monkeypatch.chdir(ROOT)
    # In this process: a new one would import for seconds what is here already.
    with pytest.raises(SystemExit) as end:
        runpy.run_path("jobs/build_tree.py", run_name="__main__")
    said = capsys.readouterr()
    assert end.value.code == 2
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
