"""Whatever is killed while experts are trained on two nodes, they end as if nothing had been."""

import dataclasses
import functools
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster

from expertree.degradation.recipe import Recipe
from expertree.experts import ExpertJob, RecipeConfig, read_patches, train_expert
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.weights import read_card
from expertree.images.io import encode_png
from expertree.orchestration.lanes import train_all
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.tables import write_table
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.states import Attempt
from expertree.scheduling.tasks import TrainingTask
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage
from expertree.training.workers import Workers
from killing import kill_one_called

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

# Workers cannot import this file, so what is defined in it travels by value.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

INTERVAL = 40
NUM_SAMPLES = 800
EXPERTS = ("a", "b", "c")
RECIPE = RecipeConfig(batch_size=4, patch_px=16, checkpoint_every_samples=INTERVAL)
PATCHES = "part-00000.parquet"


def job_of(name: str) -> ExpertJob:
    return ExpertJob(
        key=name,
        backbone=NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)),
        recipe=RECIPE,
        num_samples=NUM_SAMPLES,
        seed=sum(name.encode()),
    )


@dataclasses.dataclass(frozen=True)
class Slowed:
    """An expert's training with a pause after each step; every step leaves a line."""

    work: ExpertWork
    trace: str
    pause_s: float

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        from expertree.training import loop  # noqa: PLC0415 - in the worker

        loop._SECONDS_BETWEEN_REPORTS = 0.0
        own = f"{os.getpid()}-{time.time()}"

        def slowly(progress: Any) -> None:
            if workers.is_first:
                with Path(self.trace).open("a") as stream:
                    stream.write(f"{own} {progress['samples']}\n")
            on_progress(progress)
            time.sleep(self.pause_s)

        self.work.run(slowly, workers)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A few patches, as experts read them."""
    table = Storage.open(tmp_path_factory.mktemp("table"))
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        clean = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        spoiled = np.clip(clean + rng.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
        images = {"lq": encode_png(spoiled), "gt": encode_png(clean)}
        rows.append(
            {
                "id": f"{number:05d}",
                "kind": "single",
                "tasks": ["noise"],
                "caption": "noise",
                "recipe": Recipe(
                    tasks=("noise",), parameters={"noise": {"sigma": 20.0}}, seed=number
                ).to_json(),
            }
            | images
        )
    write_table(table, PATCHES, pa.Table.from_pylist(rows))
    return table


@pytest.fixture(scope="module")
def expected(table: Storage, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the weights that undisturbed trainings end in, in this process and without Ray."""
    folder = Storage.open(tmp_path_factory.mktemp("undisturbed"))
    patches = read_patches(table, [PATCHES])
    for name in EXPERTS:
        train_expert(job_of(name), patches=patches, directory=folder.sub(name))
    return {name: read_card(folder.sub(name)).sha256 for name in EXPERTS}


@dataclasses.dataclass
class Training:
    """Experts in training, disturbed one time after the other."""

    table: Storage
    folder: Path
    disturbances: list[Callable[[Attempt], None]]
    pause_s: float = 0.05
    victims: list[Attempt] = dataclasses.field(default_factory=list)

    def run(self, names: Sequence[str], *, wanted_nodes: int, **config: Any) -> TrainingStatus:
        """Train; disturb whenever experts run on so many nodes."""

        def on_status(status: TrainingStatus) -> None:
            running = [attempt for attempt in status.history if attempt.end is None]
            ripe = [attempt for attempt in running if self.is_ripe(status, attempt)]
            if self.disturbances and ripe and len({a.node for a in running}) >= wanted_nodes:
                self.victims.append(ripe[0])
                self.disturbances.pop(0)(ripe[0])

        return train_all(
            [self.task(name) for name in names],
            config=ClusterConfig(lease_s=10, **config),
            directory=Storage.open(self.folder / "lanes"),
            on_status=on_status,
        )

    def task(self, name: str) -> TrainingTask:
        work = ExpertWork(
            job=job_of(name),
            shards=self.table,
            files=(PATCHES,),
            directory=Storage.open(self.folder / name),
            spec={"name": name},
            device="cpu",
        )
        slowed: Any = Slowed(work, str(self.folder / f"{name}.trace"), self.pause_s)
        return TrainingTask(key=name, label=name, cost=float(NUM_SAMPLES), work=slowed)

    def is_ripe(self, status: TrainingStatus, attempt: Attempt) -> bool:
        """Whether an attempt, undisturbed as yet, has left a checkpoint of its own."""
        before = {(victim.key, victim.start) for victim in self.victims}
        is_begun = (self.folder / f"{attempt.key}.trace").exists()
        if not is_begun or (attempt.key, attempt.start) in before:
            return False
        trained = self.attempts(attempt.key)
        leases = [a for a in status.history if a.key == attempt.key]
        _, seen = trained[-1]
        return len(trained) == len(leases) and seen[-1] - seen[0] > INTERVAL

    def attempts(self, name: str) -> list[tuple[str, list[int]]]:
        """The samples seen after each step, by attempt."""
        found: dict[str, list[int]] = {}
        for line in (self.folder / f"{name}.trace").read_text().splitlines():
            own, samples = line.split()
            found.setdefault(own, []).append(int(samples))
        return list(found.items())

    def pid_of(self, attempt: Attempt) -> int:
        return int(self.attempts(attempt.key)[-1][0].split("-")[0])

    def weights(self, names: Sequence[str]) -> dict[str, str]:
        done = {name: Storage.open(self.folder / name).done()["files"] for name in names}
        return {name: files["expert.safetensors"]["sha256"] for name, files in done.items()}

    def check(self, status: TrainingStatus, names: Sequence[str], expected: dict[str, str]) -> None:
        """All disturbances came, each cost one attempt, and nothing of what was trained."""
        assert not self.disturbances
        assert self.weights(names) == expected
        lost = [a.key for a in status.history if a.outcome == "lost"]
        assert lost == [victim.key for victim in self.victims]
        for name in names:
            assert all(0 <= again <= INTERVAL for again in self.repeated(name))

    def repeated(self, name: str) -> list[int]:
        """Samples that were seen again (left out, if negative) by each attempt after the first."""
        spans = [seen for _, seen in self.attempts(name)]
        return [
            before[-1] + RECIPE.batch_size - after[0] for before, after in itertools.pairwise(spans)
        ]


