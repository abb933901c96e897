from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from expertree.config import load
from expertree.errors import ArtefactError, ConfigError
from expertree.pipeline.tables import write_table
from expertree.storage import Storage
from expertree.studies.registry import StudyConfig, run_study


@pytest.fixture
def embeddings(tmp_path: Path) -> Storage:
    """What a build leaves in its store of 96 patches of four degradations."""
    rng = np.random.default_rng(0)
    names = ["noise", "blur", "haze", "rain"]
    labels = np.arange(96) % 4
    points = (4 * rng.normal(size=(4, 8)))[labels] + 0.1 * rng.normal(size=(96, 8))
    ids = [f"train/{row:05d}" for row in range(96)]
    store = Storage.open(tmp_path / "store")
    table, embed = store.sub("degrade", "t"), store.sub("embed", "e")
    tasks = pa.array([[names[label]] for label in labels])
    write_table(table, "part-00000.parquet", pa.table({"id": ids, "tasks": tasks}))
    column = pa.FixedSizeListArray.from_arrays(pa.array(points.astype(np.float32).ravel()), 8)
    write_table(embed, "part-00000.parquet", pa.table({"id": ids, "embedding": column}))
    embed.commit({"table": "t", "extractor": "x"})
    return embed


def study(folder: Path, **section: object) -> StudyConfig:
    return load(StudyConfig, {"output": str(folder / "out"), "silhouette": section})


def test_each_shape_is_scored_beside_the_paper_and_found_by_the_next_run(
    tmp_path: Path, embeddings: Storage
) -> None:
    config = study(
        tmp_path, embeddings=embeddings.uri, methods=["kmeans"], shapes=[[1, 2], [1, 2, 4]]
    )
    said: list[str] = []
    text = run_study(config, said.append)
    assert "| {1, 2} | " in text
    four = next(line for line in text.splitlines() if line.startswith("| {1, 2, 4} |"))
    assert float(four.split("|")[4]) > 0.9
    assert four.endswith("| {1, 2, 4} | 1.000 |")
    assert "0.310" in text
    assert run_study(config, said.append) == text
    assert said[2:] == ["kmeans {1, 2}: found", "kmeans {1, 2, 4}: found"]


def test_a_builds_output_folder_names_its_embeddings(tmp_path: Path, embeddings: Storage) -> None:
    Storage.open(tmp_path / "run").write_json(
        "report.json", {"stored": {"embed/train": embeddings.uri}}
    )
    config = study(
        tmp_path, embeddings=str(tmp_path / "run"), shapes=[[1, 4]], methods=["bisecting"]
    )
    assert "| {1, 4} |" in run_study(config, lambda _: None)


def test_a_shape_that_the_samples_do_not_fall_into_is_a_row_that_says_so(
    tmp_path: Path, embeddings: Storage
) -> None:
    config = study(tmp_path, embeddings=embeddings.uri, methods=["adaptive"], shapes=[[1, 3]])
    text = run_study(config, lambda _: None)
    assert "| {1, 3} | - | none | - |" in text
    assert "{1, 3}: 2 groups of at least 200 samples need 400 samples, got 96" in text


def test_what_cannot_be_studied_is_refused_before_work_starts(
    tmp_path: Path, embeddings: Storage
) -> None:
    with pytest.raises(ConfigError, match=r"silhouette\.embeddings is not set"):
        run_study(study(tmp_path), lambda _: None)
    with pytest.raises(ArtefactError, match="holds no finished embeddings; give the output"):
        run_study(study(tmp_path, embeddings=str(tmp_path)), lambda _: None)
    with pytest.raises(ConfigError, match="'method' = 'magic'"):
        run_study(study(tmp_path, embeddings=embeddings.uri, methods=["magic"]), lambda _: None)
    with pytest.raises(ConfigError, match="groups must grow from level to level"):
        run_study(study(tmp_path, embeddings=embeddings.uri, shapes=[[4, 2]]), lambda _: None)
