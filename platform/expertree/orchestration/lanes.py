"""Lanes: Ray Train workers that are kept and train one network after the other.

Starting a worker group (processes, imports, a controller) costs seconds to tens of seconds; a tree
has tens of experts. So each lane is one `TorchTrainer` run whose worker leases task after task from
a dispatcher until none is left. Isolation stays: a task writes only its own directory, an error
fails that task alone, a worker that dies is restarted by Ray Train and goes on from the task's
last checkpoint, and a lane that is lost with its node loses its lease to another lane.
"""

import contextlib
import dataclasses
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import ray
from ray import cloudpickle
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from expertree.errors import ExpertreeError, TrainingError
from expertree.orchestration.cluster import ClusterConfig, num_lanes
from expertree.orchestration.dispatcher import NAMESPACE, Dispatcher, Picture
from expertree.orchestration.schedule import State, TrainingTask
from expertree.storage import Storage

if TYPE_CHECKING:
    from expertree.experts.workers import Workers

POLL_S = 0.5
_COLLECTIVE_TIMEOUT_S = 24 * 3600
"""Workers wait for their first one while it waits for a task, maybe for hours; that one of them has
died they learn from Ray Train."""

HEARTBEAT_S = 2.0
OnProgress: TypeAlias = Callable[[Mapping[str, Any]], None]

Handle: TypeAlias = Any
"""A handle on the dispatcher actor; Ray's own types do not know the methods behind it."""

Ref: TypeAlias = Any
"""A reference to what a Ray call will return."""


class Work(Protocol):
    """What a task's `work` is: a picklable value that a lane can run."""

    def run(self, on_progress: OnProgress, workers: "Workers") -> None:
        """Do all of it; call `on_progress` often, which raises when the work is to stop.

        Args:
            on_progress: Takes the newest progress.
            workers: This worker among the lane's; all of them run the same work at once.
        """


class LeaseLostError(ExpertreeError):
    """This lane was silent for too long, and another one has its task now."""


def train_all(
    tasks: Sequence[TrainingTask],
    *,
    config: ClusterConfig,
    directory: Storage,
    on_picture: Callable[[Picture], None],
) -> Picture:
    """Train networks in parallel lanes until each is done or has failed for good.

    Args:
        tasks: What to train; `work` of each is a `Work`.
        config: How many lanes, and what each reserves.
        directory: Where Ray Train keeps the runs' state; deleted at the end.
        on_picture: Called about twice a second with the state of all tasks.

    Returns:
        The last picture; nothing in it has failed.

    Raises:
        TrainingError: If a task failed for good (the others were finished first), or if no lane
            is left to work.
    """
    if not tasks:
        return Picture(tasks=(), history=(), finished=True)
    count = min(num_lanes(config), len(tasks))
    with open_lanes(tasks, count=count, config=config, directory=directory) as pool:
        picture = _watch(pool, on_picture)
    failed = [task for task in picture.tasks if task.state is State.FAILED]
    if failed:
        first = failed[0]
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise TrainingError(f"{first.label}{others} could not be trained: {first.error}")
    return picture


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LanePool:
    """Lanes at work, and the dispatcher that they ask for it.

    Attributes:
        dispatcher: A handle on the actor, which anyone may add tasks to.
        lanes: What each lane's run will return.
    """

    dispatcher: Handle
    lanes: Sequence[Ref]


@contextlib.contextmanager
def open_lanes(
    tasks: Sequence[TrainingTask],
    *,
    count: int,
    config: ClusterConfig,
    directory: Storage,
    name: str | None = None,
) -> Iterator[LanePool]:
    """Lanes that work inside the block, on these tasks and on what is added; gone after it.

    Args:
        tasks: What to train first; `work` of each is a `Work`.
        count: How many lanes.
        config: What each reserves.
        directory: Where Ray Train keeps the runs' state; deleted at the end.
        name: By which others find the dispatcher, in `NAMESPACE`.
    """
    named = {} if name is None else {"name": name, "namespace": NAMESPACE}
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    dispatcher: Handle = (
        ray.remote(Dispatcher)
        .options(num_cpus=0, scheduling_strategy=here, max_concurrency=1000, **named)
        .remote(pack(tasks), config.lease_s, config.max_attempts)
    )
    lanes = [
        _fit_lane.remote(f"lane-{index}", dispatcher, config, directory) for index in range(count)
    ]
    try:
        yield LanePool(dispatcher=dispatcher, lanes=lanes)
    finally:
        _send_home(dispatcher, lanes)
        with contextlib.suppress(OSError):
            directory.delete()


def pack(tasks: Iterable[TrainingTask]) -> list[TrainingTask]:
    """The tasks with their work as bytes, which the dispatcher hands on without unpacking."""
    return [dataclasses.replace(task, work=_pack(task.work)) for task in tasks]


