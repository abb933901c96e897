"""The runner that does a build's work on a Ray cluster, a private or a running one."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import ray

from expertree.events import EventLog
from expertree.orchestration.cluster import connect
from expertree.orchestration.data import for_each, stream
from expertree.orchestration.lanes import train_all
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.runner import (
    Columns,
    Files,
    LocalRunner,
    OnDone,
    OnStatus,
    Runner,
    Shared,
)
from expertree.scheduling.budget import Budget
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage

T = TypeVar("T")


def runner_of(cluster: ClusterConfig, events: EventLog | None = None) -> Runner:
    """Make the runner that a configuration asks for.

    Args:
        cluster: Settings of the runner, and of what it may use.
        events: Log that notes the start of a cluster.
    """
    return LocalRunner(cluster) if cluster.runner == "local" else RayRunner(cluster, events)


@dataclasses.dataclass(frozen=True, slots=True)
class _InStore(Generic[T]):
    """A value in Ray's object store, which the workers of a node share without unpacking arrays."""

    ref: list[Any]  # in a list, or Ray would replace it by its value on the way

    def get(self) -> T:
        """Fetch the value from the object store."""
        value: T = ray.get(self.ref[0])
        return value


class RayRunner:
    """A runner that maps in Ray Data's tasks (or actors), and trains in lanes.

    Attributes:
        cluster: How to reach or start the cluster, and what lanes reserve.
    """

    def __init__(self, cluster: ClusterConfig, events: EventLog | None = None) -> None:
        """Start nothing yet; the start of the cluster will be noted in `events`."""
        self.cluster = cluster
        self._events = events
        self._resources = contextlib.ExitStack()
        self._is_open = False

    def open(self) -> None:
        """Connect to the cluster, or start one; later calls do nothing."""
        if not self._is_open:
            self._note("cluster_starting")
            self._resources.enter_context(connect(self.cluster))
            self._is_open = True
            self._note("cluster_ready")

    def _note(self, event: str) -> None:
        if self._events is not None:
            self._events.emit(event)

    def close(self) -> None:
        """Leave the cluster; stop it if it was started here."""
        self._resources.close()
        self._is_open = False

    def for_each(
        self,
        work: Any,  # noqa: ANN401 - see `Runner`
        items: Sequence[Mapping[str, Any]],
        on_done: OnDone,
        *,
        on_gpu: bool = False,
        arguments: tuple[Any, ...] = (),
    ) -> Files:
        """Run a unit of work for each item in tasks; in a pool of actors where they hold GPUs."""
        self.open()
        return for_each(work, items, on_done, on_gpu=on_gpu, arguments=arguments)

    def stream(self, work: Callable[[int], Columns], num_units: int) -> Iterator[Columns]:
        """Run `work` with each number below `num_units` in tasks; yield the columns it returns."""
        self.open()
        return stream(work, num_units)

    def share(self, value: T) -> Shared[T]:
        """Put a value into the object store, where all units of work find it."""
        self.open()
        return _InStore([ray.put(value)])

    def train(
        self,
        tasks: Sequence[TrainingTask],
        *,
        directory: Storage,
        on_status: OnStatus,
        at_once: int | None = None,
        budget: Budget | None = None,
    ) -> TrainingStatus:
        """Train networks in lanes; with `at_once`, in so many lanes of one worker each."""
        if tasks:
            self.open()
        config = self.cluster
        if at_once is not None:
            config = dataclasses.replace(config, num_lanes=at_once, workers_per_lane=1)
        return train_all(
            tasks, config=config, directory=directory, on_status=on_status, budget=budget
        )
