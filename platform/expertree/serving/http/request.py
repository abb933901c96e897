"""Read what a request asks for, and wait for the work as long as its caller does."""

import asyncio
import dataclasses
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from expertree.errors import DeadlineError
from expertree.routing.instructions import ReadText
from expertree.serving.budget import MemoryShare
from expertree.serving.engine import Model
from expertree.serving.http.middleware import response_exit_stack
from expertree.serving.http.options import RequestOptions, read_options
from expertree.serving.http.request_body import read_body
from expertree.serving.service import Service

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ParsedRequest:
    """The image and options of a request, read and checked.

    Attributes:
        image: The photograph's file.
        options: The options.
        model: The model that they were checked against.
        share: The request's share of the memory.
    """

    image: bytes
    options: RequestOptions
    model: Model
    share: MemoryShare


class RequestReader:
    """Reads requests and waits for the work that they ask for."""

    def __init__(self, service: Service, read_text: ReadText | None) -> None:
        """Read requests for a service.

        Args:
            service: Service that does the work, with its limits.
            read_text: Reader of instructions in free text; None if there is none.
        """
        self.service = service
        self.read_text = read_text

    async def parse(self, request: Request, names: tuple[str, ...]) -> ParsedRequest:
        """Read and check what a request asks for; its memory is given back when it is answered.

        That is when the last byte has gone out, which a slow caller may put off, and no work on it
        goes on any more.

        Args:
            request: Request whose body has not been read yet.
            names: Options that it may have.

        Raises:
            ProblemError: For whatever is wrong with the body or the options.
            OverloadError: If memory is short.
        """
        limits = self.service.limits
        share = response_exit_stack(request).enter_context(self.service.budget.share())
        body = await read_body(request, limits, share)
        model = await self.service.model()
        given = [*request.query_params.multi_items(), *body.fields]

        def read() -> RequestOptions:
            return read_options(given, model, limits, names=names, read_text=self.read_text)

        options = read() if self.read_text is None else await asyncio.to_thread(read)
        return ParsedRequest(image=body.image, options=options, model=model, share=share)

    async def wait_for(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of work, which is stopped when the deadline comes or the caller leaves.

        Raises:
            DeadlineError: If it is not done in time.
            ClientDisconnect: If the caller left.
        """
        deadline_s = self.service.limits.deadline_s
        task, gone = asyncio.create_task(work), asyncio.create_task(_until_gone(request))
        try:
            await asyncio.wait(
                {task, gone}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED
            )
            if task.done():
                return task.result()
            if gone.done():
                raise ClientDisconnect
            raise DeadlineError(
                f"not done within {deadline_s:g} s; ask for it as a job, at /v1/jobs, or send less "
                "of it"
            )
        finally:
            task.cancel()
            gone.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
