"""A small comparison in one process: cut off in the middle, resumed, and with methods more."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from expertree import Restorer
from expertree.cli.codes import EXIT_FAILED
from expertree.cli.main import main
from expertree.pipeline import expert_work
from expertree.routing import Wish

SETTINGS = (
    *("degradation.patch_px=32", "degradation.num_train=48", "degradation.num_extractor=24"),
    *("degradation.num_route=16", "degradation.num_val_in=8", "degradation.num_val_out=8"),
    *("degradation.num_val_clean=0", "degradation.num_shift=0", "degradation.tasks=[noise,blur]"),
    *("extractor.clip.image_tower=test_resnet", "extractor.view_px=32"),
    *("extractor.recipe.num_steps=2", "extractor.recipe.crop_px=32"),
    *("extractor.recipe.num_threads=1", "hierarchy.groups=[1,2]", "router.num_epochs=2"),
    *("experts.backbone.width=4", "experts.backbone.encoder=[1]", "experts.backbone.decoder=[1]"),
    *("experts.recipe.patch_px=16", "experts.num_samples=[8,4]", "samples=32"),
    *("latency_px=32", "cluster.runner=local"),
)
MOCE = (
    "{name: MoCE, backbone: {name: moce_ir, width: 8, encoder: [1,1,1], middle: 1, "
    "decoder: [1,1,1], refinement: 0, windows: [2,4], heads: [1,1,1,1]}}"
)
INSTRUCTIR = (
    "backbone: {name: instructir, width: 4, encoder: [1], middle: 1, decoder: [1], told_width: 8}"
)
THREE = ("tree", "one_network", MOCE)
MORE = (
    *THREE,
    "tree_nearest",
    f"{{name: blind, {INSTRUCTIR}}}",
    f"{{name: hinted, told: true, {INSTRUCTIR}}}",
)


class CutOffError(BaseException):
    """The end of a process, as far as one can tell from inside."""


def command(folder: Path, methods: tuple[str, ...], *more: str) -> list[str]:
    places = (f"output={folder}/out", f"store={folder}/store")
    return ["compare", *SETTINGS, f"methods=[{','.join(methods)}]", *more, *places]


def run(folder: Path, methods: tuple[str, ...], *more: str) -> dict[str, Any]:
    assert main(command(folder, methods, *more)) == 0
    found: dict[str, Any] = json.loads((folder / "out" / "compare.json").read_text())
    return found


def results(record: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on how fast the machine was."""
    return {name: record[name] for name in ("tables", "paired", "choices", "notes")}


def trained(folder: Path) -> dict[str, int]:
    done = (folder / "store" / "expert").glob("*/DONE.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in done}


def cut_off_in(number: int) -> Callable[..., None]:
    """Return a training that is cut off after its first step, if it is the one with a number."""
    numbers = iter(range(number + 1))
    train = expert_work.train_expert

    def run_or_die(*arguments: Any, on_progress: Callable[..., None], **named: Any) -> None:
        is_last = next(numbers) == number

        def die(progress: Any) -> None:
            on_progress(progress)
            if is_last:
                raise CutOffError

        train(*arguments, on_progress=die, **named)

    return run_or_die


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resumed:
    """A comparison that was cut off in its fourth training, and then run again.

    Attributes:
        folder: Its folder.
        front: A folder with its store as it was, without trainings.
        before: When its trainings of before were done, by key.
        record: What it found in the end.
    """

    folder: Path
    front: Path
    before: dict[str, int]
    record: dict[str, Any]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    folder, front = tmp_path_factory.mktemp("cut"), tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expert_work, "train_expert", cut_off_in(3))
        with pytest.raises(CutOffError):
            run(folder, THREE, "seeds=[0,1]")
    shutil.copytree(folder / "store", front / "store", ignore=lambda *_: {"expert"})
    before = trained(folder)
    record = run(folder, THREE, "seeds=[0,1]")
    return Resumed(folder=folder, front=front, before=before, record=record)


def test_a_comparison_goes_on_where_it_was_cut_off_and_ends_the_same(resumed: Resumed) -> None:
    assert len(resumed.before) == 3
    after = trained(resumed.folder)
    # Of each seed a tree of three networks, one network and a MoCE-IR.
    assert len(after) == 10
    assert {key: after[key] for key in resumed.before} == resumed.before
    whole = run(resumed.front, THREE, "seeds=[0,1]")
    assert results(whole) == results(resumed.record)
    assert set(trained(resumed.front)) == set(after)


