"""What a lane does for a search: each piece once, and nothing left behind in the lane."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from expertree.errors import ArtefactError, TrainingError, TransientStorageError
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
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
