"""What a lane does for a search: each piece once, and nothing left behind in the lane."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from expert_jobs import weights
from expertree.errors import ArtefactError, TrainingError, TransientStorageError
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.weights import read_card
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.score import Column
from expertree.scheduling.work import Work
from expertree.search.lane_pieces import PieceWork, ScoreWork
from expertree.storage import Storage
from expertree.training import loop
from expertree.training.workers import ALONE
from lane_work import expert_work, fail_commits


@pytest.fixture(autouse=True)
def _several_threads() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(3)
    cv2.setNumThreads(2)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def works(folder: Path) -> list[tuple[Work, type[Exception]]]:
    """Work of each kind, and the error that it ends with."""
    store = Storage.open(folder)
    job = ExpertJob(key="e", backbone=NAFNetConfig(), recipe=RecipeConfig(), num_samples=8, seed=0)
    expert = ExpertWork(
        job=job, shards=store, files=(), directory=store.sub("e"), spec={}, device="cpu"
    )
    column = Column(expert=store.sub("e"), table=store, directory=store.sub("s"), spec={})
    return [
        (expert, TrainingError),
        (PieceWork(expert=expert, parts=(), in_full=True, notes=store), TrainingError),
        (ScoreWork(expert=store.sub("e"), columns=(column,), device="cpu"), ArtefactError),
    ]


@pytest.mark.parametrize("number", range(3))
def test_a_lane_has_as_many_threads_after_a_task_as_before(number: int, tmp_path: Path) -> None:
    work, error = works(tmp_path)[number]
    with pytest.raises(error):
        work.run(lambda _: None, ALONE)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 2)


def samples_of(work: Work) -> list[int]:
    """Run some work; return the samples at each of its reports."""
    seen: list[int] = []
    work.run(lambda progress: seen.append(progress["samples"]), ALONE)
    return seen


def piece_work(folder: Path, *rungs: int, in_full: bool) -> PieceWork:
    expert, store = expert_work(folder), Storage.open(folder / "store")
    parts = tuple((n, store.sub("snapshot", f"{n}"), {"num_samples": n}) for n in rungs)
    return PieceWork(expert=expert, parts=parts, in_full=in_full, notes=store.sub("notes"))


def test_no_step_is_repeated_where_a_commit_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_REPORTS", 0.0)
    work = piece_work(tmp_path, in_full=True)
    with monkeypatch.context() as patch:
        fail_commits(patch)
        with pytest.raises(TransientStorageError):
            samples_of(work)
    assert samples_of(work) == []
    names = ["expert.json", "expert.safetensors", "log.json"]
    assert work.expert.directory.list_files() == ["DONE.json", *names]
    assert sorted(work.expert.directory.done()["files"]) == names


def kill_at(num_samples: int) -> Callable[[Mapping[str, Any]], None]:
    def on_progress(progress: Mapping[str, Any]) -> None:
        if progress["samples"] >= num_samples:
            raise KeyboardInterrupt

    return on_progress


def test_a_rung_that_a_training_has_gone_past_is_stored_as_it_would_have_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_REPORTS", 0.0)
    work, undisturbed = (
        piece_work(tmp_path / name, 4, 10, 20, in_full=True) for name in ("past", "undisturbed")
    )
    with pytest.raises(KeyboardInterrupt):
        work.expert.run(kill_at(20), ALONE)
    assert samples_of(work) == [4, 4, 8, 12, 20, 24]
    samples_of(undisturbed)
    for (num_samples, snapshot, _), (_, expected, _) in zip(
        work.parts, undisturbed.parts, strict=True
    ):
        assert num_samples <= read_card(snapshot).num_samples < num_samples + 4
        assert snapshot.list_files() == expected.list_files()
        assert weights(snapshot) == weights(expected)
    assert weights(work.expert.directory) == weights(undisturbed.expert.directory)


def test_a_killed_rung_that_a_training_has_gone_past_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_REPORTS", 0.0)
    work = piece_work(tmp_path, 12, in_full=False)
    for whole_or_part, samples in ((work.expert, 20), (work, 8)):
        with pytest.raises(KeyboardInterrupt):
            whole_or_part.run(kill_at(samples), ALONE)
    assert samples_of(work) == [8, 12]
    snapshot = work.parts[0][1]
    assert snapshot.list_files() == ["DONE.json", "expert.json", "expert.safetensors", "log.json"]
