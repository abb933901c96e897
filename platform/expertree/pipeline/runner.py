"""The interface that a build's work is done through, and the runner that does it in this process.

A build maps functions over items and trains networks. `RayRunner` (`orchestration/runner.py`) does
both on a cluster; `LocalRunner` does one thing after the other here, for tests and for laptops.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from expertree.errors import (
    ExpertreeError,
    HeldError,
    PausedError,
    TrainingError,
    TransientStorageError,
)
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.scheduling.budget import Budget
from expertree.scheduling.dispatcher import TrainingStatus, status_of
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.states import State
from expertree.scheduling.tasks import TrainingTask
from expertree.scheduling.work import OnProgress
from expertree.storage import FileRecord, Storage

T = TypeVar("T")
V_co = TypeVar("V_co", covariant=True)

OnDone: TypeAlias = Callable[[int, int], None]
"""A callback that takes what is done and what there is in all, in the same units."""

OnStatus: TypeAlias = Callable[[TrainingStatus], None]
"""A callback that takes the state of all trainings."""

Files: TypeAlias = dict[Storage, dict[str, FileRecord]]
"""Files that were written, by directory and name."""

Columns: TypeAlias = Mapping[str, np.ndarray[Any, Any]]

_LOCAL = ClusterConfig(runner="local")
_LANE = "here"
_PICTURE_S = 0.5
_REST_S = 0.25
_MOST_NAMED = 5


def size_of(item: Mapping[str, Any]) -> int:
    """Return how much work an item is, beside the others of its stage."""
    size: int = item.get("size", 1)
    return size


class Shared(Protocol[V_co]):
    """A value that every unit of work may ask for; picklable, and small itself."""

    def get(self) -> V_co:
        """Return the value."""
        ...


class Runner(Protocol):
    """Maps functions over items, and trains networks."""

    @property
    def cluster(self) -> ClusterConfig:
        """The settings of the resources it may use."""
        ...

    def open(self) -> None:
        """Start what the work needs; later calls do nothing, and other methods do it if needed."""
        ...

    def close(self) -> None:
        """Release what was started or reserved."""
        ...

    def for_each(
        self,
        work: Any,  # noqa: ANN401 - a function or the class of a callable
        items: Sequence[Mapping[str, Any]],
        on_done: OnDone,
        *,
        on_gpu: bool = False,
        arguments: tuple[Any, ...] = (),
    ) -> Files:
        """Run one unit of work for each item.

        Args:
            work: A function of an item, or a class that is built once a worker and then called.
            items: What to work on. Where items differ much in cost, `size` of each says how much,
                in any whole units; 1 where it is missing.
            on_done: Called with the sizes of what is done, and of all.
            on_gpu: Whether each worker of a class holds a GPU.
            arguments: Arguments that the class is built with; hashable.

        Returns:
            The files that units report as written, by the item's `directory`.
        """
        ...

    def stream(self, work: Callable[[int], Columns], num_units: int) -> Iterator[Columns]:
        """Run `work` with each number below `num_units`, and yield the columns that it returns.

        They come in any order; those of several units may come together.
        """
        ...

    def share(self, value: T) -> Shared[T]:
        """Make a value available to all units of work."""
        ...

    def train(
        self,
        tasks: Sequence[TrainingTask],
        *,
        directory: Storage,
        on_status: OnStatus,
        at_once: int | None = None,
        budget: Budget | None = None,
    ) -> TrainingStatus:
        """Train networks until each is done or has failed for good.

        Args:
            tasks: Networks to train; `work` of each is a `scheduling.work.Work`.
            directory: Directory for the state of trainings; deleted at the end.
            on_status: Called with the state of all tasks.
            at_once: Most tasks at the same time; None for as many as there is room.
            budget: Cap on what they may cost.

        Returns:
            The last state of all tasks, none of which has failed.

        Raises:
            TrainingError: If a task failed for good or was over the budget; the others were
                finished.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Here(Generic[T]):
    value: T

    def get(self) -> T:
        """Return the value."""
        return self.value


