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
from expertree.serving.jobs import JobTable, JobView, Order
from expertree.serving.photos import RestoredFile


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Raised:
    """An error on its way back: as an exception it would arrive wrapped in a traceback."""

    error: ExpertreeError


def ask_table(table: JobTable, method: str, arguments: tuple[Any, ...]) -> object:
    """What a method of the table says, errors included."""
    try:
        answer: object = getattr(table, method)(*arguments)
    except ExpertreeError as error:
        return _Raised(error=error)
    return answer


class SharedJobs:
    """The `Jobs` of gateways."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        """Ask over a handle of `Control`."""
        self._handle = handle

    async def submit(self, order: Order, idempotency_key: str | None) -> str:
        """See `JobTable.submit`."""
        return cast("str", await self._ask("submit", order, idempotency_key))

    async def claim(self, job_id: str, worker: str) -> int | None:
        """See `JobTable.claim`."""
        return cast("int | None", await self._ask("claim", job_id, worker))

    async def order(self, job_id: str, worker: str) -> Order | None:
        """See `JobTable.order`."""
        return cast("Order | None", await self._ask("order", job_id, worker))

    async def tell(self, job_id: str, worker: str, tiles: tuple[int, int] | None) -> bool:
        """See `JobTable.tell`."""
        return cast("bool", await self._ask("tell", job_id, worker, tiles))

    async def finish(self, job_id: str, worker: str, outcome: RestoredFile | Problem) -> None:
        """See `JobTable.finish`."""
        await self._ask("finish", job_id, worker, outcome)

    async def view(self, job_id: str, owner: str) -> JobView | None:
        """See `JobTable.view`."""
        return cast("JobView | None", await self._ask("view", job_id, owner))

    async def result(self, job_id: str, owner: str) -> RestoredFile | None:
        """See `JobTable.result`."""
        return cast("RestoredFile | None", await self._ask("result", job_id, owner))

    async def delete(self, job_id: str, owner: str) -> bool:
        """See `JobTable.delete`."""
        return cast("bool", await self._ask("delete", job_id, owner))

    async def _ask(self, method: str, *arguments: object) -> object:
        try:
            answer = await self._handle.jobs.remote(method, arguments)
        except (RayError, RayServeException) as error:
            raise UnavailableError("the table of jobs does not answer; come back soon") from error
        if isinstance(answer, _Raised):
            raise answer.error
        return answer
