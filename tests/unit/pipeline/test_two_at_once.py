"""Two jobs on one store at the same time train no expert twice; one takes over what the other left.

The jobs are processes that train three tiny experts. The first stands still in the middle of one,
until it is killed.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from expertree.degradation.recipe import Recipe
from expertree.images.io import encode_png
from expertree.pipeline.tables import write_table
from expertree.storage import Storage

pytestmark = pytest.mark.timeout(900)  # on a busy machine; two processes, which import torch

EXPERTS = ("a", "b", "c")

JOB = """
import dataclasses, sys, time
from pathlib import Path
from expertree import owners
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.owners import keep
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.runner import LocalRunner
from expertree.scheduling import schedule
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage
from expertree.training import loop

who, folder, stands_still = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "stands-still"
owners.BEAT_S, schedule._HELD_S, loop._SECONDS_BETWEEN_REPORTS = 0.2, 0.2, 0.0
store, shards = Storage.open(folder / "store"), Storage.open(folder / "shards")

@dataclasses.dataclass(frozen=True)
class Traced:
    work: ExpertWork

    def run(self, on_progress, workers):
        key, reported = self.work.job.key, []

        def traced(progress):
            on_progress(progress)
            if not reported:
                with (folder / "trace").open("a") as trace:
                    trace.write(f"{who} {key} {progress['samples']}\\n")
            reported.append(progress)
            if stands_still and len(reported) == 4:
                print("stands still", flush=True)
                time.sleep(600)

        self.work.run(traced, workers)

def task(key, owner):
    recipe = RecipeConfig(batch_size=4, patch_px=16, checkpoint_every_samples=4)
    backbone = NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,))
    job = ExpertJob(key=key, backbone=backbone, recipe=recipe, num_samples=24, seed=0)
    work = ExpertWork(
        job=job, shards=shards, files=("part-00000.parquet",),
        directory=store.sub("expert", key), spec={"key": key}, device="cpu", owner=owner,
    )
    return TrainingTask(key=key, label=key, cost=24.0, work=Traced(work))

with keep(store, what=who) as keeper:
    tasks = [task(key, keeper.owner) for key in ("a", "b", "c")]
    LocalRunner().train(tasks, directory=store.sub("lanes"), on_status=lambda _: None)
"""


def patches(directory: Storage) -> None:
    rng = np.random.default_rng(0)
    images = [encode_png(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(8)]
    recipe = Recipe(tasks=("noise",), parameters={"noise": {"sigma": 20.0}}, seed=0).to_json()
    about = {"kind": "single", "tasks": ["noise"], "caption": "noise", "recipe": recipe}
    rows = [about | {"id": f"{n}", "lq": image, "gt": image} for n, image in enumerate(images)]
    write_table(directory, "part-00000.parquet", pa.Table.from_pylist(rows))


def begin(who: str, folder: Path, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", JOB, who, str(folder), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def trace(folder: Path) -> list[tuple[str, str, int]]:
    lines = (folder / "trace").read_text().splitlines()
    return [(who, key, int(samples)) for who, key, samples in map(str.split, lines)]


def wait_for(folder: Path, *keys: str) -> None:
    deadline = time.monotonic() + 400.0
    while not all((folder / "store" / "expert" / key / "DONE.json").exists() for key in keys):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_expert_is_trained_once_and_what_a_killed_job_left_is_finished(tmp_path: Path) -> None:
    patches(Storage.open(tmp_path / "shards"))
    first = begin("first", tmp_path, "stands-still")
    assert first.stdout is not None
    assert first.stdout.readline() == "stands still\n"
    second = begin("second", tmp_path, "")
    try:
        wait_for(tmp_path, "a", "b")  # what the first one does not hold
        time.sleep(1.0)
        assert second.poll() is None
        assert [key for _, key, _ in trace(tmp_path)] == ["c", "b", "a"]
        first.send_signal(signal.SIGKILL)
        assert second.wait(timeout=200) == 0
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert [(who, key) for who, key, _ in trace(tmp_path)] == [
        ("first", "c"),
        ("second", "b"),
        ("second", "a"),
        ("second", "c"),
    ]
    assert trace(tmp_path)[-1][2] > 4  # from the checkpoint of the first, and not anew
    wait_for(tmp_path, *EXPERTS)
