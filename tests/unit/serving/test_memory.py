"""Memory that requests and jobs hold is counted as long as they hold it, whoever has left."""

import asyncio
import dataclasses
import gc
import hashlib
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from expertree.errors import OverloadError
from expertree.images.io import encode_png
from expertree.restorer import Restorer
from expertree.routing import AUTOMATIC
from expertree.serving import HttpConfig, JobLimits, Limits, LocalEngine, create_app, service
from expertree.serving import jobs as jobs_module
from expertree.serving.budget import BYTES_PER_PIXEL, MemoryBudget, MemoryShare
from expertree.serving.http.options import RequestOptions
from expertree.serving.job_runner import JobRunner
from expertree.serving.jobs import JobRequest, JobTable, LocalJobs, make_job_request
from expertree.serving.photos import DecodedPhoto, RestoredFile
from expertree.serving.service import Service
from expertree.serving.threads import run_in_thread

SIDE_PX = 40
PIXEL_BYTES = BYTES_PER_PIXEL * SIDE_PX * SIDE_PX
WANTED = RequestOptions(wish=AUTOMATIC)


@pytest.fixture
def image() -> bytes:
    return encode_png(np.zeros((SIDE_PX, SIDE_PX, 3), dtype=np.uint8))


class Gate:
    """Holds threads up until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Semaphore(0), threading.Event()

    def __call__(self) -> None:
        self.reached.release()
        assert self.opened.wait(20)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.005)


@pytest.fixture
def slow(restorer: Restorer, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Decodes one image at a time, and only once the gate is open."""
    decode = service.decode

    def slowly(data: bytes, max_pixels: int) -> DecodedPhoto:
        gate()
        return decode(data, max_pixels)

    monkeypatch.setattr(service, "decode", slowly)
    return Service(LocalEngine(restorer), Limits(num_codec_threads=1))


async def ask_and_leave(
    slow: Service, image: bytes, *, after: Gate | None = None
) -> "asyncio.Task[RestoredFile]":
    """Ask as a request does, and leave: the work is told to stop and nobody waits for that.

    With a gate it leaves once the decoder has reached it; without, before its turn has come.
    """
    with slow.budget.share() as share:
        share.grow(len(image))
        asked = asyncio.create_task(slow.restore(image, WANTED, share))
        if after is None:
            await asyncio.sleep(0.05)
        else:
            await until(lambda: after.reached.acquire(blocking=False))
        asked.cancel()
    return asked


def test_an_image_that_is_still_decoded_counts_after_its_caller_has_left(
    slow: Service, gate: Gate, image: bytes
) -> None:
    async def leave() -> None:
        asked = await ask_and_leave(slow, image, after=gate)
        await asyncio.sleep(0.05)
        assert slow.budget.taken_bytes == len(image) + PIXEL_BYTES
        gate.opened.set()
        await asyncio.wait({asked})
        assert asked.cancelled()
        assert slow.budget.taken_bytes == 0

    asyncio.run(leave())


def test_an_image_whose_turn_has_not_come_is_dropped_when_its_caller_leaves(
    slow: Service, gate: Gate, image: bytes
) -> None:
    async def leave() -> None:
        first = await ask_and_leave(slow, image, after=gate)
        second = await ask_and_leave(slow, image)
        await asyncio.wait({second})
        assert slow.budget.taken_bytes == len(image) + PIXEL_BYTES  # of the first one
        gate.opened.set()
        await asyncio.wait({first})
        assert slow.budget.taken_bytes == 0

    asyncio.run(leave())
    assert not gate.reached.acquire(blocking=False)  # the second was never decoded


def test_what_waits_for_a_thread_is_let_go_of_when_it_is_cancelled(gate: Gate) -> None:
    class Large:
        def work(self) -> None:
            """Hold itself."""

    async def leave(pool: ThreadPoolExecutor) -> None:
        first = asyncio.create_task(run_in_thread(pool, gate))
        large = Large()
        known = weakref.ref(large)
        second = asyncio.create_task(run_in_thread(pool, large.work))
        del large
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.wait({second})
        del second
        gc.collect()
        assert known() is None
        gate.opened.set()
        await first

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(leave(pool))


def test_work_in_a_thread_answers_and_raises_as_if_it_were_called() -> None:
    def wrong() -> int:
        raise OverloadError("later")

    async def ask(pool: ThreadPoolExecutor) -> None:
        assert await run_in_thread(pool, lambda: 5) == 5
        with pytest.raises(OverloadError, match="later"):
            await run_in_thread(pool, wrong)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(ask(pool))


