"""Lanes: Ray Train workers that are kept and train one network after the other.

Starting a worker (a process, imports, with several of them a controller too) costs seconds to tens
of seconds; a tree has tens of experts. So each lane is one Ray Train run whose worker leases task
after task from a dispatcher until none is left. Isolation stays: a task writes only its own
directory, an error fails that task alone, a worker that dies is restarted and goes on from the
task's last checkpoint, and a lane that is lost with its node loses its lease to another lane. Where
a node is announced to be taken away, its lane leaves a checkpoint, gives its task back and ends.
Where a faster lane is idle, a slow one does so too and goes on with another task. As long as there
is work, lanes that ended are replaced, and a node that joins gets lanes of its own. A node starts
few lanes at a time, since each imports for seconds: the first train meanwhile.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from expertree.errors import StorageError, TrainingError
from expertree.orchestration.cluster import CPUS_PER_CORE, nodes_that_stay, num_lanes, roomiest
from expertree.orchestration.lane import Handle, fit_lane, pack, resources_of
from expertree.orchestration.metrics import TrainingMetrics
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.runner import OnStatus, check_status
from expertree.scheduling.budget import Budget
from expertree.scheduling.dispatcher import NAMESPACE, Dispatcher, TrainingStatus
from expertree.scheduling.moves import MOVE_S
from expertree.scheduling.states import State, TaskStatus
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage

POLL_S = 0.5
_ANSWER_S = 60.0

STARTING_S = 60.0
"""Seconds after which a lane that has not asked for a task yet no longer counts as starting."""

Ref: TypeAlias = Any
"""A reference to what a Ray call will return."""


def train_all(
    tasks: Sequence[TrainingTask],
    *,
    config: ClusterConfig,
    directory: Storage,
    on_status: OnStatus,
    budget: Budget | None = None,
) -> TrainingStatus:
    """Train networks in parallel lanes until each is done or has failed for good.

    Args:
        tasks: Tasks to run; `work` of each is a `Work`.
        config: Number of lanes, and what each reserves.
        directory: Folder for the state of Ray Train's runs; deleted at the end.
        on_status: Called about twice a second with the state of all tasks.
        budget: A cap on what the tasks may cost.

    Returns:
        The last snapshot, in which no task has failed.

    Raises:
        TrainingError: If a task failed for good or was too dear (the others were finished first),
            or if no lane is left to work.
    """
    if not tasks:
        return TrainingStatus(tasks=(), history=(), finished=True)
    count = min(num_lanes(config), len(tasks))
    with open_lanes(tasks, count=count, config=config, directory=directory, budget=budget) as pool:
        status = _watch(pool, on_status)
    return check_status(status)


@dataclasses.dataclass(frozen=True, slots=True)
class _Lane:
    name: str
    node: str | None  # where it was sent; None if Ray chose
    start_s: float


class LanePool:
    """Running lanes, and the dispatcher that gives them tasks.

    Attributes:
        dispatcher: A handle on the actor, which anyone may add tasks to.
    """

    def __init__(self, dispatcher: Handle, config: ClusterConfig, directory: Storage) -> None:
        self.dispatcher = dispatcher
        self._config, self._directory = config, directory
        self._working: dict[Ref, _Lane] = {}
        self._leased: dict[str, tuple[float, str]] = {}  # each lane's newest: when, on which node
        self._consecutive_failures, self._num_done = 0, 0
        self._cause = ""
        self._metrics = TrainingMetrics()

    @property
    def room(self) -> int:
        """The number of lanes that the cluster has room for now."""
        return num_lanes(self._config)

    def wanted(self, tasks: Sequence[TaskStatus], *, more_may_come: bool = False) -> int:
        """Return how many lanes should run, at most as many as there is room for.

        Where nodes start for lanes, these are as many as have a task or can begin one: the node of
        any other would be paid for while it waits for another task's end.

        Args:
            tasks: All tasks.
            more_may_come: Whether others may be added; elsewhere lanes then wait for them.
        """
        is_open = {task.key for task in tasks if task.state in (State.QUEUED, State.RUNNING)}
        if not self._config.gpus_may_come:
            return self.room if more_may_come else min(self.room, len(is_open))
        busy = [
            task.state is State.RUNNING or is_open.isdisjoint(task.after)
            for task in tasks
            if task.key in is_open
        ]
        return min(self.room, sum(busy))

    def status(self) -> TrainingStatus:
        """Ask the dispatcher for the state of all tasks; note where lanes are, and the metrics.

        Raises:
            RayError: If it does not answer.
        """
        found = ray.get(self.dispatcher.status.remote(), timeout=_ANSWER_S)
        status: TrainingStatus = dataclasses.replace(found, num_lanes=self.room)
        self._metrics.record(status)
        self._leased = {one.lane: (one.start, one.node) for one in status.history}
        return status

    def start_missing_lanes(self, wanted: int, *, num_done: int) -> None:
        """Start lanes until `wanted` run, at once only as many as their nodes start at a time.

        Args:
            wanted: Number of lanes that should run.
            num_done: Number of tasks that are done; when it grows, earlier broken lanes are no
                longer counted.

        Raises:
            TrainingError: If no lane is left and too many in a row have ended by an error.
        """
        if num_done > self._num_done:
            self._consecutive_failures, self._num_done = 0, num_done
        if self._consecutive_failures < self._config.max_attempts:
            self._start_up_to(wanted)
        elif not self._working:
            raise TrainingError(f"no lane is left to train on: {self._cause}")

    def _start_up_to(self, wanted: int) -> None:
        while len(self._working) < wanted:
            nodes = nodes_that_stay()
            taken = [self._node_of(lane, nodes) for lane in self._working.values()]
            node = None  # if no other lane has room anywhere, or its workers may be on several
            if self._config.workers_per_lane == 1:
                node = roomiest(nodes, resources_of(self._config), taken)
            if node is not None and self._num_starting(node) >= _starts_at_once(nodes[node]):
                return
            self._start(node)

    def _node_of(self, lane: _Lane, nodes: Iterable[str]) -> str | None:
        """Return the node that a lane last leased a task on, else the one that it was sent to.

        Ray may have chosen it, or another one since it was lost with its first.
        """
        leased_s, short = self._leased.get(lane.name, (0.0, ""))
        if leased_s < lane.start_s:
            return lane.node
        return next((node for node in nodes if node.startswith(short)), None)

    def _num_starting(self, node: str) -> int:
        """Return the number of lanes on a node that have not asked for a task yet."""
        here = [lane for lane in self._working.values() if lane.node == node]
        if not here:
            return 0
        asked: Mapping[str, float] = ray.get(self.dispatcher.last_lease_request_s.remote())
        longest_s = time.time() - STARTING_S
        return sum(max(asked.get(own.name, 0.0), longest_s) < own.start_s for own in here)

    def _start(self, node: str | None) -> None:
        taken = {lane.name for lane in self._working.values()}
        name = next(name for n in itertools.count() if (name := f"lane-{n}") not in taken)
        where = "SPREAD" if node is None else _rather_on(node)
        # Several workers reserve what they need by themselves, beside this task.
        own = resources_of(self._config) if self._config.workers_per_lane == 1 else {}
        lane = fit_lane.options(
            num_cpus=own.get("CPU", 0.0), num_gpus=own.get("GPU", 0.0), scheduling_strategy=where
        ).remote(name, self.dispatcher, self._config, self._directory)
        self._working[lane] = _Lane(name, node, time.time())

    def wait(self, timeout_s: float) -> None:
        """Wait up to `timeout_s` for lanes to end; those that have make room for others."""
        lanes = list(self._working)
        if not lanes:
            return
        ended, _ = ray.wait(lanes, num_returns=len(lanes), timeout=timeout_s)
        for lane in ended:
            del self._working[lane]
            try:
                ray.get(lane)
            except RayError as error:
                self._consecutive_failures += 1
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
    """Run lanes for the block, on these tasks and on those that are added; end them after it.

    Args:
        tasks: Tasks to begin with; `work` of each is a `Work`.
        count: Number of lanes to begin with; none is begun where nodes start for lanes.
        config: What each lane reserves.
        directory: Folder for the state of Ray Train's runs; deleted at the end.
        budget: A cap on what the tasks may cost.
        name: Name by which others find the dispatcher, in `NAMESPACE`; None for no name.
    """
    named = {} if name is None else {"name": name, "namespace": NAMESPACE}
    # Several workers would have to give a task back at the same step.
    move_s = MOVE_S if config.workers_per_lane == 1 else None
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    dispatcher: Handle = (
        ray.remote(Dispatcher)
        .options(num_cpus=0, scheduling_strategy=here, max_concurrency=1000, **named)
        .remote(pack(tasks), config.lease_s, config.max_attempts, budget, move_s)
    )
    pool = LanePool(dispatcher, config, directory)
    try:
        pool.start_missing_lanes(0 if config.gpus_may_come else count, num_done=0)
        yield pool
    finally:
        pool.send_home()
        with contextlib.suppress(StorageError):
            directory.delete()


def _watch(pool: LanePool, on_status: OnStatus) -> TrainingStatus:
    while True:
        status = pool.status()
        on_status(status)
        if status.finished:
            return status
        states = [task.state for task in status.tasks]
        pool.start_missing_lanes(pool.wanted(status.tasks), num_done=states.count(State.DONE))
        pool.wait(POLL_S)


def _rather_on(node: str) -> NodeAffinitySchedulingStrategy:
    """Return the strategy for a lane on a node, or on another that has room where it has none.

    Without the latter, for which Ray has no public setting, a lane would wait for the node for
    ever, while another one joins and idles.
    """
    return NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)


def _starts_at_once(node: Mapping[str, float]) -> int:
    """Return how many lanes a node starts at a time: one per core, as each keeps one busy."""
    return max(1, int(node.get("CPU", 0.0) // CPUS_PER_CORE))
