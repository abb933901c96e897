"""Routers studied on a build whose best experts are known."""

from collections.abc import Callable
from pathlib import Path

import pytest

from expertree.config import load
from expertree.errors import ArtefactError, ConfigError
from expertree.studies.registry import StudyConfig, run_study


def study(folder: Path, **section: object) -> StudyConfig:
    plain = {
        "num_seeds": 1,
        "router": {"num_epochs": 8, "batch_size": 16, "learning_rate": 6e-3, "num_cost_heads": 1},
        **section,
    }
    return load(StudyConfig, {"study": "routing", "output": str(folder / "s"), "routing": plain})


def lines_of(text: str, first: str) -> list[list[str]]:
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    return [line for line in cells if line[0] == first]


def test_each_table_has_its_rows_and_the_next_run_finds_them(
    tmp_path: Path, finished_build: Path
) -> None:
    said: list[str] = []
    config = study(tmp_path, build=str(finished_build))
    text = run_study(config, said.append)
    ((_, root_single, *_),) = lines_of(text, "{1}")
    ((_, finest_single, finest_mixed, *_),) = lines_of(text, "{4}")
    assert float(root_single) == 20
    assert (float(finest_single), float(finest_mixed)) == pytest.approx((27, 24), abs=0.5)
    ((_, finest, routed, best_level, _, lost, *_),) = lines_of(text, "in, single")
    assert float(finest) == pytest.approx(float(best_level), abs=0.5)
    assert float(routed) + float(lost) == pytest.approx(float(best_level), abs=0.02)
    assert len(lines_of(text, "paper")) == 3
    ((_, told_single, *_),) = lines_of(text, "task and confidence")
    assert float(told_single) == pytest.approx(27, abs=0.02)
    made = len(said)
    assert run_study(config, said.append) == text
    assert all(line.endswith(": found") for line in said[made:])


def test_a_set_without_mixtures_has_no_column_of_them(
    tmp_path: Path, finished_build: Path, take_mixtures: Callable[[str], None]
) -> None:
    take_mixtures("val_out")
    columns = ["in, single", "in, mixed", "out, single"]
    text = run_study(study(tmp_path, build=str(finished_build)), lambda _: None)
    for first in ("levels", "what is told"):
        ((_, *head),) = lines_of(text, first)
        assert [name for name in head if not name.startswith("paper")] == columns
    kinds = ("in, single", "in, mixed", "out, single", "out, mixed")
    assert [kind for kind in kinds if lines_of(text, kind)] == columns
    assert "nan" not in text


def test_a_build_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"routing\.build is not set"):
        run_study(study(tmp_path), lambda _: None)
    with pytest.raises(ArtefactError, match=r"has no report\.json"):
        run_study(study(tmp_path, build=str(tmp_path)), lambda _: None)
