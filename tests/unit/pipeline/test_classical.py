"""Which classical method a degradation gets, and what its scores are stored under."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from expertree.classical import AS_IT_IS, VERSION, Method, methods_of
from expertree.events import EventLog
from expertree.experts import read_patches, score_inputs, score_restoration
from expertree.images.io import encode_png
from expertree.images.metrics import psnr_rgb
from expertree.pipeline import patch_sets
from expertree.pipeline.classical import best_method, choose_classical
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.score import CLASSICAL, INPUTS, Column, restoration
from expertree.pipeline.stages import Workbench
from expertree.pipeline.tables import write_table
from expertree.storage import Storage

DARKER = Method(name="darker", restore=lambda image: image // 2)
BLACK = Method(name="black", restore=np.zeros_like)


def pair(clean_value: int, degraded_value: int) -> tuple[np.ndarray, np.ndarray]:
    degraded, clean = (np.full((4, 4, 3), v, np.uint8) for v in (degraded_value, clean_value))
    return degraded, clean


@pytest.fixture
def table(tmp_path: Path) -> Storage:
    """Noisy flat patches, one with two degradations, and a clean one."""
    rng = np.random.default_rng(0)
    table = Storage.open(tmp_path / "table")
    rows = []
    for number, tasks in enumerate([["noise"]] * 5 + [["noise", "haze"], []]):
        clean = np.full((32, 32, 3), 40 + 20 * number, np.uint8)
        noise = rng.normal(0, 20, clean.shape) if tasks else 0
        lq = np.clip(clean + noise, 0, 255).astype(np.uint8)
        rows.append(
            {
                "id": f"{number}",
                "kind": "single",
                "tasks": tasks,
                "caption": "",
                "recipe": "",
                "lq": encode_png(lq),
                "gt": encode_png(clean),
            }
        )
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("id", "kind", "caption", "recipe")),
            ("tasks", pa.list_(pa.string())),
            *((name, pa.binary()) for name in ("lq", "gt")),
        ]
    )
    write_table(table, "part-0.parquet", pa.Table.from_pylist(rows, schema=schema))
    return table


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A workbench without a cluster."""
    return Workbench(
        store=Storage.open(tmp_path / "store"),
        events=EventLog(tmp_path / "events.jsonl"),
        runner=LocalRunner(),
        on_stage=lambda *_: None,
    )


def test_the_method_with_the_best_mean_is_taken() -> None:
    chosen, reached = best_method((DARKER, BLACK, AS_IT_IS), [pair(100, 200), pair(10, 22)])
    assert chosen == "darker"
    assert reached["as it is"] == pytest.approx(
        (psnr_rgb(*pair(100, 200)) + psnr_rgb(*pair(10, 22))) / 2
    )


def test_where_every_method_harms_the_input_is_left_as_it_is() -> None:
    chosen, _ = best_method((DARKER, BLACK, AS_IT_IS), [pair(100, 101)])
    assert chosen == AS_IT_IS.name


def test_without_patches_the_first_method_is_taken() -> None:
    assert best_method((DARKER, AS_IT_IS), []) == ("darker", {})


def test_a_choice_is_made_once_from_patches_with_that_degradation_alone(
    bench: Workbench, table: Storage
) -> None:
    chosen = choose_classical(bench, ("noise", "haze"), table)
    assert chosen["noise"] in {method.name for method in methods_of("noise")[:-1]}
    assert chosen["haze"] == methods_of("haze")[0].name
    (folder,) = (Path(bench.store.path()) / "classical").iterdir()
    record = Storage.open(folder).read_json("noise.json")
    assert record["num_patches"] == 5
    assert record["psnr_db"][chosen["noise"]] == max(record["psnr_db"].values())
    assert choose_classical(bench, ("noise", "haze"), table) == chosen
    assert [time.cached for time in bench.times] == [False, True]


def test_a_clean_patch_keeps_its_scores_and_a_noisy_one_gets_better(table: Storage) -> None:
    patches = read_patches(table, ["part-0.parquet"])
    chosen = {task: methods_of(task)[0].name for task in ("noise", "haze")}
    before, after = score_inputs(patches), score_restoration(restoration(chosen), patches)
    assert after["psnr_rgb"][6] == before["psnr_rgb"][6]
    assert (after["psnr_rgb"][:5] > before["psnr_rgb"][:5] + 3).all()


def test_scores_are_stored_by_the_methods_and_their_version(
    bench: Workbench, table: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns: list[Column] = []
    monkeypatch.setattr(patch_sets, "score", lambda _, wanted, *__: columns.extend(wanted))
    chosen = {"noise": "as it is"}
    scored = {INPUTS: None, CLASSICAL: chosen}
    wanted = [(key, "val_in") for key in scored]
    found = patch_sets.score_tables(bench, {"val_in": table}, scored, wanted)
    assert list(found) == wanted
    specs = {column.spec["expert"]: dict(column.spec) for column in columns}
    assert specs == {
        "input": {"expert": "input", "table": "table"},
        "classical": {
            "expert": "classical",
            "table": "table",
            "methods": VERSION,
            "chosen": chosen,
        },
    }
