"""The jobs that one gateway works on."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from expertree.errors import DeadlineError, MemoryShortageError, OverloadError
from expertree.images.tiling import OnTile
from expertree.serving.budget import MemoryBudget, MemoryShare
from expertree.serving.http.problems import Problem, problem_of
from expertree.serving.jobs import JobRequest, Jobs
from expertree.serving.photos import RestoredFile
from expertree.serving.settings import JobLimits

T = TypeVar("T")

Work: TypeAlias = Callable[[JobRequest, MemoryShare, OnTile], Awaitable[RestoredFile]]
"""Function that does a job's work; its share of the memory holds the image's file already."""

REPORT_EVERY_S = 0.5
"""Seconds between reports to the table of a job's progress."""

_logger = logging.getLogger(__name__)


class JobRunner:
    """Takes jobs from the table and works on some at a time.

    The images of the others stay in the table until there is memory for them.
    """

    def __init__(self, jobs: Jobs, work: Work, limits: JobLimits, budget: MemoryBudget) -> None:
        """Make a runner that has no job yet.

        Args:
            jobs: The table of jobs.
            work: Function that does a job's work.
            limits: Limits on jobs at a time and on their time.
            budget: Memory that the jobs' images may take.
        """
        self._jobs, self._work, self._limits, self._budget = jobs, work, limits, budget
        self._name = secrets.token_hex(8)
        self._running = asyncio.Semaphore(limits.max_running)
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, job_id: str) -> None:
        """Begin to work on a job, unless another worker has it or it is finished."""
        num_bytes = await self._jobs.claim(job_id, self._name)
        if num_bytes is not None:
            task = asyncio.create_task(self._run(job_id, num_bytes))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop all work; another gateway takes over a job that is not done when asked for it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job_id: str, num_bytes: int) -> None:
        tiles: tuple[int, int] | None = None

        def on_tile(num_done: int, num_tiles: int) -> None:
            nonlocal tiles
            tiles = num_done, num_tiles

        async def begin() -> RestoredFile | None:
            nonlocal tiles
            async with self._running:
                tiles = 0, 0
                return await self._in_time(self._restore(job_id, num_bytes, on_tile))

        work = asyncio.create_task(begin())
        try:
            while not (await asyncio.wait({work}, timeout=REPORT_EVERY_S))[0]:
                if not await self._report(job_id, tiles):
                    return
            outcome = _outcome(work)
            if outcome is not None:
                await self._jobs.finish(job_id, self._name, outcome)
        finally:
            work.cancel()

    async def _report(self, job_id: str, tiles: tuple[int, int] | None) -> bool:
        """Report progress and return whether to go on; True while the table cannot be reached."""
        with contextlib.suppress(OverloadError):
            return await self._jobs.report(job_id, self._name, tiles)
        return True

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        deadline_s = self._limits.deadline_s
        try:
            async with asyncio.timeout(deadline_s):
                return await work
        except TimeoutError:
            raise DeadlineError(f"the job was not done within {deadline_s:g} s") from None

    async def _restore(self, job_id: str, num_bytes: int, on_tile: OnTile) -> RestoredFile | None:
        """Do a job once there is memory for its image; return None if it is not ours any more."""
        with self._budget.share() as share:
            await _retry(lambda: _grow(share, num_bytes))
            job_request = await _retry(lambda: self._jobs.job_request(job_id, self._name))
            if job_request is None:
                return None
            return await _retry(lambda: self._work(job_request, share, on_tile))


async def _retry(call: Callable[[], Awaitable[T]]) -> T:
    """Call again as long as too many wait, since no caller waits for the answer."""
    while True:
        try:
            return await call()
        except MemoryShortageError:
            raise
        except OverloadError as error:
            await asyncio.sleep(error.retry_after_s)


async def _grow(share: MemoryShare, num_bytes: int) -> None:
    share.grow(num_bytes)


def _outcome(work: "asyncio.Task[RestoredFile | None]") -> RestoredFile | Problem | None:
    error = work.exception()
    if error is None:
        return work.result()
    if not isinstance(error, Exception):
        raise error
    answer = problem_of(error)
    if answer.kind == "internal":
        _logger.error("a job failed", exc_info=error)
    return answer.problem()