class LocalRunner:
    """Does everything in this process, one thing after the other.

    Attributes:
        cluster: Settings; they say whether to use a GPU, and how often a training is tried.
    """

    def __init__(self, cluster: ClusterConfig = _LOCAL) -> None:
        self.cluster = cluster

    def open(self) -> None:
        """Do nothing: there is nothing to start."""

    def close(self) -> None:
        """Do nothing: nothing was started."""

    def for_each(
        self,
        work: Any,  # noqa: ANN401 - see `Runner`
        items: Sequence[Mapping[str, Any]],
        on_done: OnDone,
        *,
        on_gpu: bool = False,  # noqa: ARG002 - there is one process
        arguments: tuple[Any, ...] = (),
    ) -> Files:
        """Run the units one after the other; a class is built once."""
        written: Files = {}
        with _own_threads():
            run = work(*arguments) if isinstance(work, type) else work
            total, done = sum(map(size_of, items)), 0
            for item in items:
                files = run(item)
                if files:
                    written.setdefault(item["directory"], {}).update(files)
                done += size_of(item)
                on_done(done, total)
        return written

    def stream(self, work: Callable[[int], Columns], num_units: int) -> Iterator[Columns]:
        """Return an iterator that runs each unit in turn, when its columns are asked for."""
        return (work(number) for number in range(num_units))

    def share(self, value: T) -> Shared[T]:
        """Wrap the value; units in this process read it directly."""
        return _Here(value)

    def train(
        self,
        tasks: Sequence[TrainingTask],
        *,
        directory: Storage,  # noqa: ARG002 - nothing outlives this call
        on_status: OnStatus,
        at_once: int | None = None,  # noqa: ARG002 - it is one
        budget: Budget | None = None,
    ) -> TrainingStatus:
        """Train the tasks one after the other; a failed one is tried again as on a cluster."""
        attempts = self.cluster.max_attempts
        schedule = Schedule(tasks, lease_s=float("inf"), max_attempts=attempts, budget=budget)
        while not schedule.finished:
            task = schedule.lease(_LANE, time.time())
            if task is None:
                time.sleep(_REST_S)
                continue
            with _own_threads():
                _train_one(schedule, task, on_status)
        last = status_of(schedule)
        on_status(last)
        return check_status(last)


class _StoppedError(Exception):
    """Raised in a training that the schedule has failed, as one that costs too much."""


def _train_one(schedule: Schedule, task: TrainingTask, on_status: OnStatus) -> None:
    from expertree.training import Workers  # noqa: PLC0415 - torch, seconds

    try:
        task.work.run(_reporting(schedule, task, on_status), Workers(rank=0, count=1))
    except _StoppedError:
        on_status(status_of(schedule))
    except PausedError:
        schedule.release(_LANE, task.key, time.time())
        raise
    except HeldError as error:
        schedule.postpone(_LANE, task.key, time.time(), str(error))
    except Exception as error:  # noqa: BLE001 - it is the task's, and is said of it
        message, may_pass = describe_error(error)
        schedule.fail(_LANE, task.key, time.time(), message, retry=may_pass)
    else:
        schedule.finish(_LANE, task.key, time.time())


def _reporting(schedule: Schedule, task: TrainingTask, on_status: OnStatus) -> OnProgress:
    """Return the callback of a training, which raises _StoppedError when it has to end."""
    last_s = 0.0

    def on_progress(progress: Mapping[str, Any]) -> None:
        nonlocal last_s
        now_s = time.time()
        if not schedule.heartbeat(_LANE, task.key, now_s, progress):
            raise _StoppedError(f"{task.label} must not go on")
        if now_s - last_s >= _PICTURE_S:
            on_status(status_of(schedule))
            last_s = now_s

    return on_progress


def describe_error(error: Exception) -> tuple[str, bool]:
    """Return an error's message, and whether another attempt may go well.

    An error of this package would be raised again, unless it is a transient one of the storage.
    """
    is_ours = isinstance(error, ExpertreeError)
    message = str(error) if is_ours else f"{type(error).__name__}: {error}"
    return message, not is_ours or isinstance(error, TransientStorageError)


def check_status(status: TrainingStatus) -> TrainingStatus:
    """Return the last status of some trainings as it is, if none of them has failed.

    Raises:
        TrainingError: If some have; the message names them, and says why the first one failed.
    """
    failed = [task for task in status.tasks if task.state is State.FAILED]
    if failed:
        names = [task.label for task in failed]
        listed = ", ".join(names[:_MOST_NAMED])
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise TrainingError(f"not trained: {listed}{more}; {failed[0].label}: {failed[0].error}")
    return status


@contextlib.contextmanager
def _own_threads() -> Iterator[None]:
    """Restore the process's numbers of threads at the end; units of work set their own."""
    import torch  # noqa: PLC0415 - seconds; a driver of a cluster needs none

    from expertree.threads import threads  # noqa: PLC0415 - likewise

    with threads(torch.get_num_threads()):
        yield
