"""One lane: a Ray Train worker that leases task after task from the dispatcher."""

import contextlib
import dataclasses
import os
import threading
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import ray
from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError
from ray.train import FailureConfig, RunConfig
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from expertree.errors import ExpertreeError, HeldError, PausedError
from expertree.orchestration.cluster import is_leaving
from expertree.orchestration.data import built
from expertree.orchestration.metrics import lane_metrics
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.runner import describe_error
from expertree.repeating import repeating
from expertree.scheduling.dispatcher import LaneIdentity, Order
from expertree.scheduling.tasks import TrainingTask
from expertree.scheduling.work import Work
from expertree.storage import Storage

if TYPE_CHECKING:
    from expertree.training import Workers

HEARTBEAT_S = 2.0

_COLLECTIVE_TIMEOUT_S = 24 * 3600
"""Timeout of collective calls. Workers wait for their first one while it waits for a task, maybe
for hours; they learn from Ray Train if one of them has died."""

Handle: TypeAlias = Any
"""A handle on the dispatcher actor; Ray's own types do not know the methods behind it."""


class LeaseLostError(ExpertreeError):
    """Raised in a lane that no longer holds its task, as after a long silence."""


def pack(tasks: Iterable[TrainingTask]) -> list[TrainingTask]:
    """Return the tasks with their work as bytes, which the dispatcher passes on as they are."""
    return [dataclasses.replace(task, work=_pack(task.work)) for task in tasks]


def _pack(work: Work) -> bytes:
    packed: bytes = cloudpickle.dumps(work)  # type: ignore[no-untyped-call]
    return packed


def resources_of(config: ClusterConfig) -> dict[str, float]:
    """Return the resources that each worker of a lane reserves, by Ray's names."""
    gpus = {"GPU": float(config.gpus_per_lane)} if config.use_gpu else {}
    return {"CPU": float(config.cpus_per_lane), **gpus}


@ray.remote(max_retries=-1, retry_exceptions=False)
def fit_lane(name: str, dispatcher: Handle, config: ClusterConfig, directory: Storage) -> None:
    """Run a lane as one Ray Train run, in a task that Ray restarts if its process or node dies.

    A lane of one worker trains in this process, in Ray Train's local mode: a controller, and what
    it starts around a worker, are six more processes, whose imports take half a minute of a core.
    """
    built.cache_clear()  # Of a stage that this process took part in before.
    lane: dict[str, Any] = {"train_loop_config": {"lane": name, "dispatcher": dispatcher}}
    if config.workers_per_lane == 1:
        lane["scaling_config"] = ScalingConfig(num_workers=0)
        DataParallelTrainer(_lane_loop, **lane).fit()
        return
    from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415 - torch, 4 s of a core

    lane["scaling_config"] = ScalingConfig(
        num_workers=config.workers_per_lane,
        use_gpu=config.use_gpu,
        resources_per_worker=resources_of(config),
    )
    lane["run_config"] = RunConfig(
        name=f"{name}-{uuid.uuid4().hex[:8]}",
        storage_path=directory.uri,
        failure_config=FailureConfig(max_failures=-1),
    )
    connected = TorchConfig(timeout_s=_COLLECTIVE_TIMEOUT_S)
    TorchTrainer(_lane_loop, torch_config=connected, **lane).fit()


def _lane_loop(config: dict[str, Any]) -> None:
    """Lease, train and hand in one task after the other; the first worker leases for all."""
    # Here, so that the process that only starts a lane does not import the networks.
    from expertree.training import Workers  # noqa: PLC0415

    context = ray.train.get_context()
    workers = Workers(rank=context.get_world_rank(), count=context.get_world_size())
    dispatcher: Handle = config["dispatcher"]
    node = ray.get_runtime_context().get_node_id()[:8]
    tenant = LaneIdentity(lane=config["lane"], incarnation=uuid.uuid4().hex, node=node)
    while True:
        task = None
        if workers.is_first:
            task = ray.get(dispatcher.lease.remote(tenant))
        task = workers.agree_on(task)
        if task is None:
            return
        if not workers.is_first:
            with contextlib.suppress(HeldError):  # the first one says so
                _unpack(task).run(_say_nothing, workers)
        elif not run_task(tenant, dispatcher, task, workers):
            return


def run_task(
    tenant: LaneIdentity, dispatcher: Handle, task: TrainingTask, workers: "Workers"
) -> bool:
    """Run a task and tell the dispatcher how it ended; return False if the lane must end too.

    In a lane of one worker, an error fails the task alone. Other workers would wait for this one in
    the middle of the task, so with them the error is raised, and Ray Train restarts all workers.
    """
    # Several workers would have to stop at the same step: they go on from the last checkpoint when
    # their node is gone.
    pulse = _Pulse(tenant, dispatcher, task.key, may_pause=workers.count == 1)
    try:
        with repeating(pulse.beat, HEARTBEAT_S):
            _unpack(task).run(pulse.on_progress, workers)
    except PausedError:
        ray.get(dispatcher.release.remote(tenant, task.key))
        return pulse.is_wanted
    except HeldError as error:
        ray.get(dispatcher.postpone.remote(tenant, task.key, str(error)))
    except LeaseLostError:
        if workers.count > 1:
            raise
    except Exception as error:
        message, may_pass = describe_error(error)
        ray.get(dispatcher.fail.remote(tenant, task.key, message, retry=may_pass))
        if workers.count > 1:
            raise
    else:
        ray.get(dispatcher.finish.remote(tenant, task.key))
    return True


def _unpack(task: TrainingTask) -> Work:
    work: Work = cloudpickle.loads(task.work)
    return work


def _say_nothing(progress: Mapping[str, Any]) -> None:
    """Drop the progress: only the first worker of a lane reports it."""


class _Pulse:
    """The heartbeat of a lane, which sends the newest progress to the dispatcher."""

    def __init__(
        self, tenant: LaneIdentity, dispatcher: Handle, key: str, *, may_pause: bool
    ) -> None:
        self._tenant, self._dispatcher, self._key = tenant, dispatcher, key
        self._may_pause = may_pause
        self._progress: Mapping[str, Any] = {}
        self._lost, self._leaves, self._wanted = (threading.Event() for _ in range(3))
        self._metrics = lane_metrics(tenant.lane)

    def on_progress(self, progress: Mapping[str, Any]) -> None:
        self._progress = dict(progress)
        if self._lost.is_set():
            raise LeaseLostError(f"{self._tenant.lane} (process {os.getpid()}) lost {self._key}")
        if self._leaves.is_set():
            raise PausedError(f"{self._tenant.lane}: its node {self._tenant.node} goes away")
        if self._wanted.is_set():
            raise PausedError(f"{self._tenant.lane}: another lane ends {self._key} sooner")

    @property
    def is_wanted(self) -> bool:
        """Whether another lane waits for the task, and nothing keeps this one from the next."""
        return self._wanted.is_set() and not self._leaves.is_set()

    def beat(self) -> None:
        """Send one report; a dispatcher that is out of reach does not stop the training.

        Raises:
            RayTaskError: If the dispatcher cannot deal with the report.
        """
        self._metrics.record()
        try:
            beat = self._dispatcher.heartbeat.remote(self._tenant, self._key, self._progress)
            order: Order = ray.get(beat, timeout=30)
        except RayTaskError:
            raise
        except RayError:
            return
        if order is Order.STOP:
            self._lost.set()
        elif self._may_pause and is_leaving():
            self._leaves.set()
        elif self._may_pause and order is Order.GIVE_BACK:
            self._wanted.set()
