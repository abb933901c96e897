from pathlib import Path

import numpy as np
import pytest

from expertree.config import load
from expertree.degradation.captions import ALL_DEGREES, caption
from expertree.errors import ConfigError
from expertree.images.io import encode_png
from expertree.studies.accuracy import (
    DEGREES,
    PAPER,
    PAPER_MEAN,
    AccuracyConfig,
    DrawnRegions,
    draw_degree,
)
from expertree.studies.registry import StudyConfig, run_study


@pytest.fixture
def photographs(tmp_path: Path) -> dict[str, str]:
    rng = np.random.default_rng(0)
    for name in ("train", "validate"):
        (tmp_path / name).mkdir()
        photo = rng.integers(0, 256, (48, 56, 3), dtype=np.uint8)
        (tmp_path / name / "one.png").write_bytes(encode_png(photo))
    return {name: str(tmp_path / name) for name in ("train", "validate")}


def study(folder: Path, **section: object) -> StudyConfig:
    small = {
        "num_regions": 36,
        "region_px": 40,
        "num_draws": 1,
        "extractor": {
            "clip": {"image_tower": "test_resnet"},
            "embed_dim": 16,
            "view_px": 32,
            "recipe": {"num_steps": 2, "batch_size": 8, "crop_px": 32, "num_threads": 1},
        },
    }
    whole = {"study": "accuracy", "output": str(folder / "out"), "accuracy": small | section}
    return load(StudyConfig, whole)


def test_all_18_degrees_are_measured_beside_the_papers_values() -> None:
    assert sorted(name for _, name in DEGREES) == sorted(ALL_DEGREES)
    for view, values in PAPER.items():
        assert len(values) == 18
        assert sum(values) / 18 == pytest.approx(PAPER_MEAN[view], abs=0.02)


def test_a_degree_is_drawn_as_wanted_and_covers_its_range() -> None:
    rng = np.random.default_rng(0)
    for task, name in DEGREES:
        assert {caption(draw_degree(rng, task, name)) for _ in range(3)} == {name}
    sigmas = [
        float(draw_degree(rng, "noise", "small noise").parameters["noise"]["sigma"])
        for _ in range(40)
    ]
    assert min(sigmas) < 3
    assert 12 < max(sigmas) < 15
    with pytest.raises(ValueError, match=r"haze has the degrees .* got 'small noise'"):
        draw_degree(rng, "haze", "small noise")


def test_regions_come_in_equal_numbers_and_do_not_depend_on_the_order_of_asking() -> None:
    photos = [np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)]
    first = DrawnRegions(photos, num_regions=72, region_px=24, seed=0)
    second = DrawnRegions(photos, num_regions=72, region_px=24, seed=0)
    assert {first.captions.count(name) for _, name in DEGREES} == {4}
    together = first.lq(range(8))
    assert together.shape == (8, 3, 24, 24)
    for row in (5, 0, 4):
        assert (second.lq([row])[0] == together[row]).all()
    assert not (together[0] == together[1]).all()


def test_a_study_trains_once_and_measures_each_view(tmp_path: Path, photographs) -> None:
    said: list[str] = []
    two = study(tmp_path, views=["resize", "full"], **photographs)
    text = run_study(two, said.append)
    assert "| degree | resize | paper | full | paper |" in text
    (mean,) = [line for line in text.splitlines() if line.startswith("| mean |")]
    assert mean.split("|")[3].strip() == "0.72"
    assert "18 spoiled photographs of validation a view" in text
    run_study(study(tmp_path, **photographs), said.append)
    assert said == [
        *("training: ...", "resize: ...", "full: ..."),
        *("training: found", "resize: found", "centre_crop: ...", "full: found"),
    ]


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"accuracy\.train is not set; give a folder"):
        run_study(study(tmp_path), lambda _: None)
    with pytest.raises(ConfigError, match="'sideways' is none of resize, centre_crop, full"):
        load(AccuracyConfig, {"views": ["sideways"]})
    with pytest.raises(ConfigError, match="name at least one"):
        load(AccuracyConfig, {"views": []})
