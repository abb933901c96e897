"""The table of jobs, which are restorations that outlast a request, and how gateways reach it.

The table is one object in one process and knows nothing of HTTP or time; every gateway of an
endpoint reaches the same one through `Jobs`. A gateway works on the jobs it was asked for and tells
the table that it still does; when it falls silent, the next gateway that is asked for the job takes
it over. Images and results lie in the table's memory, in no more than `JobLimits.max_bytes`.
"""

import dataclasses
import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

from expertree.errors import OverloadError
from expertree.serving.http.options import RequestOptions
from expertree.serving.http.problems import Problem, ProblemError
from expertree.serving.photos import RestoredFile
from expertree.serving.settings import JobLimits

JobState: TypeAlias = Literal["queued", "running", "done", "failed"]

_ID_BYTES = 16
"""Random bytes in a job's id, too many for it to be guessed."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """The work that a job was asked to do.

    Attributes:
        owner: Name of the key that it was asked for with.
        image: The photograph's file.
        options: The options.
        fingerprint: Hash of the image and options.
    """

    owner: str
    image: bytes
    options: RequestOptions
    fingerprint: str


def make_job_request(owner: str, image: bytes, options: RequestOptions) -> JobRequest:
    """Make a job's request and hash its whole image, which is too slow for an event loop."""
    digest = hashlib.sha256(repr(options).encode())
    digest.update(image)
    return JobRequest(owner=owner, image=image, options=options, fingerprint=digest.hexdigest())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """The state of a job.

    Attributes:
        id: The job's id.
        state: `queued`, `running`, `done` or `failed`.
        tiles_done: Tiles done; back to 0 when memory ran out or its gateway was lost.
        num_tiles: Tiles in all; 0 until that is known.
        created_s: Unix time at which it was asked for.
        expires_s: Unix time at which it is forgotten.
        is_lost: Whether the gateway that worked on it has fallen silent.
        result: The restoration, without the bytes of its file; None until it is done.
        problem: Why it failed; None if it did not.
        explain: Whether its caller wants to know why the expert was chosen.
    """

    id: str
    state: JobState
    tiles_done: int
    num_tiles: int
    created_s: float
    expires_s: float
    is_lost: bool
    result: RestoredFile | None
    problem: Problem | None
    explain: bool


class Jobs(Protocol):
    """Asynchronous interface through which gateways reach a `JobTable`."""

    async def submit(self, job_request: JobRequest, idempotency_key: str | None) -> str:
        """Store a job to be done, and return its id; see `JobTable.submit`."""
        ...

    async def claim(self, job_id: str, worker: str) -> int | None:
        """Give a free job to a worker; return the number of bytes of its image, else None.

        See `JobTable.claim`.
        """
        ...

    async def job_request(self, job_id: str, worker: str) -> JobRequest | None:
        """Return what a worker shall do; None if the job is no longer the worker's.

        See `JobTable.job_request`.
        """
        ...

    async def report(self, job_id: str, worker: str, tiles: tuple[int, int] | None) -> bool:
        """Record that a worker still has a job; return whether to go on; see `JobTable.report`."""
        ...

    async def finish(self, job_id: str, worker: str, outcome: RestoredFile | Problem) -> None:
        """Store a worker's result or problem; see `JobTable.finish`."""
        ...

    async def view(self, job_id: str, owner: str) -> JobView | None:
        """Return the state of an owner's job, or None if there is none; see `JobTable.view`."""
        ...

    async def result(self, job_id: str, owner: str) -> RestoredFile | None:
        """Return the result of an owner's job, or None if there is none; see `JobTable.result`."""
        ...

    async def delete(self, job_id: str, owner: str) -> bool:
        """Delete an owner's job; return whether there was one; see `JobTable.delete`."""
        ...


