"""Lanes: Ray Train workers that are kept and train one network after the other.

Starting a worker group (processes, imports, a controller) costs seconds to tens of seconds; a tree
has tens of experts. So each lane is one Ray Train run whose worker leases task after task from a
dispatcher until none is left. Isolation stays: a task writes only its own directory, an error
fails that task alone, a worker that dies is restarted by Ray Train and goes on from the task's
last checkpoint, and a lane that is lost with its node loses its lease to another lane. Where a node
is announced to be taken away, its lane leaves a checkpoint, gives its task back and ends. As long
as there is work, lanes that ended are replaced, and a node that joins gets lanes of its own. All
processes of a lane are on one node: losing a node costs its own lanes only.
"""

import contextlib
import dataclasses
import itertools
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import ray
from ray import cloudpickle
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from expertree.errors import ExpertreeError, PausedError, TrainingError
from expertree.orchestration.budget import Budget
from expertree.orchestration.cluster import ClusterConfig, nodes_that_stay, num_lanes, roomiest
from expertree.orchestration.dispatcher import NAMESPACE, Dispatcher, Picture, Tenant
from expertree.orchestration.schedule import State, TrainingTask
from expertree.storage import Storage

if TYPE_CHECKING:
    from expertree.experts.workers import Workers

POLL_S = 0.5
_MOST_NAMED = 5
_COLLECTIVE_TIMEOUT_S = 24 * 3600
"""Workers wait for their first one while it waits for a task, maybe for hours; that one of them has
died they learn from Ray Train."""

HEARTBEAT_S = 2.0

_NODE_ID = "ray.io/node-id"
"""The label that Ray gives every node."""

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
    budget: Budget | None = None,
) -> Picture:
    """Train networks in parallel lanes until each is done or has failed for good.

    Args:
        tasks: What to train; `work` of each is a `Work`.
        config: How many lanes, and what each reserves.
        directory: Where Ray Train keeps the runs' state; deleted at the end.
        on_picture: Called about twice a second with the state of all tasks.
        budget: A cap on what they may cost.

    Returns:
        The last picture; nothing in it has failed.

    Raises:
        TrainingError: If a task failed for good or was too dear (the others were finished first),
            or if no lane is left to work.
    """
    if not tasks:
        return Picture(tasks=(), history=(), finished=True)
    count = min(num_lanes(config), len(tasks))
    with open_lanes(tasks, count=count, config=config, directory=directory, budget=budget) as pool:
        picture = _watch(pool, on_picture)
    failed = [task for task in picture.tasks if task.state is State.FAILED]
    if failed:
        names = [task.label for task in failed]
        listed = ", ".join(names[:_MOST_NAMED])
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise TrainingError(f"not trained: {listed}{more}; {failed[0].label}: {failed[0].error}")
    return picture


@dataclasses.dataclass(frozen=True, slots=True)
class _Lane:
    number: int
    node: str | None


class LanePool:
    """Lanes at work, and the dispatcher that they ask for it.

    Attributes:
        dispatcher: A handle on the actor, which anyone may add tasks to.
    """

    def __init__(self, dispatcher: Handle, config: ClusterConfig, directory: Storage) -> None:
        self.dispatcher = dispatcher
        self._config, self._directory = config, directory
        self._working: dict[Ref, _Lane] = {}
        self._num_broken, self._num_done = 0, 0
        self._cause = ""

    @property
    def room(self) -> int:
        """How many lanes the cluster has room for now."""
        return num_lanes(self._config)

    def keep_up(self, wanted: int, *, num_done: int) -> None:
        """Start lanes until so many work.

        Args:
            wanted: How many.
            num_done: Tasks that are done; lanes that broke before another one was are forgiven.

        Raises:
            TrainingError: If all have ended by an error, one after the other.
        """
        if num_done > self._num_done:
            self._num_broken, self._num_done = 0, num_done
        if self._num_broken < self._config.max_attempts:
            while len(self._working) < wanted:
                self._start()
        elif not self._working:
            raise TrainingError(f"no lane is left to train on: {self._cause}")

    def _start(self) -> None:
        taken = {lane.number for lane in self._working.values()}
        number = next(number for number in itertools.count() if number not in taken)
        node = self._node()
        where = "SPREAD" if node is None else NodeAffinitySchedulingStrategy(node, soft=True)
        lane = _fit_lane.options(scheduling_strategy=where).remote(
            f"lane-{number}", self.dispatcher, self._config, self._directory, node
        )
        self._working[lane] = _Lane(number, node)

    def _node(self) -> str | None:
        """Where another lane has room; None if nowhere, or if its workers may be on several."""
        if self._config.workers_per_lane > 1:
            return None
        taken = [lane.node for lane in self._working.values()]
        return roomiest(nodes_that_stay(), _resources(self._config), taken)

    def wait(self, timeout_s: float) -> None:
        """Wait a while; a lane that has ended makes room for another."""
        lanes = list(self._working)
        if not lanes:
            return
        ended, _ = ray.wait(lanes, num_returns=len(lanes), timeout=timeout_s)
        for lane in ended:
            del self._working[lane]
            try:
                ray.get(lane)
            except RayError as error:
                self._num_broken += 1
                self._cause = str(error).strip().splitlines()[-1]

    def send_home(self) -> None:
        """End all lanes, and the dispatcher."""
        with contextlib.suppress(RayError):
            ray.get(self.dispatcher.close.remote(), timeout=5)
        lanes = list(self._working)
        still = ray.wait(lanes, num_returns=len(lanes), timeout=10)[1] if lanes else []
        for lane in still:
            ray.cancel(lane)
        ray.kill(self.dispatcher)


