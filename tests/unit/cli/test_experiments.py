"""The papers' experiments: composed, and said what they take, without their data being there."""

import re
from pathlib import Path

import pytest

from expertree.cli.composing import CONF, compose
from expertree.pipeline.dry_run import SUSTAINED_FLOPS, describe_plan, multiply_adds
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.sources import labelled

PAPERS = sorted(path.stem for path in (CONF / "experiment").glob("paper_*.yaml"))


def config(name: str, folder: Path, *more: str) -> BuildConfig:
    places = [f"store={folder}/store", f"output={folder}/out", f"data.root={folder}/sets"]
    found = compose(
        BuildConfig,
        [f"experiment={name}", *places, *more],
        verb="build",
        config_name="build_tree",
    )
    assert found is not None
    return found


def test_there_are_the_six() -> None:
    assert [
        *("paper_3t", "paper_5t", "paper_cdd11"),
        *("paper_mixed", "paper_single", "paper_single_lora"),
    ] == PAPERS


@pytest.mark.parametrize("name", PAPERS)
def test_a_dry_run_says_what_it_takes_without_the_data_being_there(
    name: str, tmp_path: Path
) -> None:
    settings = config(name, tmp_path)
    said = describe_plan(settings)
    lines = {line[:8].strip(): line[9:] for line in said.splitlines()}
    assert list(lines) == [
        *("plan", "data", "experts", "samples", "hours", "paper", "memory", "disk")
    ]
    for source, label in zip(*labelled(settings), strict=True):
        assert f"{label} in {source.root}" in lines["data"]
        assert source.root.startswith(str(tmp_path / "sets"))
    groups = ", ".join(map(str, settings.hierarchy.groups))
    assert f"at most {sum(settings.hierarchy.groups)}, for groups {groups}" in lines["experts"]
    assert "TFLOP/s" in lines["hours"]
    assert "578" in lines["paper"] or name == "paper_single_lora"
    assert not (tmp_path / "store").exists() or not any((tmp_path / "store").iterdir())


def test_the_first_experiment_is_the_papers(tmp_path: Path) -> None:
    settings = config("paper_single", tmp_path)
    recipe = settings.experts.recipe
    assert settings.hierarchy.groups == (1, 7, 19)
    assert settings.experts.backbone.name == "restormer"
    assert [rule.backbone.name for rule in settings.experts.rules if rule.backbone] == [
        "retinexformer"
    ]
    assert (recipe.patch_px, recipe.batch_size, recipe.optimizer) == (128, 8, "adamw")
    assert (recipe.learning_rate, settings.experts.warm_start) == (3e-4, False)
    readers = {source.reader for source in settings.data.sources}
    assert readers == {
        *("rain100l", "reside", "gopro", "lol_v1", "snow100k"),
        *("div2k", "flickr2k", "bsd400", "wed"),
    }
    weights = {source.reader: source.weight for source in settings.data.sources}
    made = sum(weights[name] for name in ("div2k", "flickr2k", "bsd400", "wed"))
    assert made == pytest.approx(2.0)


def test_hours_are_multiply_adds_at_the_stated_pace_and_agree_with_the_papers(
    tmp_path: Path,
) -> None:
    settings = config("paper_single", tmp_path)
    each = multiply_adds(settings.experts.backbone, settings.experts.recipe)
    hours = 2 * 2_400_000 * each / SUSTAINED_FLOPS / 3600
    assert hours == pytest.approx(578 / 13, rel=0.1)
    said = re.search(r"at most ([\d,.e+]+) GPU-hours", describe_plan(settings))
    assert said is not None
    assert float(said[1].replace(",", "")) == pytest.approx(28 * hours, rel=0.01)


def test_adapters_and_protocols_of_fewer_tasks_differ_as_they_should(tmp_path: Path) -> None:
    lora = config("paper_single_lora", tmp_path).experts
    assert lora.adapter is not None
    assert (lora.adapter.rank, lora.samples_per_expert) == (8, None)
    repeats = {s.reader: s.repeats for s in config("paper_5t", tmp_path).data.sources}
    assert repeats == {
        "rain100l": 120,
        "reside": 1,
        "bsd400": 3,
        "wed": 3,
        "gopro": 5,
        "lol_v1": 20,
    }
    mixed = config("paper_mixed", tmp_path)
    measured = [(s.reader, s.split) for s in mixed.data.sources if s.part == "val"]
    assert measured == [("urban100", "clean"), ("div2k", "valid")]
    assert mixed.degradation.ranges.noise.sigma is None
