"""The schedule as an actor: it answers lanes, and is asked by the driver for pictures.

It lives apart from the lanes so that its process starts without torch, and it hands on each task's
work as the bytes that it came in.
"""

import asyncio
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.scheduling.budget import Budget
from expertree.scheduling.schedule import Attempt, Schedule, TaskStatus, TrainingTask

POLL_S = 0.25
NAMESPACE = "expertree"
"""Of actors that are found by name."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A group of tasks at one moment."""

    tasks: Sequence[TaskStatus]
    history: Sequence[Attempt]
    finished: bool


def picture_of(schedule: Schedule) -> Picture:
    """Take a picture of a schedule."""
    return Picture(
        tasks=schedule.status(), history=list(schedule.history), finished=schedule.finished
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tenant:
    """Who leases tasks.

    Attributes:
        lane: The lane.
        incarnation: Which of its processes; a new one after each restart.
        node: The machine that it runs on.
    """

    lane: str
    incarnation: str
    node: str


class Dispatcher:
    """The schedule as an actor: it answers lanes and is asked by the driver for pictures.

    A lane that was restarted has a new process, and for a while maybe the old one too, whose
    controller was lost: what that one says is not listened to, save that a task is done.
    """

    def __init__(
        self,
        tasks: Sequence[TrainingTask],
        lease_s: float,
        max_attempts: int,
        budget: Budget | None = None,
    ) -> None:
        self._schedule = Schedule(tasks, lease_s=lease_s, max_attempts=max_attempts, budget=budget)
        self._incarnations: dict[str, str] = {}
        self._asked_s: dict[str, float] = {}
        self._closed = False

    async def lease(self, tenant: Tenant) -> TrainingTask | None:
        """The next task, as soon as there is one; None when the lane may go home."""
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
        """See `Schedule.add`."""
        self._schedule.add(tasks)

    async def withdraw(self, keys: Sequence[str]) -> list[str]:
        """See `Schedule.withdraw`."""
        return self._schedule.withdraw(keys)

    async def heartbeat(self, tenant: Tenant, key: str, progress: Mapping[str, Any]) -> bool:
        """See `Schedule.heartbeat`."""
        return self._is_current(tenant) and self._schedule.heartbeat(
            tenant.lane, key, time.time(), progress
        )

    async def finish(self, tenant: Tenant, key: str) -> None:
        """See `Schedule.finish`."""
        self._schedule.finish(tenant.lane, key, time.time())

    async def fail(self, tenant: Tenant, key: str, error: str, *, retry: bool) -> None:
        """See `Schedule.fail`."""
        if self._is_current(tenant):
            self._schedule.fail(tenant.lane, key, time.time(), error, retry=retry)

    async def release(self, tenant: Tenant, key: str) -> None:
        """See `Schedule.release`."""
        if self._is_current(tenant):
            self._schedule.release(tenant.lane, key, time.time())

    async def picture(self) -> Picture:
        """Where all tasks stand."""
        self._schedule.expire(time.time())
        return picture_of(self._schedule)

    async def num_done(self) -> int:
        """See `Schedule.num_done`."""
        return self._schedule.num_done

    async def asked_s(self) -> dict[str, float]:
        """When each lane last asked for a task, in seconds since 1970."""
        return dict(self._asked_s)

    async def close(self) -> None:
        """Send all lanes home."""
        self._closed = True

    def _is_current(self, tenant: Tenant) -> bool:
        return self._incarnations.get(tenant.lane) == tenant.incarnation
