"""The jobs that one gateway works on."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from expertree.errors import DeadlineError, MemoryShortageError, OverloadError
from expertree.serving.engine import OnTile
from expertree.serving.jobs import Jobs, Order
from expertree.serving.photos import RestoredFile
from expertree.serving.problems import Problem, problem_of
from expertree.serving.settings import JobLimits

Work: TypeAlias = Callable[[Order, OnTile], Awaitable[RestoredFile]]
"""Does what a job shall do."""

TELL_EVERY_S = 0.5
"""How often the table hears of a job's progress."""

_logger = logging.getLogger(__name__)


class JobRunner:
    """Takes jobs from the table and works on some at a time."""

    def __init__(self, jobs: Jobs, work: Work, limits: JobLimits) -> None:
        """Work on nothing yet.

        Args:
            jobs: The table.
            work: Does what a job shall do.
            limits: On jobs at a time and on their time.
        """
        self._jobs, self._work, self._limits = jobs, work, limits
        self._name = secrets.token_hex(8)
        self._running = asyncio.Semaphore(limits.max_running)
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, job_id: str) -> None:
        """Begin to work on a job, unless somebody does already."""
        order = await self._jobs.claim(job_id, self._name)
        if order is not None:
            task = asyncio.create_task(self._run(job_id, order))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop. What is not done, another gateway takes over when it is asked for."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job_id: str, order: Order) -> None:
        tiles: tuple[int, int] | None = None

        def on_tile(num_done: int, num_tiles: int) -> None:
            nonlocal tiles
            tiles = num_done, num_tiles

        async def begin() -> RestoredFile:
            nonlocal tiles
            async with self._running:
                tiles = 0, 0
                return await self._insist(order, on_tile)

        work = asyncio.create_task(begin())
        try:
            while not (await asyncio.wait({work}, timeout=TELL_EVERY_S))[0]:
                if not await self._tell(job_id, tiles):
                    return
            await self._jobs.finish(job_id, self._name, _outcome(work))
        finally:
            work.cancel()

    async def _tell(self, job_id: str, tiles: tuple[int, int] | None) -> bool:
        """Tell the table; while it cannot be reached, go on."""
        with contextlib.suppress(OverloadError):
            return await self._jobs.tell(job_id, self._name, tiles)
        return True

    async def _insist(self, order: Order, on_tile: OnTile) -> RestoredFile:
        """Come back as often as too many wait: nobody waits at the other end."""
        deadline_s = self._limits.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    try:
                        return await self._work(order, on_tile)
                    except MemoryShortageError:
                        raise
                    except OverloadError as error:
                        await asyncio.sleep(error.retry_after_s)
        except TimeoutError:
            raise DeadlineError(f"the job was not done within {deadline_s:g} s") from None


def _outcome(work: "asyncio.Task[RestoredFile]") -> RestoredFile | Problem:
    error = work.exception()
    if error is None:
        return work.result()
    if not isinstance(error, Exception):
        raise error
    answer = problem_of(error)
    if answer.kind == "internal":
        _logger.error("a job failed", exc_info=error)
    return answer.problem()
