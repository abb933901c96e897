"""Benchmark of how busy lanes are while a tree's experts are trained, measured and simulated."""

import dataclasses
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from expertree.benchmarks.processes import family, num_bytes
from expertree.orchestration.cluster import CPUS_PER_CORE, connect
from expertree.orchestration.lanes import train_all
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.repeating import repeating
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.simulation import OnPreemption, bound_s, simulate
from expertree.scheduling.states import Attempt
from expertree.scheduling.tasks import TrainingTask
from expertree.scheduling.work import OnProgress
from expertree.storage import Storage
from expertree.training import Workers

PAPER_HOURS = 44.0
"""GPU-hours of one of the paper's experts, as its training hours imply."""

PAPER_EXPERTS = 27
_GPUS = (8, 27, 64)
_PREEMPTED_SHARE = 0.05
_CHECKPOINT_HOURS, _RESTART_HOURS, _NUM_DRAWS = 0.25, 5 / 60, 200
_SECONDS_AN_HOUR = 3600.0
_SECONDS_BETWEEN_LOOKS = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TreeConfig:
    """The trees and the lanes."""

    num_experts: tuple[int, ...] = (13, 27)
    """Experts of the trees: {1, 4, 8} and {1, 7, 19}."""

    num_slots: tuple[int, ...] = (2, 4, 8)
    """Numbers of lanes."""

    seconds: float = 60.0
    """Seconds of each expert's training, which waits and computes nothing, so that the cores of
    this machine do not matter."""


def measure_tree(config: TreeConfig) -> dict[str, Any]:
    """Train each tree on each number of lanes, and simulate the paper's tree."""
    names = ("utilisation", "bound", "seconds", "lanes_begin_s", "memory_gib")
    found: dict[str, Any] = {name: {} for name in names}
    gaps_s: list[float] = []
    for num_slots, num_experts in itertools.product(config.num_slots, config.num_experts):
        # As few as hold the lanes, so that not more of them start at a time than cores are there.
        cluster = ClusterConfig(num_cores=-(-num_slots // CPUS_PER_CORE), num_lanes=num_slots)
        tasks, memory = _tasks(num_experts, config.seconds), _Memory()
        # A cluster for each tree: no lane begins in a process that another one has left warm.
        with tempfile.TemporaryDirectory() as folder, connect(cluster):
            begin = time.time()
            with repeating(memory.look, _SECONDS_BETWEEN_LOOKS):
                status = train_all(
                    tasks,
                    config=cluster,
                    directory=Storage.open(folder),
                    on_status=_ignore,
                )
            wall_s = time.time() - begin
        trained_s = num_experts * config.seconds
        name = f"{num_experts} on {num_slots}"
        found["utilisation"][name] = round(trained_s / (num_slots * wall_s), 4)
        rounds_s = bound_s(tasks, num_lanes=num_slots)
        rounds_s = max(rounds_s, -(-num_experts // num_slots) * config.seconds)
        found["bound"][name] = round(trained_s / (num_slots * rounds_s), 4)
        found["seconds"][name] = round(wall_s, 1)
        found["memory_gib"][name] = round(memory.peak_bytes / 2**30, 3)
        begins_s = found["lanes_begin_s"][name] = first_starts(status.history, begin)
        gaps_s += gaps(status.history)
        # Minutes of waiting are behind this line: say it now, whatever comes after.
        sys.stderr.write(
            f"{name}: {found['utilisation'][name]} in {wall_s:.1f} s, lanes at work after "
            f"{begins_s} s\n"
        )
    return {
        "benchmark": "tree",
        **found,
        "seconds_per_expert": round(statistics.mean(gaps_s), 3) if gaps_s else None,
        "seconds_of_an_expert": config.seconds,
        "simulated": on_paper(),
    }


def first_starts(history: Iterable[Attempt], begin: float) -> list[float]:
    """Return the seconds after which each lane began its first expert, sorted."""
    firsts: dict[str, float] = {}
    for attempt in history:
        firsts[attempt.lane] = min(attempt.start - begin, firsts.get(attempt.lane, float("inf")))
    return [round(seconds, 1) for seconds in sorted(firsts.values())]


def gaps(history: Iterable[Attempt]) -> Iterator[float]:
    """Yield the seconds between one expert and the next on the same lane."""
    by_lane: dict[str, list[Attempt]] = {}
    for attempt in sorted(history, key=lambda attempt: attempt.start):
        by_lane.setdefault(attempt.lane, []).append(attempt)
    for attempts in by_lane.values():
        for before, after in itertools.pairwise(attempts):
            if before.end is not None:
                yield after.start - before.end


def on_paper() -> dict[str, Any]:
    """Simulate the paper's 27 experts on 8, 27 and 64 GPUs; one attempt in 20 loses its GPU."""
    tasks = _tasks(PAPER_EXPERTS, PAPER_HOURS)
    found = {}
    for num_gpus in _GPUS:
        walls = [
            simulate(
                tasks,
                num_lanes=num_gpus,
                between_s=3 / _SECONDS_AN_HOUR,
                repeated_s=_CHECKPOINT_HOURS / 2,
                restart_s=_RESTART_HOURS,
                preempt=_loses_one_in_twenty(seed),
            ).wall_s
            for seed in range(_NUM_DRAWS)
        ]
        rounds = -(-PAPER_EXPERTS // num_gpus) * PAPER_HOURS
        least = max(bound_s(tasks, num_lanes=num_gpus), rounds)
        found[f"{num_gpus} GPUs"] = {
            "hours": round(statistics.mean(walls), 2),
            "bound_hours": round(least, 2),
            "over_bound": round(statistics.mean(walls) / least, 4),
        }
    return found


def _loses_one_in_twenty(seed: int) -> OnPreemption:
    """Return a function that preempts one attempt in twenty, at a random point of it."""
    rng = np.random.default_rng(seed)

    def preempt(_key: str, _attempt: int) -> float | None:
        is_lost = rng.random() < _PREEMPTED_SHARE
        return float(rng.random()) if is_lost else None

    return preempt


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Waits:
    """Work that waits."""

    seconds: float

    def run(self, on_progress: OnProgress, workers: Workers) -> None:  # noqa: ARG002 - one
        """Wait, and report progress; see `work.Work.run`."""
        end = time.time() + self.seconds
        while (left := end - time.time()) > 0:
            on_progress({"samples": self.seconds - left, "samples_per_s": 1.0})
            time.sleep(min(left, 0.5))


def _tasks(num_experts: int, cost: float) -> list[TrainingTask]:
    """Return experts of the same length, none of which waits for another, as in the paper."""
    return [
        TrainingTask(key=f"{n:03d}", label=f"expert {n}", cost=cost, work=_Waits(seconds=cost))
        for n in range(num_experts)
    ]


@dataclasses.dataclass(slots=True)
class _Memory:
    """The most memory that this process and all that it started were seen to use."""

    peak_bytes: int = 0

    def look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, _own_bytes(os.getpid()))


def _own_bytes(root: int) -> int:
    """Return the memory of a process and all below it that they share with no other process."""
    return sum(num_bytes(status.get("RssAnon", "0 kB")) for status in family(root).values())


def _ignore(status: TrainingStatus) -> None:
    """Ignore a status of the schedule."""
