"""The actor that holds the schedule: it leases tasks to lanes and reports to the driver.

The module is apart from the lanes, so that the actor's process starts without torch. The actor
passes on each task's work as packed bytes.
"""

import asyncio
import dataclasses
import enum
import time
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.scheduling.budget import Budget
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.states import Attempt, TaskStatus
from expertree.scheduling.tasks import TrainingTask

POLL_S = 0.25
NAMESPACE = "expertree"
"""Ray namespace of the actors that are found by name."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainingStatus:
    """A snapshot of a group of tasks and their attempts.

    `num_lanes` is how many lanes there may be at once.
    """

    tasks: Sequence[TaskStatus]
    history: Sequence[Attempt]
    finished: bool
    num_lanes: int = 1


def status_of(schedule: Schedule) -> TrainingStatus:
    """Return a snapshot of a schedule."""
    return TrainingStatus(
        tasks=schedule.status(), history=list(schedule.history), finished=schedule.finished
    )


class Order(enum.StrEnum):
    """What a lane shall do with its task."""

    GO_ON = "go on"
    GIVE_BACK = "give back"
    """Leave a checkpoint and release the task: another lane goes on with it."""
    STOP = "stop"
    """Stop at once: the lane has lost the task."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LaneIdentity:
    """The process of a lane that leases tasks.

    Attributes:
        lane: Name of the lane.
        incarnation: Id of the lane's process; a new one after each restart.
        node: The machine that it runs on.
    """

    lane: str
    incarnation: str
    node: str


class Dispatcher:
    """An actor that leases tasks to lanes and reports the state of all tasks to the driver.

    After a restart, the old process of a lane, whose controller was lost, may live on for a while
    beside the new one. Its reports are ignored, except that a task is done.
    """

    def __init__(
        self,
        tasks: Sequence[TrainingTask],
        lease_s: float,
        max_attempts: int,
        budget: Budget | None = None,
        move_s: float | None = None,
    ) -> None:
        self._schedule = Schedule(
            tasks, lease_s=lease_s, max_attempts=max_attempts, budget=budget, move_s=move_s
        )
        self._incarnations: dict[str, str] = {}
        self._asked_s: dict[str, float] = {}
        self._closed = False

    async def lease(self, tenant: LaneIdentity) -> TrainingTask | None:
        """Wait for a task for the lane and return it; None tells the calling process to end."""
        if self._incarnations.get(tenant.lane) != tenant.incarnation:
            self._schedule.forget_speed(tenant.lane)
        self._incarnations[tenant.lane] = tenant.incarnation
        self._asked_s[tenant.lane] = time.time()
        while not self._closed:
            # The call of a worker that has died in the meantime must not take a task.
            if not self._is_current(tenant):
                return None
            task = self._schedule.lease(tenant.lane, time.time(), tenant.node)
            if task is not None:
                return task
            await asyncio.sleep(POLL_S)
        return None

    async def add(self, tasks: Sequence[TrainingTask]) -> None:
        """Add tasks while lanes run; see `Schedule.add`."""
        self._schedule.add(tasks)

    async def withdraw(self, keys: Sequence[str]) -> list[str]:
        """Forget queued tasks and return their keys; see `Schedule.withdraw`."""
        return self._schedule.withdraw(keys)

    async def heartbeat(self, tenant: LaneIdentity, key: str, progress: Mapping[str, Any]) -> Order:
        """Note that a lane is alive and its newest progress; return what it shall do."""
        now = time.time()
        if not (
            self._is_current(tenant) and self._schedule.heartbeat(tenant.lane, key, now, progress)
        ):
            return Order.STOP
        wanted = self._schedule.is_wanted(tenant.lane, key, now)
        return Order.GIVE_BACK if wanted else Order.GO_ON

    async def finish(self, tenant: LaneIdentity, key: str) -> None:
        """Mark a task as done, whichever process reports it."""
        self._schedule.finish(tenant.lane, key, time.time())

    async def fail(self, tenant: LaneIdentity, key: str, error: str, *, retry: bool) -> None:
        """Record a task's error and queue it anew if `retry`; see `Schedule.fail`."""
        if self._is_current(tenant):
            self._schedule.fail(tenant.lane, key, time.time(), error, retry=retry)

    async def release(self, tenant: LaneIdentity, key: str) -> None:
        """Queue a task anew that its lane gives back; this is no failure of the task."""
        if self._is_current(tenant):
            self._schedule.release(tenant.lane, key, time.time())

    async def postpone(self, tenant: LaneIdentity, key: str, reason: str) -> None:
        """Queue a task anew that another job is doing; see `Schedule.postpone`."""
        if self._is_current(tenant):
            self._schedule.postpone(tenant.lane, key, time.time(), reason)

    async def status(self) -> TrainingStatus:
        """Take expired leases back, and return a snapshot of all tasks."""
        self._schedule.expire(time.time())
        return status_of(self._schedule)

    async def last_lease_request_s(self) -> dict[str, float]:
        """Return when each lane last asked for a task, in seconds since 1970."""
        return dict(self._asked_s)

    async def close(self) -> None:
        """Lease no more tasks, so that all lanes end."""
        self._closed = True

    def _is_current(self, tenant: LaneIdentity) -> bool:
        return self._incarnations.get(tenant.lane) == tenant.incarnation