def test_its_tables_have_every_method_with_every_seed(resumed: Resumed) -> None:
    record = resumed.record
    for table in record["tables"]:
        assert [row["method"] for row in table["rows"]] == ["input", "tree", "one network", "MoCE"]
        assert {len(cell["values"]) for row in table["rows"][1:] for cell in row["psnr"]} == {2}
    assert [cost["num_samples"] for cost in record["costs"]] == [32, 32, 32]
    assert [cost["num_networks"] for cost in record["costs"]] == [3, 1, 1]
    assert [cost["num_beside"] > 0 for cost in record["costs"]] == [True, False, False]
    assert {choices["method"] for choices in record["choices"]} == {"tree", "MoCE"}
    # MoCE-IR has a choice in each of its three decoder blocks, a tree one.
    assert sorted(len(choices["information"]) for choices in record["choices"]) == [1, 3]


def test_a_method_that_is_added_trains_itself_alone(resumed: Resumed) -> None:
    before = trained(resumed.folder)
    record = run(resumed.folder, MORE, "seeds=[0,1]")
    after = trained(resumed.folder)
    # The same tree with another choice is trained already, and told or not is one training.
    assert len(after) == len(before) + 2
    assert {key: after[key] for key in before} == before
    old = {row["method"]: row for row in resumed.record["tables"][0]["rows"]}
    new = {row["method"]: row for row in record["tables"][0]["rows"]}
    assert {name: new[name] for name in old} == old
    assert [name for name, row in new.items() if row["told"]] == ["hinted"]


def test_rates_are_searched_and_speeds_measured_once(
    resumed: Resumed, capsys: pytest.CaptureFixture[str]
) -> None:
    methods, folder = ("one_network", MOCE), resumed.front
    given = (
        *("seeds=[0]", "match=seconds", "timed_samples=8"),
        *("rates=[0.5,1.0]", "rates_share=0.5"),
    )
    first = run(folder, methods, *given)
    before = trained(folder)
    assert first["costs"][0]["num_samples"] == 32  # the network that the budget is of
    assert first["costs"][1]["num_samples"] < 32  # which is faster than a MoCE-IR
    assert all(cost["searched_core_hours"] > 0 for cost in first["costs"])
    assert first["costs"][0]["searched_samples"] == 2 * 16
    assert {cost["rate"] for cost in first["costs"]} <= {0.5, 1.0}
    capsys.readouterr()
    assert main([*command(folder, methods, *given), "--dry-run"]) == 0
    assert "to make  nothing but the report" in capsys.readouterr().out
    assert results(run(folder, methods, *given)) == results(first)
    assert trained(folder) == before


@pytest.fixture(scope="module")
def on_sets(resumed: Resumed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The comparison with methods more, on two small sets."""
    sets = tmp_path_factory.mktemp("sets")
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for path in ("Rain12/input/1.png", "Rain12/target/1.png", "CBSD68/0000.png"):
        (sets / path).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(sets / path), image)
    return run(resumed.folder, MORE, "seeds=[0,1]", f"sets={sets}", "sets_partial=true")["sets"]


def test_every_method_is_measured_on_public_sets(on_sets: dict[str, Any]) -> None:
    ours = [row for row in on_sets["rows"] if row["kind"] != "published"]
    names = [row["method"] for row in ours if row["kind"] in {"input", "classical", "routed"}]
    assert [name for name in names if "classical" not in name] == [
        *("input", "tree", "one network", "MoCE", "blind")
    ]
    # Of those that are told, the tree chooses by it and the network takes the sentence.
    assert [row["method"] for row in ours if row["kind"] == "told"] == [
        *("tree, told the task", "blind, told the task")
    ]
    assert {"rain12/test/y", "cbsd68/noise25"} <= {column["key"] for column in on_sets["columns"]}
    for row in ours:
        if row["kind"] == "routed":
            assert row["results"]["cbsd68/noise25"]["psnr"] > 0


@pytest.mark.usefixtures("on_sets")
def test_every_method_is_a_bundle_that_restores(resumed: Resumed) -> None:
    folders = sorted(path.name for path in (resumed.folder / "out/bundles").iterdir())
    assert folders == ["blind", "moce", "one_network", "tree"]
    for name in folders:
        restorer = Restorer.load(resumed.folder / "out/bundles" / name)
        image = np.full((20, 24, 3), 90, dtype=np.uint8)
        assert restorer.restore(image, Wish(insist=True)).route.expert is not None


def test_sets_that_are_not_there_are_told_before_anything_is_made(tmp_path: Path) -> None:
    arguments = command(tmp_path, THREE, f"sets={tmp_path}/none")
    assert main(arguments) == main([*arguments, "--dry-run"]) == EXIT_FAILED
    assert not (tmp_path / "store").exists()
