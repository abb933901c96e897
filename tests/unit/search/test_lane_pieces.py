"""What a lane does for a search leaves nothing behind in the lane."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from expertree.errors import ArtefactError, TrainingError
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.score import Column
from expertree.scheduling.work import Work
from expertree.search.lane_pieces import PieceWork, ScoreWork
from expertree.storage import Storage
from expertree.training.workers import ALONE


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