@pytest.fixture
def training(table: Storage, tmp_path: Path) -> Callable[..., Training]:
    return functools.partial(Training, table, tmp_path)


@pytest.fixture
def one_node() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def kill(title: str) -> None:
    assert kill_one_called(title), f"no process is called {title}"


@pytest.mark.usefixtures("one_node")
def test_whatever_of_a_lane_is_killed_the_weights_are_the_same(
    training: Callable[..., Training], expected: dict[str, str]
) -> None:
    run: Training
    run = training([lambda victim: os.kill(run.pid_of(victim), signal.SIGKILL)] * 2)
    status = run.run(EXPERTS, wanted_nodes=1, num_lanes=1, max_attempts=3)
    run.check(status, EXPERTS, expected)


@pytest.mark.usefixtures("one_node")
def test_whatever_of_a_lane_of_two_workers_is_killed_the_weights_are_the_same(
    training: Callable[..., Training], table: Storage, tmp_path: Path
) -> None:
    lane: dict[str, Any] = {"wanted_nodes": 1, "num_lanes": 1, "workers_per_lane": 2}
    undisturbed = Training(table, tmp_path / "undisturbed", [], pause_s=0.0)
    undisturbed.folder.mkdir()
    undisturbed.run(EXPERTS, **lane)
    run: Training
    run = training(
        [
            lambda victim: os.kill(run.pid_of(victim), signal.SIGKILL),
            lambda _: kill("ray::TrainController"),
            lambda _: kill("ray::fit_lane"),
        ]
    )
    status = run.run(EXPERTS, max_attempts=4, **lane)
    run.check(status, EXPERTS, undisturbed.weights(EXPERTS))


def test_a_node_that_is_killed_costs_its_expert_at_most_one_interval(
    two_nodes: Cluster, training: Callable[..., Training], expected: dict[str, str]
) -> None:
    def kill(victim: Attempt) -> None:
        two_nodes.remove_node(node_of(two_nodes, victim), allow_graceful=False)

    run = training([kill])
    status = run.run(EXPERTS, wanted_nodes=2)
    assert run.weights(EXPERTS) == expected
    (victim,) = run.victims
    assert [a.key for a in status.history if a.outcome == "lost"] == [victim.key]
    again = {name: run.repeated(name) for name in EXPERTS}
    assert 0 <= again.pop(victim.key)[0] <= INTERVAL
    assert not any(again.values())


def test_a_node_that_is_drained_hands_its_expert_on_with_nothing_lost(
    two_nodes: Cluster, training: Callable[..., Training], expected: dict[str, str]
) -> None:
    def drain(victim: Attempt) -> None:
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("ray"), "drain-node"),
                *("--address", two_nodes.address),
                *("--node-id", node_of(two_nodes, victim).node_id),
                *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"),
                *("--deadline-remaining-seconds", "120"),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run = training([drain], pause_s=0.2)
    status = run.run(EXPERTS, wanted_nodes=2, max_attempts=1)
    assert run.weights(EXPERTS) == expected
    (victim,) = run.victims
    outcomes = {a.outcome: a for a in status.history}
    assert set(outcomes) == {"done", "moved"}
    moved = outcomes["moved"]
    assert moved.key == victim.key
    assert run.repeated(moved.key) == [0]
    assert moved.node not in {a.node for a in status.history if a.start > moved.start}


def test_a_node_that_joins_gets_a_lane(
    two_nodes: Cluster, training: Callable[..., Training], expected: dict[str, str]
) -> None:
    run = training([lambda _: two_nodes.add_node(num_cpus=2)], pause_s=0.3)
    status = run.run(EXPERTS, wanted_nodes=2)
    assert run.weights(EXPERTS) == expected
    assert len({a.lane for a in status.history}) == 3
    assert len({a.node for a in status.history}) == 3


def node_of(cluster: Cluster, attempt: Attempt) -> Any:
    (node,) = (n for n in cluster.worker_nodes if n.node_id.startswith(attempt.node))
    return node