@contextlib.contextmanager
def open_lanes(
    tasks: Sequence[TrainingTask],
    *,
    count: int,
    config: ClusterConfig,
    directory: Storage,
    budget: Budget | None = None,
    name: str | None = None,
) -> Iterator[LanePool]:
    """Lanes that work inside the block, on these tasks and on what is added; gone after it.

    Args:
        tasks: What to train first; `work` of each is a `Work`.
        count: How many lanes to begin with.
        config: What each reserves.
        directory: Where Ray Train keeps the runs' state; deleted at the end.
        budget: A cap on what the tasks may cost.
        name: By which others find the dispatcher, in `NAMESPACE`.
    """
    named = {} if name is None else {"name": name, "namespace": NAMESPACE}
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    dispatcher: Handle = (
        ray.remote(Dispatcher)
        .options(num_cpus=0, scheduling_strategy=here, max_concurrency=1000, **named)
        .remote(pack(tasks), config.lease_s, config.max_attempts, budget)
    )
    pool = LanePool(dispatcher, config, directory)
    try:
        pool.keep_up(count, num_done=0)
        yield pool
    finally:
        pool.send_home()
        with contextlib.suppress(OSError):
            directory.delete()


def pack(tasks: Iterable[TrainingTask]) -> list[TrainingTask]:
    """The tasks with their work as bytes, which the dispatcher hands on without unpacking."""
    return [dataclasses.replace(task, work=_pack(task.work)) for task in tasks]


def _pack(work: Work) -> bytes:
    packed: bytes = cloudpickle.dumps(work)  # type: ignore[no-untyped-call]
    return packed


def _watch(pool: LanePool, on_picture: Callable[[Picture], None]) -> Picture:
    while True:
        picture: Picture = ray.get(pool.dispatcher.picture.remote())
        on_picture(picture)
        if picture.finished:
            return picture
        states = [task.state for task in picture.tasks]
        num_open = states.count(State.QUEUED) + states.count(State.RUNNING)
        pool.keep_up(min(pool.room, num_open), num_done=states.count(State.DONE))
        pool.wait(POLL_S)


def _resources(config: ClusterConfig) -> dict[str, float]:
    """What each worker of a lane reserves."""
    gpus = {"GPU": float(config.gpus_per_lane)} if config.use_gpu else {}
    return {"CPU": float(config.cpus_per_lane), **gpus}


@ray.remote(num_cpus=0, max_retries=-1, retry_exceptions=False)
def _fit_lane(
    name: str, dispatcher: Handle, config: ClusterConfig, directory: Storage, node: str | None
) -> None:
    """One Ray Train run; in a task, so that controllers spread over the cluster and survive it.

    Ray Train puts the controller where this runs. The worker goes there too if it is the node that
    was meant; after a loss of that one it runs anywhere, and so does its worker.
    """
    is_here = node == ray.get_runtime_context().get_node_id()
    lane: dict[str, Any] = {
        "train_loop_config": {"lane": name, "dispatcher": dispatcher},
        "scaling_config": ScalingConfig(
            num_workers=config.workers_per_lane,
            use_gpu=config.use_gpu,
            resources_per_worker=_resources(config),
            label_selector={_NODE_ID: node} if node is not None and is_here else None,
        ),
        "run_config": RunConfig(
            name=f"{name}-{uuid.uuid4().hex[:8]}",
            storage_path=directory.uri,
            failure_config=FailureConfig(max_failures=-1),
        ),
    }
    if config.workers_per_lane == 1:
        # Nothing to connect: this process and the run's controller start without torch, which
        # `TorchTrainer` imports in both, 4 s of a core and 0.4 GiB each.
        DataParallelTrainer(_lane_loop, **lane).fit()
    else:
        _fit_connected(lane)


