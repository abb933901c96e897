"""The tasks that a search's trials ask of the lanes: each once, for as long as a trial wants it.

Asking and withdrawing wait for each other. So a trial that asks for a task while it is withdrawn
from the lanes, because another trial ended, gets a new one and does not wait for ever.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from ray.exceptions import RayError

from expertree.errors import ExpertreeError, TrainingError
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.states import State
from expertree.scheduling.tasks import TrainingTask

logger = logging.getLogger(__name__)

Handle: TypeAlias = Any
"""A handle on the dispatcher of the lanes."""


class Requests:
    """The tasks that trials wait for, and which trials those are.

    Args:
        dispatcher: Handle on the dispatcher of the lanes.
    """

    def __init__(self, dispatcher: Handle) -> None:
        self._dispatcher = dispatcher
        self._tasks: dict[str, asyncio.Future[None]] = {}
        self._wanted: dict[str, set[int]] = {}
        self._dealing = asyncio.Lock()

    def __contains__(self, key: str) -> bool:
        """Return whether a task was asked for and not withdrawn since; it may have ended."""
        return key in self._tasks

    def is_open(self, key: str) -> bool:
        """Return whether a task was asked for and has not ended."""
        return key in self._tasks and not self._tasks[key].done()

    async def have(self, number: int, choose: Callable[[], Sequence[TrainingTask]]) -> None:
        """Ask for a task, and wait until it is done.

        Args:
            number: Number of the trial that waits.
            choose: Returns the task, last, after those that it starts from; called while nothing is
                withdrawn. Lanes get those that they do not have.

        Raises:
            TrainingError: If the task failed, or no lane is left.
            RayError: If the dispatcher does not answer.
        """
        async with self._dealing:
            wanted = await self._ask(number, choose())
        await asyncio.shield(wanted)

    async def let_go(self, number: int) -> None:
        """Forget that a trial waits, and withdraw the tasks that no other trial waits for."""
        async with self._dealing:
            for users in self._wanted.values():
                users.discard(number)
            idle = [key for key, users in self._wanted.items() if not users]
            for key in idle:
                del self._wanted[key]
            try:
                await self._withdraw(idle, TrainingError("it was taken back from the lanes"))
            except RayError as error:
                # They train something for nobody, at worst; the trial has ended all the same.
                logger.warning(
                    "lanes were not told that nobody needs %d tasks: %s", len(idle), error
                )

    async def take_back(self, keys: Iterable[str], error: ExpertreeError) -> None:
        """Withdraw those of the tasks that no lane has begun; whoever waits gets the error.

        Raises:
            RayError: If the dispatcher does not answer.
        """
        async with self._dealing:
            await self._withdraw(keys, error)

    def hear(self, status: TrainingStatus) -> None:
        """Pass the outcome of tasks on to the trials that wait for them."""
        for task in status.tasks:
            if not self.is_open(task.key):
                continue
            if task.state is State.DONE:
                self._tasks[task.key].set_result(None)
            elif task.state is State.FAILED:
                message = f"{task.label} could not be trained: {task.error}"
                self._tasks[task.key].set_exception(TrainingError(message))

    def give_up(self, reason: str) -> None:
        """Fail all trials that wait; trials that ask later ask the lanes anew."""
        for key in [key for key in self._tasks if self.is_open(key)]:
            self._tasks.pop(key).set_exception(TrainingError(reason))

    async def _ask(self, number: int, tasks: Sequence[TrainingTask]) -> asyncio.Future[None]:
        """Give lanes the tasks that they do not have; return a future of the last task's end."""
        for task in tasks:
            self._wanted.setdefault(task.key, set()).add(number)
        fresh = [task for task in tasks if task.key not in self._tasks]
        for task in fresh:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # Those of parents are waited for by lanes alone; asyncio would complain of their error.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._tasks[task.key] = future
        wanted = self._tasks[tasks[-1].key]  # which may be given up while lanes are told
        try:
            if fresh:
                await self._dispatcher.add.remote(fresh)
        except RayError:
            for task in fresh:
                self._tasks.pop(task.key, None)
            raise
        return wanted

    async def _withdraw(self, keys: Iterable[str], error: ExpertreeError) -> None:
        left = [key for key in keys if self.is_open(key)]
        if not left:
            return
        for key in await self._dispatcher.withdraw.remote(left):
            if self.is_open(key):  # and not given up while lanes were asked
                self._tasks.pop(key).set_exception(error)
