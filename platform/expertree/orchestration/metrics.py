"""The metrics of training, exported by Ray and shown by `serve/grafana_training.json`."""

import functools
import sys
from collections import Counter as Tally
from collections.abc import Mapping
from typing import Any, cast

from ray.util import metrics

from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.estimate import seconds_left
from expertree.scheduling.states import State
from expertree.traffic import Traffic, traffic


class TrainingMetrics:
    """The metrics of all trainings of a job, set by its driver."""

    def __init__(self) -> None:
        """Register the metrics with Ray."""
        state: Any = ("state",)  # Ray's annotation allows a single one
        self._experts = metrics.Gauge(
            "expertree_experts", description="Experts of the run by state.", tag_keys=state
        )
        self._speed = metrics.Gauge(
            "expertree_training_samples_per_second",
            description="Samples a second that all lanes train on.",
        )
        self._waited = metrics.Gauge(
            "expertree_training_waited_share",
            description="Share of their time that running trainings waited for data.",
        )
        self._left = metrics.Gauge(
            "expertree_training_seconds_left",
            description="Estimated seconds until all experts are trained.",
        )
        self._losses = metrics.Counter(
            "expertree_lease_losses", description="Tasks that a lane lost or gave back."
        )
        self._num_lost = 0

    def record(self, status: TrainingStatus) -> None:
        """Set the metrics to the state of all tasks."""
        counts = Tally(task.state for task in status.tasks)
        for state in State:
            self._experts.set(counts[state], tags={"state": state.value})
        running = [task.progress for task in status.tasks if task.state is State.RUNNING]
        self._speed.set(sum(_number(one, "samples_per_s") for one in running))
        if running:
            waited = sum(_number(one, "waited_share") for one in running)
            self._waited.set(waited / len(running))
        self._left.set(seconds_left(status) or 0.0)
        num_lost = sum(attempt.outcome in ("lost", "moved") for attempt in status.history)
        if num_lost > self._num_lost:
            self._losses.inc(num_lost - self._num_lost)
            self._num_lost = num_lost


@functools.cache
def lane_metrics(lane: str) -> "LaneMetrics":
    """Return the metrics of a lane, the same ones for all of its tasks."""
    return LaneMetrics(lane)


class LaneMetrics:
    """The metrics of one lane's process, set by itself.

    Args:
        lane: Name of the lane.
    """

    def __init__(self, lane: str) -> None:
        tag, keys = {"lane": lane}, ("lane", "direction")
        self._bytes = metrics.Counter(
            "expertree_storage_bytes",
            description="Bytes read and written.",
            tag_keys=cast("Any", keys),
        )
        self._memory = metrics.Gauge(
            "expertree_gpu_memory_bytes",
            description="Memory of the GPU that tensors take; the most since the last look.",
            tag_keys=("lane",),
        )
        self._tag = tag
        self._before = Traffic(num_read=0, num_written=0)

    def record(self) -> None:
        """Count what was read and written since the last call, and look at the GPU's memory."""
        now, before = traffic(), self._before
        self._before = now
        for direction, num_bytes in (
            ("read", now.num_read - before.num_read),
            ("written", now.num_written - before.num_written),
        ):
            if num_bytes > 0:
                self._bytes.inc(num_bytes, tags={**self._tag, "direction": direction})
        num_taken = _gpu_memory_bytes()
        if num_taken is not None:
            self._memory.set(num_taken, tags=self._tag)


def _gpu_memory_bytes() -> int | None:
    """Return the most bytes of the GPU that tensors took since the last call; None without one."""
    torch = sys.modules.get("torch")  # a lane that trains has imported it
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    most: int = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return most


def _number(progress: Mapping[str, Any], name: str) -> float:
    return float(progress.get(name) or 0.0)
