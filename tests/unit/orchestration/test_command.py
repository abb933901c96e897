"""What every job does with its command line."""

import dataclasses
import sys

import pytest

from expertree.orchestration.command import prepare_hydra


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Config:
    size: int = 1
    dry_run: bool = False


def test_a_flag_that_people_know_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["job.py", "--dry-run", "size=2"])
    prepare_hydra(_Config(), "flags_defaults")
    assert sys.argv == ["job.py", "dry_run=true", "size=2"]


def test_a_misspelt_key_ends_the_job_with_the_nearest_right_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["job.py", "sise=2"])
    with pytest.raises(SystemExit, match="2"):
        prepare_hydra(_Config(), "misspelt_defaults")
    assert "unknown configuration key 'sise'; did you mean 'size'?" in capsys.readouterr().err