def _pack(work: Work) -> bytes:
    packed: bytes = cloudpickle.dumps(work)  # type: ignore[no-untyped-call]
    return packed


def _watch(pool: LanePool, on_picture: Callable[[Picture], None]) -> Picture:
    working = list(pool.lanes)
    while True:
        picture: Picture = ray.get(pool.dispatcher.picture.remote())
        on_picture(picture)
        if picture.finished:
            return picture
        ended, working = ray.wait(working, num_returns=len(working), timeout=POLL_S)
        causes = list(_causes(ended))
        if not working:
            raise TrainingError(f"no lane is left to train on: {causes[-1] if causes else ''}")


def _causes(ended: Iterable[Ref]) -> Iterator[str]:
    for lane in ended:
        try:
            ray.get(lane)
        except RayError as error:
            yield str(error).strip().splitlines()[-1]


def _send_home(dispatcher: Handle, lanes: Sequence[Ref]) -> None:
    with contextlib.suppress(RayError):
        ray.get(dispatcher.close.remote(), timeout=5)
    _, still = ray.wait(list(lanes), num_returns=len(lanes), timeout=10)
    for lane in still:
        ray.cancel(lane)
    ray.kill(dispatcher)


@ray.remote(num_cpus=0, max_retries=-1, retry_exceptions=False, scheduling_strategy="SPREAD")
def _fit_lane(name: str, dispatcher: Handle, config: ClusterConfig, directory: Storage) -> None:
    """One Ray Train run; in a task, so that controllers spread over the cluster and survive it."""
    resources = {"CPU": float(config.cpus_per_lane)}
    if config.use_gpu:
        resources["GPU"] = float(config.gpus_per_lane)
    TorchTrainer(
        _lane_loop,
        train_loop_config={"lane": name, "dispatcher": dispatcher},
        scaling_config=ScalingConfig(
            num_workers=config.workers_per_lane,
            use_gpu=config.use_gpu,
            resources_per_worker=resources,
        ),
        torch_config=TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_S),
        run_config=RunConfig(
            name=f"{name}-{uuid.uuid4().hex[:8]}",
            storage_path=directory.uri,
            failure_config=FailureConfig(max_failures=-1),
        ),
    ).fit()


def _lane_loop(config: dict[str, Any]) -> None:
    """What each worker of a lane does: lease (the first one, for all), train, hand in, again."""
    # Here, so that the process that only starts a lane does not import the networks.
    from expertree.experts.workers import Workers  # noqa: PLC0415

    context = ray.train.get_context()
    workers = Workers(rank=context.get_world_rank(), count=context.get_world_size())
    lane, dispatcher = config["lane"], config["dispatcher"]
    incarnation, node = uuid.uuid4().hex, ray.get_runtime_context().get_node_id()[:8]
    while True:
        task = None
        if workers.is_first:
            task = ray.get(dispatcher.lease.remote(lane, incarnation, node))
        task = workers.agree_on(task)
        if task is None:
            return
        if workers.is_first:
            _run_task(lane, dispatcher, task, workers)
        else:
            _unpack(task).run(_say_nothing, workers)


def _run_task(lane: str, dispatcher: Handle, task: TrainingTask, workers: "Workers") -> None:
    """Run a task and tell the dispatcher how it ended.

    An error stays with the task, unless there are other workers: they wait for this one somewhere
    in the middle of it, so it is raised, and Ray Train starts all of the lane's workers again.
    """
    pulse = _Pulse(lane, dispatcher, task.key)
    try:
        with pulse:
            _unpack(task).run(pulse.on_progress, workers)
    except LeaseLostError:
        if workers.count > 1:
            raise
    except ExpertreeError as error:
        ray.get(dispatcher.fail.remote(lane, task.key, str(error), retry=False))
        if workers.count > 1:
            raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        ray.get(dispatcher.fail.remote(lane, task.key, message, retry=True))
        if workers.count > 1:
            raise
    else:
        ray.get(dispatcher.finish.remote(lane, task.key))


def _unpack(task: TrainingTask) -> Work:
    work: Work = cloudpickle.loads(task.work)
    return work


def _say_nothing(progress: Mapping[str, Any]) -> None:
    """The first worker speaks for all."""


class _Pulse:
    """Tells the dispatcher every two seconds that the lane lives, with the newest progress."""

    def __init__(self, lane: str, dispatcher: Handle, key: str) -> None:
        self._lane, self._dispatcher, self._key = lane, dispatcher, key
        self._progress: Mapping[str, Any] = {}
        self._stop, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def on_progress(self, progress: Mapping[str, Any]) -> None:
        self._progress = dict(progress)
        if self._lost.is_set():
            raise LeaseLostError(f"{self._lane} (process {os.getpid()}) lost {self._key}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with contextlib.suppress(RayError):
                beat = self._dispatcher.heartbeat.remote(self._lane, self._key, self._progress)
                if not ray.get(beat, timeout=30):
                    self._lost.set()
                    return
