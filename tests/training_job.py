"""A job that trains three tiny experts in its own process, and writes down what it trains.

As a program, `training_job.py WHO FOLDER`, it stands still in the middle of the first expert.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expertree import owners
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.owners import Owner, keep
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.runner import LocalRunner
from expertree.scheduling.tasks import TrainingTask
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage
from expertree.training import Workers, loop

EXPERTS = ("a", "b", "c")
"""The last one is trained first."""

NUM_SAMPLES = 24


@dataclasses.dataclass(frozen=True)
class Traced:
    """An expert's training that leaves a line: who trained it, and from which sample on."""

    work: ExpertWork
    who: str
    folder: Path
    stands_still: bool

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        reported: list[int] = []

        def traced(progress: Mapping[str, Any]) -> None:
            on_progress(progress)
            if not reported:
                with (self.folder / "trace").open("a") as trace:
                    trace.write(f"{self.who} {self.work.job.key} {progress['samples']}\n")
            reported.append(progress["samples"])
            if self.stands_still and len(reported) == 4:
                sys.stdout.write("stands still\n")
                sys.stdout.flush()
                time.sleep(600)

        self.work.run(traced, workers)


def run_job(who: str, folder: Path, *, stands_still: bool = False) -> None:
    store = Storage.open(folder / "store")
    with keep(store, what=who) as keeper:
        tasks = [_task(key, who, folder, keeper.owner, stands_still) for key in EXPERTS]
        LocalRunner().train(tasks, directory=store.sub("lanes"), on_status=lambda _: None)


def _task(key: str, who: str, folder: Path, owner: Owner, stands_still: bool) -> TrainingTask:
    recipe = RecipeConfig(batch_size=4, patch_px=16, checkpoint_every_samples=4)
    backbone = NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,))
    work = ExpertWork(
        job=ExpertJob(key=key, backbone=backbone, recipe=recipe, num_samples=NUM_SAMPLES, seed=0),
        shards=Storage.open(folder / "shards"),
        files=("part-00000.parquet",),
        directory=Storage.open(folder / "store").sub("expert", key),
        spec={"key": key},
        device="cpu",
        owner=owner,
    )
    traced = Traced(work, who, folder, stands_still)
    return TrainingTask(key=key, label=key, cost=float(NUM_SAMPLES), work=traced)


if __name__ == "__main__":
    owners.BEAT_S = 0.2
    loop._SECONDS_BETWEEN_REPORTS = 0.0
    run_job(sys.argv[1], Path(sys.argv[2]), stands_still=True)
