"""Benchmark of endurance: a small build on nodes that are lost, leave, join and are slow.

The nodes are raylets of this machine. The build is one of data tasks, which make patches from
photographs that the object stores are too small for, and of a tree's experts, which wait between
steps, so that it lasts as long as it should on any machine. What it makes is compared with what
the same functions make in this process, undisturbed.
"""

import dataclasses
import functools
import itertools
import os
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from expertree.benchmarks.disturbances import Disturbances
from expertree.degradation.recipe import Recipe
from expertree.experts import ExpertJob, RecipeConfig, train_expert
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.patch_cache import SHARED_CACHE
from expertree.experts.patches import PairedPatches, Side
from expertree.experts.training import Hooks
from expertree.images.arrays import ImageU8
from expertree.images.io import encode_png
from expertree.orchestration.cluster import connect
from expertree.orchestration.local_nodes import LocalNodes, local_nodes
from expertree.orchestration.runner import RayRunner
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.runner import LocalRunner, OnDone, OnStatus, Runner, Shared
from expertree.pipeline.tables import write_table
from expertree.repeating import repeating
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.states import State
from expertree.scheduling.tasks import TrainingTask
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage
from expertree.training import CHECKPOINTS, Checkpoints, Workers, is_trained

MIB = 2**20

SLOW = "EXPERTREE_SOAK_SLOW"
"""Variable of a node's processes: how many times as long they wait between steps."""

