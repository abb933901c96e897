"""What an evaluation records, and what it is stored under."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from expertree.degradation.paired import TrainingPair
from expertree.degradation.photographs import Photo
from expertree.pipeline.evaluate import _embedding_record, _spec, run_record
from expertree.pipeline.settings import (
    SAMPLES_OF_A_PATH,
    SAMPLES_OF_THE_TREE,
    BuildConfig,
    Comparison,
    ExpertsConfig,
)
from expertree.pipeline.sources import Material, Source
from expertree.pipeline.tables import write_table
from expertree.report.schema import check_run
from expertree.storage import Storage

ROWS = {
    "val_in": [(["rain"], "large rain"), (["haze"], "thick haze"), (["rain"], "small rain")],
    "val_out": [(["haze"], "normal haze"), (["noise", "rain"], "large noise, small rain")],
}
PAIRS = [(["noise"], "noise"), (["rain", "haze"], "rain, haze"), (["low_light"], "low light")]


def record_of(folder: Path, sets: dict[str, list[tuple[list[str], str]]]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    tables, embeddings = {}, {}
    for split, rows in sets.items():
        tables[split] = Storage.open(folder / "degrade" / split)
        embeddings[split] = Storage.open(folder / "embed" / split)
        ids = [f"{split}/{row}" for row in range(len(rows))]
        names = {"tasks": [tasks for tasks, _ in rows], "caption": [name for _, name in rows]}
        write_table(tables[split], "part-0.parquet", pa.table({"id": ids, **names}))
        flat = pa.array(rng.normal(size=8 * len(rows)).astype(np.float32))
        column = pa.FixedSizeListArray.from_arrays(flat, 8)
        write_table(embeddings[split], "part-0.parquet", pa.table({"id": ids, "embedding": column}))
    record = _embedding_record(SimpleNamespace(tables=tables, embeddings=embeddings), seed=0)
    check_run({"title": "t", "embeddings": record}, {})
    return record


def test_the_picture_of_embeddings_names_each_validation_patch(tmp_path: Path) -> None:
    record = record_of(tmp_path, ROWS)
    assert record["degradations"] == ["rain", "haze", "rain", "haze", "mixed"]
    assert record["captions"] == [name for rows in ROWS.values() for _, name in rows]
    assert record["distributions"] == ["in"] * 3 + ["out"] * 2
    assert len(record["pca"]) == len(record["tsne"]) == 5
    assert [one["label"] for one in record["separation"]] == ["rain", "haze", "mixed"]


def test_a_pair_has_the_label_and_the_caption_of_its_kinds(tmp_path: Path) -> None:
    record = record_of(tmp_path, ROWS | {"val_in": PAIRS})
    assert record["degradations"] == ["noise", "mixed", "low_light", "haze", "mixed"]
    assert record["captions"][:3] == [caption for _, caption in PAIRS]
    labels = [one["label"] for one in record["separation"]]
    assert labels == ["noise", "mixed", "low_light", "haze"]


def spec_of(folder: Path, *comparisons: tuple[Comparison, str], **more: Any) -> dict[str, Any]:
    """Return what an evaluation is stored under, where comparisons have some keys."""
    own = tuple(comparison for comparison, _ in comparisons)
    config = dataclasses.replace(BuildConfig(), experts=ExpertsConfig(comparisons=own))
    nodes = more.get("nodes", ("a", "b"))
    plans = {one.name: SimpleNamespace(key=key) for one, key in comparisons}
    built = SimpleNamespace(
        bundle=Storage.open(folder / "bundle/0"),
        scores={key: Storage.open(folder / f"score/{key}") for key in nodes},
        comparisons=plans,
        experts=[*(SimpleNamespace(key=key) for key in nodes), *plans.values()],
        hierarchy=SimpleNamespace(tree=SimpleNamespace(experts=lambda: range(len(nodes)))),
        material=Material(sources=more.get("sources", ())),
    )
    for _, key in comparisons:
        built.scores[key] = Storage.open(folder / f"score/{key}")
    return _spec(config, built)


def test_the_record_of_a_run_holds_no_keys(tmp_path: Path) -> None:
    store = Storage("s3://ID:SECRET@bucket/store")
    evaluation = Storage.open(tmp_path)
    evaluation.write_json("evaluation.json", {})
    result = store.sub("tree", "a")
    built = SimpleNamespace(
        **dict.fromkeys(("extractor", "shards", "router_result", "bundle"), result),
        **{name: {"train": result} for name in ("tables", "embeddings")},
        scores={},
        experts=[],
        hierarchy=SimpleNamespace(
            result=result, growth=None, tree=SimpleNamespace(experts=lambda: ())
        ),
        material=SimpleNamespace(skipped=[("a.png", f"{store.uri}/a.png is no image")]),
        past=None,
    )
    record, _ = run_record(
        dataclasses.replace(BuildConfig(), store=store.uri),
        built,
        evaluation,
        times=(),
        wall_s=1.0,
        timeline=(),
    )
    assert "SECRET" not in json.dumps(record)
    assert record["config"]["store"] == "s3://bucket/store"
    assert record["stored"]["degrade/train"] == "s3://bucket/store/tree/a"


PATH, TREE = SAMPLES_OF_A_PATH, SAMPLES_OF_THE_TREE


def test_an_evaluation_is_stored_by_the_names_of_its_comparisons(tmp_path: Path) -> None:
    one, two = (Comparison(name=name) for name in ("one", "two"))
    swapped = [dataclasses.replace(TREE, name=PATH.name), dataclasses.replace(PATH, name=TREE.name)]
    builds = [
        [(PATH, "p"), (TREE, "t")],
        [(TREE, "t"), (PATH, "p")],
        [(swapped[0], "t"), (swapped[1], "p")],
        [(one, "p"), (two, "t")],
        [(two, "p"), (one, "t")],
    ]
    specs = [spec_of(tmp_path, *build) for build in builds]
    assert len({json.dumps(spec) for spec in specs}) == len(builds)
    assert specs[3]["comparisons"] == [["one", "p"], ["two", "t"]]
    # A tree of one expert has its scores for each of these.
    single: list[list[tuple[Comparison, str]]] = [[], [(PATH, "a")], [(PATH, "a"), (TREE, "a")]]
    specs = [spec_of(tmp_path, *build, nodes=("a",)) for build in single]
    assert len({json.dumps(spec) for spec in specs}) == len(single)


@pytest.mark.parametrize(
    ("build", "nodes"),
    [
        ([(PATH, "p"), (TREE, "t")], ("a", "b")),
        ([(PATH, "p")], ("a", "b")),
        ([], ("a", "b")),
        ([(PATH, "a"), (TREE, "a")], ("a",)),
    ],
)
def test_evaluations_with_the_usual_comparisons_are_found_as_before(
    tmp_path: Path, build: list[tuple[Comparison, str]], nodes: tuple[str, ...]
) -> None:
    spec = spec_of(tmp_path, *build, nodes=nodes)
    assert set(spec) == {"bundle", "scores", "num_examples", "seed"}


def test_evaluations_of_pairs_are_made_again_for_their_labels(tmp_path: Path) -> None:
    photo = Photo(name="p", location="", sha256="0", width_px=64, height_px=64)
    pair = TrainingPair(name="p", tasks=("rain",), lq=photo, gt=photo)
    for part in ("val", "train"):
        source = Source(label="r", weight=1.0, pairs=(pair,), splits={"p": part})
        spec = spec_of(tmp_path, (PATH, "p"), (TREE, "t"), sources=[source])
        assert ("pairs" in spec) == (part == "val")
