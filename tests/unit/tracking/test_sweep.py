"""Trials as runs of one sweep, on every backend."""

import json
from pathlib import Path

import pytest

from expertree.errors import ArtefactError, ConfigError
from expertree.tracking import Sweep, SweepIdentity, TrackingConfig, check_tracking, open_sweep
from expertree.tracking.tracker import BACKENDS

IDENTITY = SweepIdentity(
    search="granularity-1",
    name="Search over granularity",
    parameters={"router.alpha": {"min": 0.01, "max": 1.0}},
)


@pytest.fixture(params=BACKENDS)
def sweep(request: pytest.FixtureRequest, tmp_path: Path) -> Sweep:
    config = TrackingConfig(backend=request.param, sweep="abc123")
    return open_sweep(config, IDENTITY, tmp_path / "tracking")


def test_a_trial_that_was_finished_is_known_to_be(sweep: Sweep) -> None:
    keeps = sweep.config.backend != "null"
    assert sweep.unfinished([0, 1]) == ([0, 1] if keeps else [])
    first, second = (
        sweep.trial(n, f"trial {n}", {"tree.levels": 2, "tree.shape": "{1, 4}"}) for n in (0, 1)
    )
    first.log(0, {"psnr.in": 21.5})
    second.log(0, {"psnr.in": 21.0})
    assert sweep.unfinished([0, 1]) == ([0, 1] if keeps else [])
    first.finish()
    second.finish(error="it ran out of memory")
    assert sweep.unfinished([0, 1]) == []


def test_a_choice_that_is_no_scalar_is_refused_by_every_backend(sweep: Sweep) -> None:
    with pytest.raises(TypeError, match=r"trial 0: 'tree' is .*, which is not a scalar"):
        sweep.trial(0, "a trial", {"tree": {"levels": 2}})


def test_a_sweep_is_remembered_beside_its_runs(tmp_path: Path) -> None:
    config = TrackingConfig(backend="jsonl", sweep="abc123")
    open_sweep(config, IDENTITY, tmp_path)
    assert json.loads((tmp_path / "sweep.json").read_text())["parameters"] == IDENTITY.parameters
    again = open_sweep(TrackingConfig(backend="jsonl"), IDENTITY, tmp_path)
    assert again.sweep == "abc123"


def test_runs_of_two_searches_do_not_share_a_folder(tmp_path: Path) -> None:
    config = TrackingConfig(backend="jsonl")
    open_sweep(config, IDENTITY, tmp_path)
    other = SweepIdentity(search="losses-1", name="", parameters={})
    with pytest.raises(ArtefactError, match=r"has the runs of search granularity-1.*losses-1"):
        open_sweep(config, other, tmp_path)


def test_online_without_a_key_is_refused_before_anything_starts(tmp_path: Path) -> None:
    config = TrackingConfig(backend="wandb", mode="online")
    with pytest.raises(ConfigError, match=r"no API key for https?://\S+; run `wandb login`"):
        check_tracking(config)
    with pytest.raises(ConfigError, match="no API key"):
        open_sweep(config, IDENTITY, tmp_path / "tracking")
    assert not (tmp_path / "tracking").exists()
    check_tracking(TrackingConfig(backend="wandb"))


def test_a_key_that_cannot_be_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(ConfigError, match=r"tracking\.mode=online: the API key"):
        check_tracking(TrackingConfig(backend="wandb", mode="online"))