@dataclasses.dataclass(kw_only=True, slots=True)
class _Job:
    """A row of the table."""

    id: str
    owner: str
    fingerprint: str
    idempotency_key: str | None
    worker: str | None
    job_request: JobRequest | None
    created_s: float
    heard_s: float
    explain: bool
    state: JobState = "queued"
    tiles: tuple[int, int] = (0, 0)
    result: RestoredFile | None = None
    problem: Problem | None = None

    @property
    def num_bytes(self) -> int:
        held = 0 if self.job_request is None else len(self.job_request.image)
        return held + (0 if self.result is None else len(self.result.data))


class JobTable:
    """All jobs of an endpoint, with their images and results; not safe for several threads."""

    def __init__(self, limits: JobLimits, *, clock: Callable[[], float] = time.time) -> None:
        """Make an empty table.

        Args:
            limits: Limits on memory, numbers and time.
            clock: Function that returns Unix time.
        """
        self._limits = limits
        self._clock = clock
        self._jobs: dict[str, _Job] = {}
        self._asked: dict[tuple[str, str], str] = {}

    @property
    def num_bytes(self) -> int:
        """Bytes of all images and results in the table."""
        return sum(job.num_bytes for job in self._jobs.values())

    def submit(self, job_request: JobRequest, idempotency_key: str | None) -> str:
        """Store a job, which waits until a worker claims it.

        Args:
            job_request: The work to do.
            idempotency_key: Key chosen by the caller; the same key and request are the same job.

        Returns:
            The id of the new job, or of the one that was submitted with this key before.

        Raises:
            ProblemError: If the idempotency key belongs to another request.
            OverloadError: If there is no room.
        """
        self._forget_old()
        known = self._asked.get((job_request.owner, idempotency_key)) if idempotency_key else None
        if known is not None:
            if self._jobs[known].fingerprint != job_request.fingerprint:
                raise ProblemError(
                    "used-key",
                    "This Idempotency-Key came with another image or other options before; give "
                    "each job a key of its own.",
                )
            return known
        self._check_room(job_request)
        now = self._clock()
        job = _Job(
            id=secrets.token_urlsafe(_ID_BYTES),
            owner=job_request.owner,
            fingerprint=job_request.fingerprint,
            idempotency_key=idempotency_key,
            worker=None,
            job_request=job_request,
            created_s=now,
            heard_s=now,
            explain=job_request.options.explain,
        )
        self._jobs[job.id] = job
        if idempotency_key:
            self._asked[job_request.owner, idempotency_key] = job.id
        return job.id

    def claim(self, job_id: str, worker: str) -> int | None:
        """Give a job to a worker, if no live worker has it.

        Returns:
            Number of bytes of its image; None if the job is gone or finished, or a live worker has
            it.
        """
        job = self._jobs.get(job_id)
        if job is None or job.job_request is None:
            return None
        if job.worker is not None and not self._is_lost(job):
            return None
        job.worker, job.heard_s = worker, self._clock()
        job.state, job.tiles = "queued", (0, 0)
        return len(job.job_request.image)

    def job_request(self, job_id: str, worker: str) -> JobRequest | None:
        """Return what a worker shall do; None if the job is gone, finished or another worker's."""
        job = self._jobs.get(job_id)
        return None if job is None or job.worker != worker else job.job_request

    def report(self, job_id: str, worker: str, tiles: tuple[int, int] | None) -> bool:
        """Record that a worker still has a job, and its progress.

        Args:
            job_id: The job.
            worker: The worker that has it.
            tiles: Tiles done and in all; None while it waits.

        Returns:
            Whether to go on; False if the job was deleted or went to another worker.
        """
        job = self._jobs.get(job_id)
        if job is None or job.job_request is None or job.worker != worker:
            return False
        job.heard_s = self._clock()
        if tiles is not None:
            job.state, job.tiles = "running", tiles
        return True

    def finish(self, job_id: str, worker: str, outcome: RestoredFile | Problem) -> None:
        """Store the result or problem of a job, if it is still this worker's.

        A result for which there is no room makes the job fail.
        """
        job = self._jobs.get(job_id)
        if job is None or job.job_request is None or job.worker != worker:
            return
        job.job_request = None
        if isinstance(outcome, Problem):
            job.state, job.problem = "failed", outcome
            return
        if self.num_bytes + len(outcome.data) > self._limits.max_bytes:
            full = ProblemError("unavailable", "The result is larger than the room that is left.")
            job.state, job.problem = "failed", full.problem()
            return
        total = outcome.num_tiles
        job.state, job.result, job.tiles = "done", outcome, (total, total)

    def view(self, job_id: str, owner: str) -> JobView | None:
        """Return the state of a job; None if the owner has no such job."""
        job = self._owned(job_id, owner)
        if job is None:
            return None
        done, total = job.tiles
        result = None if job.result is None else dataclasses.replace(job.result, data=b"")
        return JobView(
            id=job.id,
            state=job.state,
            tiles_done=done,
            num_tiles=total,
            created_s=job.created_s,
            expires_s=job.created_s + self._limits.kept_s,
            is_lost=self._is_lost(job),
            result=result,
            problem=job.problem,
            explain=job.explain,
        )

    def result(self, job_id: str, owner: str) -> RestoredFile | None:
        """Return the result of a job; None if the owner has no such job or it is not done."""
        job = self._owned(job_id, owner)
        return None if job is None else job.result

    def delete(self, job_id: str, owner: str) -> bool:
        """Delete a job and return whether there was one; its worker stops at its next `report`."""
        job = self._owned(job_id, owner)
        if job is None:
            return False
        self._forget(job)
        return True

    def _owned(self, job_id: str, owner: str) -> _Job | None:
        self._forget_old()
        job = self._jobs.get(job_id)
        return job if job is not None and job.owner == owner else None

    def _is_lost(self, job: _Job) -> bool:
        return job.job_request is not None and self._clock() - job.heard_s > self._limits.lease_s

    def _check_room(self, job_request: JobRequest) -> None:
        limits = self._limits
        num_own = sum(job.owner == job_request.owner for job in self._jobs.values())
        if num_own >= limits.max_jobs_per_key or len(self._jobs) >= limits.max_jobs:
            raise OverloadError("too many jobs are known already; delete some that are done", 60.0)
        if self.num_bytes + len(job_request.image) > limits.max_bytes:
            raise OverloadError("the jobs' memory is full; delete some that are done", 60.0)

    def _forget_old(self) -> None:
        oldest_s = self._clock() - self._limits.kept_s
        for job in [job for job in self._jobs.values() if job.created_s <= oldest_s]:
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        del self._jobs[job.id]
        if job.idempotency_key:
            del self._asked[job.owner, job.idempotency_key]


