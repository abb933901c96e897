"""Points of shift on a build whose patches, embeddings and scores are in the store already."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from expertree.config import load, to_dict
from expertree.degradation.table import DegradationConfig
from expertree.errors import ConfigError
from expertree.hierarchy import load_tree
from expertree.pipeline.build import prepare
from expertree.pipeline.patch_sets import table_specs
from expertree.pipeline.score import INPUTS
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.stages import key_of, stage_key
from expertree.pipeline.tables import read_embeddings, read_table, write_table
from expertree.storage import Storage
from expertree.studies.registry import StudyConfig, run_study


def study(folder: Path, **section: object) -> StudyConfig:
    router = {"num_epochs": 4, "batch_size": 8, "measures": False}
    plain = {"num_points": 3, "num_patches": 80, "router": router, **section}
    return load(StudyConfig, {"study": "shift", "output": str(folder / "s"), "shift": plain})


@pytest.fixture
def build_with_points(tmp_path: Path, finished_build: Path) -> Path:
    """The finished build, with three points stored; the further out, the better the root is."""
    return with_points(tmp_path, finished_build, DegradationConfig(), mixed_fraction=0.5)


def with_points(
    tmp_path: Path, finished_build: Path, degradation: DegradationConfig, *, mixed_fraction: float
) -> Path:
    store = Storage.open(tmp_path / "store")
    config = dataclasses.replace(
        BuildConfig(),
        output=str(tmp_path / "again"),
        store=str(tmp_path / "store"),
        degradation=degradation,
    )
    report = json.loads((finished_build / "report.json").read_text())
    report["stored"]["extractor"] = store.sub("extractor", "x").uri
    (finished_build / "report.json").write_text(json.dumps(report | {"config": to_dict(config)}))
    tree = load_tree(Storage.open(report["stored"]["tree"]))
    like = {name: Storage.open(report["stored"][f"{name}/val_in"]) for name in ("degrade", "embed")}
    rows = read_table(like["degrade"], "part-00000.parquet")
    vectors = read_table(like["embed"], "part-00000.parquet")
    assert len(read_embeddings(like["embed"])[0]) == 80
    for severity in (0.0, 0.5, 1.0):
        point = config.degradation.shift_set(severity, 80, mixed_fraction)
        (spec,) = table_specs({point.name: point}, prepare(config), seed=config.seed).values()
        table = store.sub("degrade", stage_key("degrade", spec))
        write_table(table, "part-00000.parquet", rows)
        table.commit(spec)
        embed_spec = {"table": key_of(table), "extractor": "x"}
        embedding = store.sub("embed", stage_key("embed", embed_spec))
        write_table(embedding, "part-00000.parquet", vectors)
        embedding.commit(embed_spec)
        for expert in (INPUTS, *(f"expert-{node}" for node in tree.experts())):
            score_spec = {"expert": expert, "table": key_of(table)}
            column = store.sub("score", stage_key("score", score_spec))
            gain = {INPUTS: 0.0, "expert-0": 10.0 * severity}.get(expert, 5.0)
            psnr = np.full(80, 20.0 + gain)
            values = dict.fromkeys(("psnr_rgb", "psnr_y", "ssim"), psnr)
            scores = pa.table({"id": rows["id"], "l1": 10 ** (-psnr / 20), **values})
            write_table(column, "scores.parquet", scores)
            column.commit(score_spec)
    return finished_build


def test_each_point_has_levels_and_psnr_of_every_choice(
    tmp_path: Path, build_with_points: Path
) -> None:
    said: list[str] = []
    config = study(tmp_path, build=str(build_with_points))
    text = run_study(config, said.append)
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    rows = [line for line in cells if line[0] in ("0.00", "0.50", "1.00")]
    assert [row[0] for row in rows] == ["0.00", "0.50", "1.00"] * 2
    assert [float(row[3]) for row in rows[:3]] == [20.0, 25.0, 30.0]
    assert [float(row[4]) for row in rows[:3]] == [25.0, 25.0, 25.0]
    assert float(rows[2][2]) == 0.0
    for row in rows:
        assert float(row[5]) - float(row[4]) == pytest.approx(float(row[8]), abs=0.011)
    assert run_study(config, said.append) == text
    assert said[3:] == ["shift 0.00: found", "shift 0.50: found", "shift 1.00: found"]


@pytest.mark.parametrize(
    ("tasks", "section"),
    [(("noise", "jpeg"), {}), (("noise", "blur"), {"mixed_fraction": 0.0})],
)
def test_points_without_mixtures_have_a_table_of_single_degradations_alone(
    tmp_path: Path,
    finished_build: Path,
    take_mixtures: Callable[[str], None],
    tasks: tuple[str, ...],
    section: dict[str, float],
) -> None:
    take_mixtures("val_in")
    own = DegradationConfig(tasks=tasks, mixed_fraction=0.0, chooser_mixed_fraction=0.0)
    build = with_points(tmp_path, finished_build, own, mixed_fraction=0.0)
    text = run_study(study(tmp_path, build=str(build), **section), lambda _: None)
    assert "Points of shift, single degradations" in text
    assert "mixed degradations" not in text


def test_what_cannot_be_studied_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shift\.build is not set"):
        run_study(study(tmp_path), lambda _: None)
    with pytest.raises(ConfigError, match="num_points must be at least 2, got 1"):
        study(tmp_path, num_points=1)
