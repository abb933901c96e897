"""A bundle on all sets below a folder: what is measured, written, and measured again."""

import csv
import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from expertree.cli.main import main
from expertree.errors import ConfigError, DatasetError, StorageError
from expertree.events import read_events
from expertree.public_sets import measure_sets
from expertree.public_sets.measuring import Scored
from expertree.public_sets.plan import Item
from expertree.public_sets.run import LOG, in_this_process
from expertree.report.formatting import count
from expertree.restorer.on_dataset import EvaluateConfig


def image(path: Path, seed: int, side_px: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(small, (side_px, side_px)))


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small sets laid out like the real ones."""
    root = tmp_path_factory.mktemp("sets")
    for number in range(1, 3):
        image(root / f"Rain100L/rainy/rain-{number:03d}.png", number)
        image(root / f"Rain100L/norain/norain-{number}.png", 10 + number)
        image(root / f"LOL/eval15/low/{number}.png", 20 + number)
        image(root / f"LOL/eval15/high/{number}.png", 30 + number)
        image(root / f"photographs/{number}.png", 40 + number, side_px=64)
    image(root / "CBSD68/0000.png", 50)
    return root


@pytest.fixture
def config(bundle_path: Path, sets: Path, tmp_path: Path) -> EvaluateConfig:
    return EvaluateConfig(
        bundle=str(bundle_path), sets=str(sets), partial=True, output=str(tmp_path / "out")
    )


class Interrupted:
    """Measures in this process, and is killed after some images."""

    def __init__(self, most: int) -> None:
        self.most, self.done = most, []

    def __call__(self, config: EvaluateConfig, items: Sequence[Item]) -> Iterator[Scored]:
        for scored in in_this_process(config, items):
            if len(self.done) == self.most:
                raise KeyboardInterrupt
            self.done.append(scored["key"])
            yield scored


def silent(*_: object) -> None:
    pass


NUM_ITEMS = 2 + 2 + 2 + 6


def test_a_killed_run_goes_on_behind_the_images_that_it_has(config: EvaluateConfig) -> None:
    first, second, third = Interrupted(5), Interrupted(99), Interrupted(99)
    with pytest.raises(KeyboardInterrupt):
        measure_sets(config, first, silent)
    log = Path(config.output or "", LOG)
    log.write_bytes(log.read_bytes() + b'{"t": 1, "event": "image", "key": "ha')
    report, output = measure_sets(config, second, silent)
    assert len(first.done) == 5
    assert len(second.done) == NUM_ITEMS - 5
    assert {*first.done}.isdisjoint(second.done)
    again, _ = measure_sets(config, third, silent)
    assert third.done == []
    assert again.table == report.table
    assert len(read_events(output / LOG)) == NUM_ITEMS


def test_other_files_or_another_way_are_measured_anew(
    config: EvaluateConfig, sets: Path, tmp_path: Path
) -> None:
    own = tmp_path / "sets"
    shutil.copytree(sets / "Rain100L", own / "Rain100L")
    config = dataclasses.replace(config, sets=str(own))
    measure_sets(config, Interrupted(99), silent)
    image(own / "Rain100L/rainy/rain-001.png", 99)
    changed = Interrupted(99)
    measure_sets(config, changed, silent)
    assert len(changed.done) == 1
    without = Interrupted(99)
    measure_sets(dataclasses.replace(config, classical=False), without, silent)
    assert len(without.done) == 2


def test_tables_and_page_have_rows_of_ours_and_of_others(config: EvaluateConfig) -> None:
    said: list[tuple[int, int, str]] = []
    report, output = measure_sets(config, in_this_process, lambda *args: said.append(args))
    assert [number for number, _, _ in said] == list(range(1, NUM_ITEMS + 1))
    columns = {column.key: column for column in report.table.columns}
    assert {"rain100l/test/rgb16", "rain100l/test/y", "lol_v1/test/rgb"} < set(columns)
    assert {"cbsd68/noise25", "cbsd68/noise25_float", "cbsd68/noise"} < set(columns)
    assert not any(key in columns for key in ("3T", "5T", "7T"))
    assert not columns["rain100l/test/y"].is_whole
    kinds = [row.kind for row in report.table.rows]
    assert kinds[:4] == ["input", "classical", "routed", "told"]
    assert set(kinds[4:]) == {"published"}
    rows = {row.kind: row for row in report.table.rows[:4]}
    assert rows["input"].results["cbsd68/noise25_float"].psnr == pytest.approx(20.17, abs=0.2)
    assert rows["classical"].results["rain100l/test/y"].note.startswith(("grey top-hat", "median"))
    assert rows["routed"].source.startswith("bundle ")
    # No expert of this model is for low light: nobody can tell it.
    unknown = set(rows["routed"].results) - set(rows["told"].results)
    assert unknown == {"lol_v1/test/rgb", "lol_v1/test/rgb16"}
    lines = list(csv.DictReader((output / "sets.csv").read_text().splitlines()))
    assert {line["kind"] for line in lines} == {"input", "classical", "routed", "told", "published"}
    data = json.loads((output / "sets.json").read_text())
    assert data["origin"]["num_experts"] == report.origin["num_experts"]
    assert r"\begin{tabular}" in (output / "sets.tex").read_text()
    page = (output / "sets.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "Rain100L Y" in page
    ours = rows["routed"]
    assert ours.parameters == report.origin["num_parameters"]
    assert ours.active_parameters is not None
    assert f"{count(ours.parameters)}<small>{count(ours.active_parameters)} run</small>" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_whoever_measures_gets_paths_that_mean_the_same_everywhere(
    config: EvaluateConfig, sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sets.parent)
    bundle = os.path.relpath(config.bundle)

    def work(given: EvaluateConfig, items: Sequence[Item]) -> Iterator[Scored]:
        assert given.bundle == config.bundle
        assert all(item.pair.lq is None or item.pair.lq.is_absolute() for item in items)
        assert all(item.pair.gt is None or item.pair.gt.is_absolute() for item in items)
        monkeypatch.chdir("/")
        return in_this_process(given, items)

    relative = dataclasses.replace(config, sets=sets.name, bundle=bundle, dataset="rain100l")
    report, _ = measure_sets(relative, work, silent)
    assert report.roots == {"rain100l": str(sets / "Rain100L")}


def test_images_whose_names_are_no_text_are_measured_once_and_shown(
    config: EvaluateConfig, tmp_path: Path
) -> None:
    own = tmp_path / "sets"
    for folder in ("CBSD68", "photographs"):
        image(own / folder / "plain.png", 1)
        (own / folder / "plain.png").rename(own / folder / os.fsdecode(b"caf\xe9.png"))
    config = dataclasses.replace(config, sets=str(own), classical=False)
    _, output = measure_sets(config, in_this_process, silent)
    page = (output / "sets.html").read_text(encoding="utf-8")
    assert r"<b>caf\udce9</b>" in page
    again = Interrupted(99)
    measure_sets(config, again, silent)
    assert again.done == []


@pytest.mark.parametrize("place", ["results", "a/b/c/photographs/results"])
def test_pictures_of_a_run_are_no_set_of_the_next(
    config: EvaluateConfig, sets: Path, tmp_path: Path, place: str
) -> None:
    own = tmp_path / "sets"
    shutil.copytree(sets / "photographs", own / "a/b/c/photographs")
    found = []
    for output in (f"{place}/1", f"{place}/1", f"{place}/2"):
        asked = dataclasses.replace(config, sets=str(own), output=str(own / output))
        report, _ = measure_sets(asked, in_this_process, silent)
        found.append((report.roots, [one.name for one in report.photographs]))
    assert found == [({"unpaired": str(own / "a/b/c/photographs")}, ["1", "2"])] * 3


def test_pictures_are_not_mixed_with_photographs_of_others(
    config: EvaluateConfig, sets: Path, tmp_path: Path
) -> None:
    own = tmp_path / "sets"
    shutil.copytree(sets / "photographs", own / "photographs")
    asked = dataclasses.replace(config, sets=str(own), output=str(own))
    with pytest.raises(ConfigError, match="has a folder 'photographs' that no run wrote"):
        measure_sets(asked, in_this_process, silent)
    assert sorted(path.name for path in own.rglob("*.*")) == ["1.png", "2.png"]


def test_folders_that_cannot_be_looked_into_are_listed_among_the_problems(
    config: EvaluateConfig, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "sets"
    shutil.copytree(sets / "Rain100L", own / "Rain100L")
    (own / "private").mkdir()
    scandir = os.scandir

    def refusing(place: Path | str) -> object:
        if Path(place) == own / "private":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    report, output = measure_sets(
        dataclasses.replace(config, sets=str(own)), in_this_process, silent
    )
    said = f"'{own / 'private'}' cannot be looked into: Permission denied"
    assert report.problems == {"other folders": [said]}
    assert report.roots["other folders"] == str(own)
    assert "private&#39; cannot be looked into" in (output / "sets.html").read_text()


def test_the_verb_measures_below_a_folder(
    config: EvaluateConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"bundle={config.bundle}", "--sets", config.sets, f"output={config.output}"]
    assert main(["evaluate", *arguments, "partial=true", "dataset=rain100l"]) == 0
    said = capsys.readouterr()
    assert "Rain100L Y (part)" in said.out
    assert said.out.rstrip().endswith("sets.html")
    assert "2/2 rain100l/test/rain-002" in said.err
    assert main(["evaluate", *arguments, "dataset=rain100l"]) == 1
    assert "2 images where the whole set has 100" in capsys.readouterr().err


def test_what_does_not_go_together_is_said(config: EvaluateConfig, tmp_path: Path) -> None:
    cases = {
        "give bundle": {"bundle": ""},
        "leave root and channels out": {"root": "x"},
        "'rain101' is not known": {"dataset": "rain101"},
        "cannot be read": {"published": str(tmp_path / "none.yaml")},
        "is a URI; with sets give a folder": {"output": "s3://bucket/sets"},
    }
    for message, change in cases.items():
        with pytest.raises(ConfigError, match=message):
            measure_sets(dataclasses.replace(config, **change), in_this_process, silent)
    with pytest.raises(DatasetError, match=r"no set below .* can be measured"):
        measure_sets(dataclasses.replace(config, sets=str(tmp_path)), in_this_process, silent)
    (tmp_path / "file").write_text("")
    taken = dataclasses.replace(config, bundle="nowhere", output=str(tmp_path / "file/out"))
    with pytest.raises(StorageError, match="cannot be written"):
        measure_sets(taken, in_this_process, silent)


DATA = os.environ.get("EXPERTREE_DATA")


@pytest.mark.skipif(not DATA, reason="EXPERTREE_DATA does not name a folder of images")
def test_real_photographs_laid_out_like_public_sets(config: EvaluateConfig, tmp_path: Path) -> None:
    root, data = tmp_path / "real", Path(DATA or "")
    shutil.copytree(data / "derain/val", root / "Rain200H/test")
    for name, folder in (("low", "low"), ("normal", "high")):
        shutil.copytree(data / "lowlight/val" / name, root / "LOL/eval15" / folder)
    shutil.copytree(data / "dehaze/its_indoor/hazy", root / "SOTS/indoor/hazy")
    shutil.copytree(data / "dehaze/its_indoor/clear", root / "SOTS/indoor/gt")
    for name in ("noisy", "clean"):
        (root / "PolyU" / name).mkdir(parents=True)
        for path in sorted((data / "denoise_real/val" / name).iterdir())[:1]:
            shutil.copy(path, root / "PolyU" / name)
    one = dataclasses.replace(config, sets=str(root), classical=False)
    report, _ = measure_sets(one, in_this_process, silent)
    columns = {column.key: column.num_images for column in report.table.columns}
    assert columns["rain200h/test/y"] == 3
    assert columns["sots_indoor/test/rgb"] == 4
    assert columns["polyu/test/rgb"] == 1
    assert columns["lol_v1/test/rgb"] == 2
    before = report.table.rows[0].results
    assert before["lol_v1/test/rgb"].psnr < 15 < before["polyu/test/rgb"].psnr
