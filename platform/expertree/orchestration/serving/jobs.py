"""The table of jobs that all gateways share, in the one replica of control.

What it holds is lost with that replica: nothing of a caller's is kept on disk.
"""

import dataclasses
from typing import Any, cast

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from expertree.errors import ExpertreeError, UnavailableError
from expertree.serving.http.problems import Problem
from expertree.serving.jobs import JobRequest, JobTable, JobView
from expertree.serving.photos import RestoredFile


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _ReturnedError:
    """An error that is returned: as an exception it would arrive wrapped in a traceback."""

    error: ExpertreeError


def call_table(table: JobTable, method: str, arguments: tuple[Any, ...]) -> object:
    """Call a method of the table; return its answer, or its error as `_ReturnedError`."""
    try:
        answer: object = getattr(table, method)(*arguments)
    except ExpertreeError as error:
        return _ReturnedError(error=error)
    return answer


class SharedJobs:
    """The `Jobs` of gateways, which ask the table in control."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        """Ask over a handle on `Control`."""
        self._handle = handle

    async def submit(self, job_request: JobRequest, idempotency_key: str | None) -> str:
        """Add a job and return its id; see `JobTable.submit`."""
        return cast("str", await self._ask("submit", job_request, idempotency_key))

    async def claim(self, job_id: str, worker: str) -> int | None:
        """Claim a job for a worker and return its image's size in bytes; see `JobTable.claim`."""
        return cast("int | None", await self._ask("claim", job_id, worker))

    async def job_request(self, job_id: str, worker: str) -> JobRequest | None:
        """Return what a worker shall do; None if the job is not the worker's any more."""
        return cast("JobRequest | None", await self._ask("job_request", job_id, worker))

    async def report(self, job_id: str, worker: str, tiles: tuple[int, int] | None) -> bool:
        """Report that a worker still has a job; return whether to go on with it."""
        return cast("bool", await self._ask("report", job_id, worker, tiles))

    async def finish(self, job_id: str, worker: str, outcome: RestoredFile | Problem) -> None:
        """Keep what came of a job, if it is still this worker's."""
        await self._ask("finish", job_id, worker, outcome)

    async def view(self, job_id: str, owner: str) -> JobView | None:
        """Return how a job stands; None if its owner has no such job."""
        return cast("JobView | None", await self._ask("view", job_id, owner))

    async def result(self, job_id: str, owner: str) -> RestoredFile | None:
        """Return the result of a job; None if there is no such job or it is not done."""
        return cast("RestoredFile | None", await self._ask("result", job_id, owner))

    async def delete(self, job_id: str, owner: str) -> bool:
        """Forget a job; return False if there is none."""
        return cast("bool", await self._ask("delete", job_id, owner))

    async def _ask(self, method: str, *arguments: object) -> object:
        try:
            answer = await self._handle.jobs.remote(method, arguments)
        except (RayError, RayServeException) as error:
            raise UnavailableError("the table of jobs does not answer; come back soon") from error
        if isinstance(answer, _ReturnedError):
            raise answer.error
        return answer
