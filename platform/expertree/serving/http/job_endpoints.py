"""The endpoints of jobs: ask for one, follow it, take its result, delete it."""

import asyncio
import contextlib
import re
import time
from datetime import UTC, datetime

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from expertree.errors import OverloadError
from expertree.images.tiling import OnTile
from expertree.serving.budget import MemoryShare
from expertree.serving.http import contract
from expertree.serving.http.auth import owner_of
from expertree.serving.http.middleware import (
    ImageMeasurement,
    measurement_of,
    response_exit_stack,
    with_image,
)
from expertree.serving.http.operations import Operation
from expertree.serving.http.options import NAMES
from expertree.serving.http.problems import ProblemError, problem_of
from expertree.serving.http.request import RequestReader
from expertree.serving.http.responses import JobAnswer, explain, file_response, json_response
from expertree.serving.job_runner import JobRunner
from expertree.serving.jobs import JobRequest, Jobs, JobView, make_job_request
from expertree.serving.metrics import Measurement, Metrics
from expertree.serving.photos import MEDIA_TYPES, RestoredFile, check_quality
from expertree.serving.settings import JobLimits

_IDEMPOTENCY_KEY = re.compile(contract.IDEMPOTENCY_KEY["schema"]["pattern"])

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+){1,8}")


class JobEndpoints:
    """Handlers of the routes of jobs."""

    def __init__(
        self, reader: RequestReader, jobs: Jobs, limits: JobLimits, metrics: Metrics | None
    ) -> None:
        """Make the handlers and a runner for the jobs, which has none yet.

        Args:
            reader: Reader of requests.
            jobs: The table of jobs.
            limits: Limits on jobs.
            metrics: Recorder of finished jobs; None records nothing.
        """
        self._reader, self._jobs = reader, jobs
        self._metrics = metrics
        self.runner = JobRunner(jobs, self._work, limits, reader.service.budget)

    def operations(self) -> tuple[Operation, ...]:
        """Return the table of these operations."""
        status = {"model": JobAnswer, "description": "How the job stands."}
        located = {"Location": {"description": "Of the job.", "schema": {"type": "string"}}}
        return (
            Operation(
                method="POST",
                path="/v1/jobs",
                handler=self.submit,
                summary="Ask for an image to be restored, and do not wait",
                request=contract.takes_image(NAMES, contract.IDEMPOTENCY_KEY),
                status=202,
                responses={
                    202: {**status, "headers": located},
                    **contract.problems(*contract.IMAGE_ERRORS),
                },
            ),
            Operation(
                method="GET",
                path="/v1/jobs/{job_id}",
                handler=self.show,
                summary="How a job stands",
                responses={200: status, **contract.problems(401, 403, 404, 429, 503)},
            ),
            Operation(
                method="GET",
                path="/v1/jobs/{job_id}/result",
                handler=self.result,
                summary="The restored image",
                responses={
                    200: contract.images("The image, restored."),
                    **contract.problems(401, 403, 404, 409, 429, 503),
                },
            ),
            Operation(
                method="DELETE",
                path="/v1/jobs/{job_id}",
                handler=self.delete,
                summary="Stop and forget a job",
                status=204,
                responses={
                    204: {"description": "It is forgotten."},
                    **contract.problems(401, 403, 404, 429, 503),
                },
            ),
        )

    async def submit(self, request: Request) -> Response:
        """Store an image to be restored later, and return the job, whose path is in `Location`.

        Image and options are sent as for `/v1/restore`. The restored file has the format that the
        option `format` names, or the image's own. The same image and options sent again with the
        same `Idempotency-Key` are the same job. Without one, a job whose caller leaves before this
        answer is deleted, since nobody could find it.
        """
        key = request.headers.get("idempotency-key")
        if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
            raise ProblemError(
                "bad-request", "An Idempotency-Key has 1 to 128 visible letters of ASCII."
            )
        owner = owner_of(request)
        parsed = await self._reader.parse(request, NAMES)
        options = parsed.options
        header = await self._reader.service.checked(parsed.image, options.wish)
        check_quality(options.format or header.format, options)
        job_request = await asyncio.to_thread(make_job_request, owner, parsed.image, options)
        job_id = await self._jobs.submit(job_request, key)
        view = await self._begun(request, job_id, is_named=key is not None)
        return json_response(
            await self._answer(request, view),
            status=202,
            headers={"Location": _path(request, job_id), "Retry-After": "1"},
        )

    async def show(self, request: Request, job_id: str) -> Response:
        """Return the state of a job, its tiles done, and the path of its result once it is done."""
        view = await self._view(job_id, owner_of(request))
        if view.is_lost:
            await self.runner.take(job_id)
        return json_response(await self._answer(request, view))

    async def result(self, request: Request, job_id: str) -> Response:
        """Return the restored file of a job, as often as asked for until the job expires.

        The answer is 409 while the job is not done, and if it failed.
        """
        owner = owner_of(request)
        file = await self._jobs.result(job_id, owner)
        if file is not None:
            share = response_exit_stack(request).enter_context(self._reader.service.budget.share())
            share.grow(len(file.data))
            return file_response(file)
        view = await self._view(job_id, owner)
        if view.problem is not None:
            raise ProblemError("conflict", f"The job failed: {view.problem.detail}")
        raise ProblemError(
            "conflict",
            f"The job is {view.state}; its result is yet to come.",
            headers={"Retry-After": "1"},
        )

    async def delete(self, request: Request, job_id: str) -> Response:
        """Stop a job between two tiles, and delete it and its result."""
        if not await self._jobs.delete(job_id, owner_of(request)):
            raise _unknown(job_id)
        return Response(status_code=204)

    async def _begun(self, request: Request, job_id: str, *, is_named: bool) -> JobView:
        """Begin a job, and delete it again if its caller cannot know that it is there.

        Raises:
            ClientDisconnect: If the caller of a job without a name has left.
        """
        owner, is_known = owner_of(request), is_named
        try:
            await self.runner.take(job_id)
            view = await self._view(job_id, owner)
            is_known = is_known or not await request.is_disconnected()
        finally:
            if not is_known:
                with contextlib.suppress(OverloadError):  # the table cannot be reached
                    await self._jobs.delete(job_id, owner)
        if not is_known:
            raise ClientDisconnect
        return view

    async def _view(self, job_id: str, owner: str) -> JobView:
        view = await self._jobs.view(job_id, owner)
        if view is None:
            raise _unknown(job_id)
        return view

    async def _answer(self, request: Request, view: JobView) -> JobAnswer:
        result = view.result
        why = None
        if view.explain and result is not None:
            model = await self._reader.service.model()
            why = explain(result.route, model) if model.digest == result.route.model else None
        return JobAnswer(
            id=view.id,
            state=view.state,
            tiles_done=view.tiles_done,
            num_tiles=view.num_tiles,
            created=_iso(view.created_s),
            expires=_iso(view.expires_s),
            result=None if result is None else f"{_path(request, view.id)}/result",
            media_type=None if result is None else MEDIA_TYPES[result.format],
            route=None if result is None else result.route,
            seconds=None if result is None else result.seconds,
            layers=None if result is None else result.layers,
            explanation=why,
            problem=view.problem,
        )

    async def _work(
        self, job_request: JobRequest, share: MemoryShare, on_tile: OnTile
    ) -> RestoredFile:
        service, begin = self._reader.service, time.perf_counter()
        try:
            file = await service.restore(
                job_request.image, job_request.options, share, on_tile=on_tile
            )
        except Exception as error:
            self._record(begin, problem_of(error).problem().status, None)
            raise
        self._record(begin, 200, measurement_of(file))
        return file

    def _record(self, begin: float, code: int, found: ImageMeasurement | None) -> None:
        if self._metrics is not None:
            seconds = time.perf_counter() - begin
            measurement = Measurement(endpoint="job", method="", code=code, seconds=seconds)
            self._metrics.record(measurement if found is None else with_image(measurement, found))


def _path(request: Request, job_id: str) -> str:
    """Return the path of a job, with any prefix that a proxy cuts off."""
    root = request.scope.get("root_path", "")
    given = ",".join(request.headers.getlist("x-forwarded-prefix"))  # of several proxies in a row
    cut = "".join(part.strip().rstrip("/") for part in given.split(","))
    is_new = _PREFIX.fullmatch(cut) and ".." not in cut and cut != root
    return f"{cut if is_new else ''}{root}/v1/jobs/{job_id}"


def _unknown(job_id: str) -> ProblemError:
    return ProblemError(
        "not-found", f"There is no job {job_id[:80]!r}; it may have expired or been deleted."
    )


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