_GROUPS = (1, 2, 4)
_STEPS, _BATCH, _CHECKPOINT_STEPS = 60, 4, 3
_NUM_PHOTOS, _PHOTO_PX = 8, 2304
_NUM_FILES, _PATCHES_A_FILE, _PATCH_PX = 12, 4, 24
_SECONDS_BETWEEN_LOOKS = 0.5
_RECIPE = RecipeConfig(
    batch_size=_BATCH, patch_px=16, checkpoint_every_samples=_BATCH * _CHECKPOINT_STEPS
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SoakConfig:
    """How long, on what, and how often something happens."""

    minutes: float = 10.0
    """Minutes that the experts take at least, on as many lanes as there are nodes."""

    num_nodes: int = 3
    """Nodes at the beginning, a lane on each; the last one is slow, and stays."""

    slow_times: float = 3.0
    """How many times as long the slow node takes for a step."""

    num_disturbances: int = 6
    """Nodes that are lost, leave or join while experts train, one after the other in this order."""

    store_mib: int = 80
    """MiB of each node's object store, the head's too; the photographs take 121."""

    def __post_init__(self) -> None:
        """Raise ValueError unless there is time, room for Ray, and one node more than is lost."""
        if self.minutes <= 0 or self.slow_times < 1:
            raise ValueError(
                f"minutes must be positive and slow_times at least 1, got {self.minutes} and "
                f"{self.slow_times}"
            )
        if self.num_nodes < 2 or self.num_disturbances < 0 or self.store_mib < 75:
            raise ValueError(
                "at least 2 num_nodes, 0 num_disturbances and 75 store_mib are wanted, got "
                f"{self.num_nodes}, {self.num_disturbances} and {self.store_mib}"
            )

    @property
    def step_s(self) -> float:
        """Seconds of each step: experts of a level go in rounds, one on each lane."""
        rounds = sum(-(-count // self.num_nodes) for count in _GROUPS)
        return 60 * self.minutes / (rounds * _STEPS)


def measure_soak(config: SoakConfig) -> dict[str, Any]:
    """Build twice, undisturbed and disturbed, and compare.

    Returns:
        Whether files and weights are the same, the samples that were trained again in percent of
        all, and the share of the time of lanes that could work in which they did.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Storage.open(name)
        expected = _build(LocalRunner(), folder.sub("undisturbed"), 0.0)
        sys.stderr.write(f"undisturbed: {len(expected)} results\n")
        usage = Usage()
        with local_nodes(num_cpus=2, store_bytes=config.store_mib * MIB) as nodes:
            for _ in range(config.num_nodes - 1):
                nodes.join()
            slow = nodes.join({SLOW: str(config.slow_times)})
            found, events = _disturbed(config, nodes, slow, folder.sub("disturbed"), usage)
        wrong = sorted(key for key in expected if found.get(key) != expected[key])
        repeated = sum(_repeated(folder.sub("disturbed")))
    total = len(_jobs(folder)) * _STEPS * _BATCH
    return {
        "benchmark": "soak",
        "same": not wrong,
        "differs": wrong,
        "repeated_percent": round(100 * repeated / total, 2),
        "utilisation": round(usage.share, 4),
        "seconds": round(usage.seconds, 1),
        "spilled_mib": round(usage.spilled_bytes / MIB, 1),
        "nodes": events,
        "attempts": dict(Counter(attempt.outcome for attempt in usage.history)),
        "num_experts": len(_jobs(folder)),
        "num_files": _NUM_FILES,
    }


def _disturbed(
    config: SoakConfig, nodes: LocalNodes, slow: str, folder: Storage, usage: "Usage"
) -> tuple[dict[str, str], dict[str, int]]:
    """Build on nodes of which some come and go; return the hashes, and what has happened."""
    cluster = ClusterConfig(address=nodes.address, lease_s=10.0)
    disturbances = Disturbances(
        nodes, keep=slow, count=config.num_disturbances, every_s=60 * config.minutes / 8
    )

    def on_status(status: TrainingStatus) -> None:
        usage.look(status, time.monotonic())
        disturbances.on_status(status, time.monotonic())

    def on_spilled() -> None:
        usage.spilled_bytes = max(usage.spilled_bytes, nodes.spilled_bytes())

    with connect(cluster), repeating(on_spilled, _SECONDS_BETWEEN_LOOKS):
        runner = RayRunner(cluster)
        found = _build(runner, folder, config.step_s, disturbances.on_done, on_status)
        runner.close()
    return found, disturbances.happened


def _build(
    runner: Runner,
    folder: Storage,
    step_s: float,
    on_done: OnDone = lambda *_: None,
    on_status: OnStatus = lambda _: None,
) -> dict[str, str]:
    """Make patches and train experts; return the hash of each file and of each expert's weights."""
    table = folder.sub("patches")
    rng = np.random.default_rng(0)
    photos = [
        runner.share(rng.integers(0, 256, (_PHOTO_PX, _PHOTO_PX, 3), np.uint8))
        for _ in range(_NUM_PHOTOS)
    ]
    items = [{"number": number, "directory": table} for number in range(_NUM_FILES)]
    files = runner.for_each(functools.partial(_make_patches, photos), items, on_done)[table]
    tasks = [
        TrainingTask(
            key=job.key,
            label=job.key,
            cost=float(job.num_samples),
            after=(after,) if after is not None else (),
            kind="soak",
            work=_SlowExpert(
                job=job, shards=table, files=tuple(sorted(files)), folder=folder, step_s=step_s
            ),
        )
        for job, after in _jobs(folder)
    ]
    runner.train(tasks, directory=folder.sub("lanes"), on_status=on_status)
    weights = {
        job.key: folder.sub(job.key).done()["files"]["expert.safetensors"]["sha256"]
        for job, _ in _jobs(folder)
    }
    return {name: record["sha256"] for name, record in files.items()} | weights


def _jobs(folder: Storage) -> list[tuple[ExpertJob, str | None]]:
    """Return the tree's experts, parents first, and from which one each starts."""
    found: list[tuple[ExpertJob, str | None]] = []
    for level, count in enumerate(_GROUPS):
        for number in range(count):
            after = f"expert-{level - 1}-{number // 2}" if level else None
            job = ExpertJob(
                key=f"expert-{level}-{number}",
                backbone=NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)),
                recipe=_RECIPE,
                num_samples=_STEPS * _BATCH,
                seed=len(found),
                init=folder.sub(after).uri if after is not None else None,
            )
            found.append((job, after))
    return found


def _make_patches(
    photos: Sequence[Shared[UInt8[np.ndarray, "h w 3"]]], item: Mapping[str, Any]
) -> dict[str, Any]:
    """Write one file of patches that are cut from a photograph."""
    number, directory = item["number"], item["directory"]
    rng = np.random.default_rng([1, number])
    photo = photos[number % len(photos)].get()
    rows = []
    for place in range(_PATCHES_A_FILE):
        row, column = rng.integers(0, _PHOTO_PX - 3, 2)
        clean = photo[row : row + 3, column : column + 3].repeat(8, 0).repeat(8, 1)
        spoiled = np.clip(clean + rng.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
        noise = Recipe(tasks=("noise",), parameters={"noise": {"sigma": 20.0}}, seed=number)
        rows.append(
            {
                "id": f"{number:03d}-{place}",
                "kind": "single",
                "tasks": ["noise"],
                "caption": "noise",
                "recipe": noise.to_json(),
                "lq": encode_png(spoiled),
                "gt": encode_png(np.ascontiguousarray(clean)),
            }
        )
    name = f"part-{number:05d}.parquet"
    return {name: write_table(directory, name, pa.Table.from_pylist(rows))}


class _SlowPatches(PairedPatches):
    """Patches of which a batch takes a while to draw."""

    def __init__(self, storage: Storage, files: Sequence[str], seconds: float) -> None:
        super().__init__(storage, files, SHARED_CACHE)
        self._seconds = seconds

    def images(self, side: Side, indices: Sequence[int]) -> list[ImageU8]:
        """Return images as `PairedPatches` does, the clean ones of a batch after a wait."""
        if side == "gt":
            time.sleep(self._seconds)
        return super().images(side, indices)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _SlowExpert:
    """The training of an expert, slowly; each attempt leaves lines of the samples seen."""

    job: ExpertJob
    shards: Storage
    files: tuple[str, ...]
    folder: Storage
    step_s: float

    def run(self, on_progress: OnProgress, workers: Workers) -> None:
        """Train the expert and commit it; do nothing if that was done. See `Work.run`."""
        directory = self.folder.sub(self.job.key)
        if is_trained(directory, workers):
            return
        own, trace = uuid.uuid4().hex, Path(self.folder.path(f"{self.job.key}.trace"))

        def note(progress: Mapping[str, Any]) -> None:
            with trace.open("a") as stream:
                stream.write(f"{own} {progress['samples']}\n")
            on_progress(progress)

        begun = Checkpoints(directory, self.job.fingerprint).newest_valid()
        note({"samples": 0 if begun is None else begun.num_seen})
        seconds = self.step_s * float(os.environ.get(SLOW, "1"))
        patches = _SlowPatches(self.shards, self.files, seconds)
        commit = functools.partial(directory.commit, {"key": self.job.key}, without=CHECKPOINTS)
        train_expert(
            self.job,
            patches=patches,
            directory=directory,
            on_progress=note,
            hooks=Hooks(commit=commit),
            workers=workers,
        )


def _repeated(folder: Storage) -> Iterator[int]:
    """Yield the samples that each attempt after an expert's first has trained on again."""
    for job, _ in _jobs(folder):
        trace = Path(folder.path(f"{job.key}.trace")).read_text()
        yield from repeated_in(trace.splitlines())


def repeated_in(trace: Sequence[str]) -> Iterator[int]:
    """Yield how far each attempt began before the end of the one before it, in samples.

    Args:
        trace: Lines of an attempt's name and the samples seen, in their order.
    """
    attempts: dict[str, list[int]] = {}
    for line in trace:
        own, samples = line.split()
        attempts.setdefault(own, []).append(int(samples))
    for before, after in itertools.pairwise(attempts.values()):
        yield max(before[-1] - after[0], 0)


class Usage:
    """How much of the time that lanes could work they did.

    Attributes:
        seconds: Seconds from the first look to the last.
        spilled_bytes: The most bytes of objects that were on disk.
        history: All attempts, as of the last look.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.spilled_bytes = 0
        self.history: Sequence[Any] = ()
        self._last_s: float | None = None
        self._worked_s, self._could_s = 0.0, 0.0

    @property
    def share(self) -> float:
        """Seconds that lanes worked over those that they could have; 0 before the second look."""
        return self._worked_s / self._could_s if self._could_s else 0.0

    def look(self, status: TrainingStatus, now_s: float) -> None:
        """Count the time since the last look by the state that is seen now."""
        passed_s = 0.0 if self._last_s is None else now_s - self._last_s
        self._last_s, self.history = now_s, status.history
        open_ = {task.key for task in status.tasks if task.state is not State.DONE}
        running = sum(task.state is State.RUNNING for task in status.tasks)
        could = sum(task.key in open_ and not open_ & set(task.after) for task in status.tasks)
        self.seconds += passed_s
        self._worked_s += passed_s * running
        self._could_s += passed_s * max(min(could, status.num_lanes), running)