def _fit_connected(lane: Mapping[str, Any]) -> None:
    from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415 - seconds; see above

    config = TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_S)
    TorchTrainer(_lane_loop, torch_config=config, **lane).fit()


def _lane_loop(config: dict[str, Any]) -> None:
    """What each worker of a lane does: lease (the first one, for all), train, hand in, again."""
    # Here, so that the process that only starts a lane does not import the networks.
    from expertree.experts.workers import Workers  # noqa: PLC0415

    context = ray.train.get_context()
    workers = Workers(rank=context.get_world_rank(), count=context.get_world_size())
    dispatcher: Handle = config["dispatcher"]
    node = ray.get_runtime_context().get_node_id()[:8]
    tenant = Tenant(lane=config["lane"], incarnation=uuid.uuid4().hex, node=node)
    while True:
        task = None
        if workers.is_first:
            task = ray.get(dispatcher.lease.remote(tenant))
        task = workers.agree_on(task)
        if task is None:
            return
        if not workers.is_first:
            _unpack(task).run(_say_nothing, workers)
        elif not _run_task(tenant, dispatcher, task, workers):
            return


def _run_task(tenant: Tenant, dispatcher: Handle, task: TrainingTask, workers: "Workers") -> bool:
    """Run a task and tell the dispatcher how it ended; False if the lane is to end too.

    An error stays with the task, unless there are other workers: they wait for this one somewhere
    in the middle of it, so it is raised, and Ray Train starts all of the lane's workers again.
    """
    # Ray answers only when all workers ask, which they do not do in step: lanes of several go on
    # from the last checkpoint when their node is gone.
    pulse = _Pulse(tenant, dispatcher, task.key, may_pause=workers.count == 1)
    try:
        with pulse:
            _unpack(task).run(pulse.on_progress, workers)
    except PausedError:
        ray.get(dispatcher.release.remote(tenant, task.key))
        return False
    except LeaseLostError:
        if workers.count > 1:
            raise
    except Exception as error:
        # What this package raises on purpose, another attempt would raise again.
        is_ours = isinstance(error, ExpertreeError)
        message = str(error) if is_ours else f"{type(error).__name__}: {error}"
        ray.get(dispatcher.fail.remote(tenant, task.key, message, retry=not is_ours))
        if workers.count > 1:
            raise
    else:
        ray.get(dispatcher.finish.remote(tenant, task.key))
    return True


def _node_goes_away() -> bool:
    """Whether this worker's node was announced to be taken away."""
    try:
        return ray.train.get_preemption_info() is not None
    except RayError:  # the controller has died, and this worker will soon: no fault of the task
        return False


def _unpack(task: TrainingTask) -> Work:
    work: Work = cloudpickle.loads(task.work)
    return work


def _say_nothing(progress: Mapping[str, Any]) -> None:
    """The first worker speaks for all."""


class _Pulse:
    """Tells the dispatcher every two seconds that the lane lives, with the newest progress."""

    def __init__(self, tenant: Tenant, dispatcher: Handle, key: str, *, may_pause: bool) -> None:
        self._tenant, self._dispatcher, self._key = tenant, dispatcher, key
        self._may_pause, self._asked = may_pause, time.monotonic()
        self._progress: Mapping[str, Any] = {}
        self._stop, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def on_progress(self, progress: Mapping[str, Any]) -> None:
        self._progress = dict(progress)
        if self._lost.is_set():
            raise LeaseLostError(f"{self._tenant.lane} (process {os.getpid()}) lost {self._key}")
        if self._may_pause and time.monotonic() - self._asked >= HEARTBEAT_S:
            self._asked = time.monotonic()
            if _node_goes_away():
                raise PausedError(f"{self._tenant.lane}: its node {self._tenant.node} goes away")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with contextlib.suppress(RayError):
                beat = self._dispatcher.heartbeat.remote(self._tenant, self._key, self._progress)
                if not ray.get(beat, timeout=30):
                    self._lost.set()
                    return
