"""Who does a build's work: one interface, and the one that does it all in this process.

A build maps functions over items and trains networks. `RayRunner` (`ray_runner.py`) does both on a
cluster; `LocalRunner` one thing after the other right here, for tests and for laptops.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from expertree.errors import ExpertreeError, PausedError, TrainingError, TransientStorageError
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.scheduling.budget import Budget
from expertree.scheduling.dispatcher import Picture, picture_of
from expertree.scheduling.schedule import Schedule, State, TrainingTask
from expertree.storage import FileRecord, Storage

T = TypeVar("T")
V_co = TypeVar("V_co", covariant=True)

OnDone: TypeAlias = Callable[[int, int], None]
"""Told of units done, and of units in all."""

OnPicture: TypeAlias = Callable[[Picture], None]
"""Told where all trainings stand."""

Files: TypeAlias = dict[Storage, dict[str, FileRecord]]
"""Files that were written, by directory and name."""

Columns: TypeAlias = Mapping[str, np.ndarray[Any, Any]]

_LOCAL = ClusterConfig(runner="local")
_LANE = "here"
_PICTURE_S = 0.5
_REST_S = 0.25
_MOST_NAMED = 5


class Shared(Protocol[V_co]):
    """A value that every unit of work may ask for; picklable, and small itself."""

    def get(self) -> V_co:
        """Give the value."""
        ...


class Runner(Protocol):
    """Maps functions over items, and trains networks."""

    @property
    def cluster(self) -> ClusterConfig:
        """What it may use."""
        ...

    def open(self) -> None:
        """Get ready, where that has not been done; the rest does it when it is needed first."""
        ...

    def close(self) -> None:
        """Give back what was taken."""
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
            items: What to work on.
            on_done: Told of units done.
            on_gpu: Whether each worker of a class holds a GPU.
            arguments: What the class is built with.

        Returns:
            The files that units wrote, by the item's `directory`, from those units that say so.
        """
        ...

    def stream(self, work: Callable[[int], Columns], num_units: int) -> Iterator[Columns]:
        """Run `work` with each number below `num_units`, and give the columns that it returns.

        They come in any order, and those of several units together.
        """
        ...

    def share(self, value: T) -> Shared[T]:
        """Put a value where all units of work find it."""
        ...

    def train(
        self,
        tasks: Sequence[TrainingTask],
        *,
        directory: Storage,
        on_picture: OnPicture,
        at_once: int | None = None,
        budget: Budget | None = None,
    ) -> Picture:
        """Train networks until each is done or has failed for good.

        Args:
            tasks: What to train; `work` of each is a `lane.Work`.
            directory: Where the state of trainings may be kept; deleted at the end.
            on_picture: Told where all tasks stand.
            at_once: How many, at most, at the same time; null for as many as there is room.
            budget: A cap on what they may cost.

        Returns:
            The last picture; nothing in it has failed.

        Raises:
            TrainingError: If a task failed for good or was too dear; the others were finished.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Here(Generic[T]):
    value: T

    def get(self) -> T:
        """See `Shared`."""
        return self.value


class LocalRunner:
    """Does everything in this process, one thing after the other.

    Attributes:
        cluster: Whether to use a GPU, and how often a training is tried.
    """

    def __init__(self, cluster: ClusterConfig = _LOCAL) -> None:
        self.cluster = cluster

    def open(self) -> None:
        """Nothing has to be started."""

    def close(self) -> None:
        """Nothing was started."""

    def for_each(
        self,
        work: Any,  # noqa: ANN401 - see `Runner`
        items: Sequence[Mapping[str, Any]],
        on_done: OnDone,
        *,
        on_gpu: bool = False,  # noqa: ARG002 - there is one process
        arguments: tuple[Any, ...] = (),
    ) -> Files:
        """See `Runner`."""
        written: Files = {}
        with _own_threads():
            run = work(*arguments) if isinstance(work, type) else work
            for count, item in enumerate(items, start=1):
                files = run(item)
                if files:
                    written.setdefault(item["directory"], {}).update(files)
                on_done(count, len(items))
        return written

    def stream(self, work: Callable[[int], Columns], num_units: int) -> Iterator[Columns]:
        """See `Runner`."""
        return (work(number) for number in range(num_units))

    def share(self, value: T) -> Shared[T]:
        """See `Runner`."""
        return _Here(value)

    def train(
        self,
        tasks: Sequence[TrainingTask],
        *,
        directory: Storage,  # noqa: ARG002 - nothing outlives this call
        on_picture: OnPicture,
        at_once: int | None = None,  # noqa: ARG002 - it is one
        budget: Budget | None = None,
    ) -> Picture:
        """See `Runner`."""
        attempts = self.cluster.max_attempts
        schedule = Schedule(tasks, lease_s=float("inf"), max_attempts=attempts, budget=budget)
        while not schedule.finished:
            task = schedule.lease(_LANE, time.time())
            if task is None:
                time.sleep(_REST_S)
                continue
            with _own_threads():
                _train_one(schedule, task, on_picture)
        last = picture_of(schedule)
        on_picture(last)
        return check_picture(last)


def _train_one(schedule: Schedule, task: TrainingTask, on_picture: OnPicture) -> None:
    from expertree.experts.workers import Workers  # noqa: PLC0415 - torch, seconds

    last_s = 0.0

    def on_progress(progress: Mapping[str, Any]) -> None:
        nonlocal last_s
        now_s = time.time()
        schedule.heartbeat(_LANE, task.key, now_s, progress)
        if now_s - last_s >= _PICTURE_S:
            on_picture(picture_of(schedule))
            last_s = now_s

    try:
        task.work.run(on_progress, Workers(rank=0, count=1))
    except PausedError:
        schedule.release(_LANE, task.key, time.time())
        raise
    except Exception as error:  # noqa: BLE001 - it is the task's, and is said of it
        message, may_pass = told(error)
        schedule.fail(_LANE, task.key, time.time(), message, retry=may_pass)
    else:
        schedule.finish(_LANE, task.key, time.time())


def told(error: Exception) -> tuple[str, bool]:
    """Say an error in words, and whether another attempt may go well.

    What this package raises on purpose, another attempt would raise again.
    """
    is_ours = isinstance(error, ExpertreeError)
    message = str(error) if is_ours else f"{type(error).__name__}: {error}"
    return message, not is_ours or isinstance(error, TransientStorageError)


def check_picture(picture: Picture) -> Picture:
    """Give the last picture of some trainings back, if nothing in it has failed.

    Raises:
        TrainingError: Names those that failed, and why the first one did.
    """
    failed = [task for task in picture.tasks if task.state is State.FAILED]
    if failed:
        names = [task.label for task in failed]
        listed = ", ".join(names[:_MOST_NAMED])
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise TrainingError(f"not trained: {listed}{more}; {failed[0].label}: {failed[0].error}")
    return picture


@contextlib.contextmanager
def _own_threads() -> Iterator[None]:
    """Leave the process's numbers of threads as they were; units of work set their own."""
    import torch  # noqa: PLC0415 - seconds; a driver of a cluster needs none

    from expertree.threads import threads  # noqa: PLC0415 - likewise

    with threads(torch.get_num_threads()):
        yield