class LocalJobs:
    """`Jobs` over a table in the gateway's own process."""

    def __init__(self, table: JobTable) -> None:
        self._table = table

    async def submit(self, job_request: JobRequest, idempotency_key: str | None) -> str:
        """Store a job to be done, and return its id."""
        return self._table.submit(job_request, idempotency_key)

    async def claim(self, job_id: str, worker: str) -> int | None:
        """Give a free job to a worker; return the number of bytes of its image, else None."""
        return self._table.claim(job_id, worker)

    async def job_request(self, job_id: str, worker: str) -> JobRequest | None:
        """Return what a worker shall do; None if the job is no longer the worker's."""
        return self._table.job_request(job_id, worker)

    async def report(self, job_id: str, worker: str, tiles: tuple[int, int] | None) -> bool:
        """Record that a worker still has a job; return whether to go on."""
        return self._table.report(job_id, worker, tiles)

    async def finish(self, job_id: str, worker: str, outcome: RestoredFile | Problem) -> None:
        """Store a worker's result or problem."""
        self._table.finish(job_id, worker, outcome)

    async def view(self, job_id: str, owner: str) -> JobView | None:
        """Return the state of an owner's job, or None if there is none."""
        return self._table.view(job_id, owner)

    async def result(self, job_id: str, owner: str) -> RestoredFile | None:
        """Return the result of an owner's job, or None if there is none."""
        return self._table.result(job_id, owner)

    async def delete(self, job_id: str, owner: str) -> bool:
        """Delete an owner's job; return whether there was one."""
        return self._table.delete(job_id, owner)
