"""Lanes under Ray: all nodes work, and whatever dies costs an attempt and nothing else."""

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import cloudpickle
from ray.cluster_utils import Cluster

from expertree.errors import TrainingError, TransientStorageError
from expertree.orchestration.cluster import connect
from expertree.orchestration.lanes import train_all
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage
from expertree.training.workers import Workers

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

# Workers cannot import this file, so what is defined in it travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclasses.dataclass(frozen=True)
class Sleep:
    """Work that waits, and leaves a line for each attempt."""

    name: str
    folder: str
    seconds: float
    misfortune: str = ""

    def run(self, on_progress: Any, workers: Workers) -> None:
        assert workers.count == 1
        trace = Path(self.folder) / self.name
        attempts = len(trace.read_text().splitlines()) if trace.exists() else 0
        with trace.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        end = time.time() + self.seconds
        while time.time() < end:
            on_progress({"samples": 1, "samples_per_s": 1.0})
            time.sleep(0.1)
        if self.misfortune == "dies" and attempts == 0:
            os._exit(1)
        if self.misfortune == "raises" and attempts == 0:
            raise TransientStorageError("the bucket hiccupped")
        if self.misfortune == "cannot":
            raise TrainingError("the loss is NaN")


@dataclasses.dataclass(frozen=True)
class Together:
    """Work of two workers, each of which leaves a line with what all have summed up."""

    name: str
    folder: str
    seconds: float = 1.0
    second_dies: bool = False

    def run(self, on_progress: Any, workers: Workers) -> None:
        total = torch.tensor([workers.rank + 1.0])
        workers.sum_(total)
        trace = Path(self.folder) / f"{self.name}-{workers.rank}"
        is_first_attempt = not trace.exists()
        with trace.open("a") as stream:
            stream.write(f"{total.item()}\n")
        on_progress({"samples": 1})
        if self.second_dies and is_first_attempt and workers.rank == 1:
            os._exit(1)
        workers.wait()


def task(work: Sleep | Together, after: tuple[str, ...] = ()) -> TrainingTask:
    return TrainingTask(key=work.name, label=work.name, cost=work.seconds, after=after, work=work)


def attempts(folder: Path) -> dict[str, int]:
    return {path.name: len(path.read_text().splitlines()) for path in sorted(folder.iterdir())}


@pytest.mark.usefixtures("two_nodes")
def test_two_nodes_share_the_tasks_and_every_misfortune_stays_with_its_own(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    plain = [Sleep(f"plain-{i}", str(traces), 1.0) for i in range(6)]
    unlucky = [
        Sleep("dies", str(traces), 1.0, "dies"),
        Sleep("raises", str(traces), 1.0, "raises"),
        Sleep("cannot", str(traces), 1.0, "cannot"),
    ]
    heir = task(Sleep("heir", str(traces), 1.0), after=("cannot",))
    last: list[TrainingStatus] = []
    with pytest.raises(TrainingError, match="not trained: cannot, heir; cannot: the loss is NaN"):
        train_all(
            [*(task(work) for work in (*plain, *unlucky)), heir],
            config=ClusterConfig(),
            directory=Storage.open(tmp_path / "lanes"),
            on_status=last.append,
        )
    expected = {work.name: 1 for work in plain} | {"dies": 2, "raises": 2, "cannot": 1}
    assert attempts(traces) == dict(sorted(expected.items()))
    done = [a for a in last[-1].history if a.outcome == "done"]
    assert len({attempt.node for attempt in done}) == 2
    assert {a.key for a in last[-1].history if a.outcome == "lost"} == {"dies"}
    assert not (tmp_path / "lanes").exists()


@dataclasses.dataclass(frozen=True)
class OnSharedGpu:
    """Work on a GPU that waits until all of its kind are at it, and notes which one it has."""

    name: str
    folder: str
    count: int

    def run(self, on_progress: Any, workers: Workers) -> None:
        assert workers.count == 1
        sum_of_ones = torch.ones(1000, device="cuda").sum().item()
        used, whole = os.environ["CUDA_VISIBLE_DEVICES"], torch.cuda.device_count()
        (Path(self.folder) / self.name).write_text(f"{used} {whole} {sum_of_ones:g}")
        deadline_s = time.monotonic() + 200
        while len(list(Path(self.folder).iterdir())) < self.count:
            assert time.monotonic() < deadline_s, "the others are not at it at the same time"
            on_progress({"samples": 1, "samples_per_s": 1.0})
            time.sleep(0.1)


@pytest.mark.gpu
def test_four_lanes_share_one_gpu(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    works = [OnSharedGpu(f"expert-{i}", str(traces), 4) for i in range(4)]
    config = ClusterConfig(use_gpu=True, gpus_per_lane=0.25, num_lanes=4)
    tasks = [TrainingTask(key=own.name, label=own.name, cost=1.0, work=own) for own in works]
    with connect(config):
        train_all(
            tasks,
            config=config,
            directory=Storage.open(tmp_path / "lanes"),
            on_status=lambda _: None,
        )
    said = {path.read_text() for path in traces.iterdir()}
    assert len(said) == 1, "all on the same GPU"
    assert said.pop().endswith(" 1 1000")


@pytest.mark.slow
@pytest.mark.usefixtures("two_nodes_with_dashboard")
def test_workers_of_a_lane_work_together_and_start_again_together(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    works = [Together("whole", str(traces)), Together("broken", str(traces), second_dies=True)]
    pictures: list[TrainingStatus] = []
    train_all(
        [task(work) for work in works],
        config=ClusterConfig(num_lanes=1, workers_per_lane=2),
        directory=Storage.open(tmp_path / "lanes"),
        on_status=pictures.append,
    )
    sums = {path.name: path.read_text().split() for path in sorted(traces.iterdir())}
    assert sums == {
        "broken-0": ["3.0", "3.0"],
        "broken-1": ["3.0", "3.0"],
        "whole-0": ["3.0"],
        "whole-1": ["3.0"],
    }
    ends = [(a.key, a.outcome) for a in pictures[-1].history]
    assert max(ends) == ("whole", "done")
    assert ends.count(("broken", "done")) == 1
    assert len(ends) == 3


@pytest.mark.slow
def test_a_lost_node_loses_no_task(two_nodes: Cluster, tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    works = [Sleep(f"work-{i}", str(traces), 4.0) for i in range(6)]
    killed: list[Any] = []

    def kill_once(status: TrainingStatus) -> None:
        running = [a for a in status.history if a.end is None]
        if not killed and len({a.node for a in running}) == 2:
            victim = next(
                n for n in two_nodes.worker_nodes if n.node_id.startswith(running[0].node)
            )
            two_nodes.remove_node(victim, allow_graceful=False)
            killed.append(running[0])

    status = train_all(
        [task(work) for work in works],
        config=ClusterConfig(lease_s=10),
        directory=Storage.open(tmp_path / "lanes"),
        on_status=kill_once,
    )
    assert killed
    assert status.finished
    lost = [a for a in status.history if a.outcome == "lost"]
    assert [a.key for a in lost] == [killed[0].key]
    assert sorted(attempts(traces)) == [work.name for work in works]