def test_a_restoration_whose_caller_left_keeps_its_place_until_its_thread_is_free(
    restorer: Restorer, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LocalEngine(restorer, max_queued=1)
    route = engine._route

    def slowly(*arguments: Any) -> Any:
        gate()
        return route(*arguments)

    monkeypatch.setattr(engine, "_route", slowly)
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)

    async def leave() -> None:
        first = asyncio.create_task(engine.route(pixels, AUTOMATIC))
        await until(lambda: gate.reached.acquire(blocking=False))
        first.cancel()
        await asyncio.sleep(0.02)
        second = asyncio.create_task(engine.route(pixels, AUTOMATIC))
        await asyncio.sleep(0.02)
        with pytest.raises(OverloadError):
            await engine.route(pixels, AUTOMATIC)
        gate.opened.set()
        await second
        assert first.cancelled()

    asyncio.run(leave())
    engine.close()


def test_an_answer_counts_until_its_last_byte_has_gone_out(
    restorer: Restorer, asker: Any, image: bytes
) -> None:
    limits = Limits(max_memory_bytes=PIXEL_BYTES + 2 * len(image))
    ask = asker(create_app(LocalEngine(restorer), HttpConfig(limits=limits)))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/restore",
        "raw_path": b"/v1/restore",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }

    async def scenario() -> None:
        sending, read_on = asyncio.Event(), asyncio.Event()
        bodies = [{"type": "http.request", "body": image, "more_body": False}]

        async def receive() -> Any:
            if not bodies:
                await asyncio.Event().wait()
            return bodies.pop()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                sending.set()
                await read_on.wait()

        slow = asyncio.create_task(ask.app(scope, receive, send))
        await asyncio.wait_for(sending.wait(), 20)
        async with ask.client() as client:
            assert (await client.post("/v1/restore", content=image)).status_code == 429
            read_on.set()
            await slow
            assert (await client.post("/v1/restore", content=image)).status_code == 200

    asyncio.run(scenario())


class Watched(LocalJobs):
    """A table that says which images gateways have fetched."""

    def __init__(self, limits: JobLimits) -> None:
        super().__init__(JobTable(limits))
        self.fetched: list[str] = []

    async def job_request(self, job_id: str, worker: str) -> JobRequest | None:
        self.fetched.append(job_id)
        return await super().job_request(job_id, worker)


def done() -> RestoredFile:
    return RestoredFile(
        data=b"done", format="png", route=Any, num_pixels=1, num_tiles=1, num_retries=0, seconds={}
    )


def test_jobs_that_wait_hold_no_image_and_those_that_run_hold_theirs_within_the_budget() -> None:
    limits = dataclasses.replace(JobLimits(), max_running=1)
    budget, jobs = MemoryBudget(1000), Watched(limits)

    async def scenario() -> None:
        opened = asyncio.Event()

        async def work(job_request: JobRequest, share: MemoryShare, *_: object) -> RestoredFile:
            assert share.num_bytes == len(job_request.image) == 100
            await opened.wait()
            return done()

        runner = JobRunner(jobs, work, limits, budget)
        with budget.share() as other:
            other.grow(950)
            asked = [
                await jobs.submit(make_job_request("alice", b"x" * 100, WANTED), None)
                for _ in range(3)
            ]
            for job in asked:
                await runner.take(job)
            await asyncio.sleep(0.05)
            assert jobs.fetched == []  # there is no memory for any
            assert budget.taken_bytes == 950
        await until(lambda: jobs.fetched)
        assert jobs.fetched == asked[:1]
        assert budget.taken_bytes == 100
        await jobs.delete(asked[1], "alice")
        opened.set()
        await until(lambda: budget.taken_bytes == 0 and asked[2] in jobs.fetched)
        for job, state in ((asked[0], "done"), (asked[2], "done")):
            await until(lambda job=job, state=state: jobs._table.view(job, "alice").state == state)
        await runner.close()

    asyncio.run(scenario())


def test_a_job_that_is_told_to_come_again_keeps_its_image_and_takes_no_more_of_the_budget() -> None:
    limits = JobLimits()
    budget, jobs = MemoryBudget(1000), Watched(limits)
    found: list[int] = []

    async def work(_: JobRequest, share: MemoryShare, *__: object) -> RestoredFile:
        with share.grown(400):
            found.append(budget.taken_bytes)
            if len(found) < 4:
                raise OverloadError("later", 0.001)
        return done()

    async def scenario() -> None:
        runner = JobRunner(jobs, work, limits, budget)
        job = await jobs.submit(make_job_request("alice", b"x" * 100, WANTED), None)
        await runner.take(job)
        await until(lambda: jobs._table.view(job, "alice").state == "done")
        await runner.close()

    asyncio.run(scenario())
    assert found == [500] * 4
    assert len(jobs.fetched) == 1
    assert budget.taken_bytes == 0


def test_the_image_of_a_job_is_read_once_and_not_on_an_event_loop(
    ask: Any, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in: list[threading.Thread] = []

    def sha256(data: bytes) -> Any:
        read_in.append(threading.current_thread())
        return hashlib.sha256(data)

    monkeypatch.setattr(jobs_module, "hashlib", types.SimpleNamespace(sha256=sha256))
    assert ask("POST", "/v1/jobs", content=png).status_code == 202
    assert len(read_in) == 1
    assert read_in[0] is not threading.main_thread()
