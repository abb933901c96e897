"""Jobs: the table by itself, gateways that share it, and the endpoints."""

import asyncio
import dataclasses
import hashlib
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from expertree.errors import OverloadError
from expertree.images.io import decode_u8, encode_png
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving import HttpConfig, JobLimits, Key, LocalEngine, create_app
from expertree.serving.engine import Routed
from expertree.serving.http.options import RequestOptions
from expertree.serving.http.problems import ProblemError
from expertree.serving.jobs import JobRequest, JobTable, LocalJobs, make_job_request
from expertree.serving.photos import RestoredFile

ROUTE = Routed(
    model="m",
    expert=0,
    node=0,
    level=0,
    leaf=0,
    path=(0,),
    leaf_probabilities=(1.0,),
    level_probabilities=(1.0,),
    confidence=1.0,
    degradations={},
    alternatives=(),
    gain_db=None,
    seconds={},
)
LIMITS = JobLimits(max_bytes=100, max_jobs=4, max_jobs_per_key=3, kept_s=1000.0, lease_s=10.0)


def job_request(
    image: bytes = b"image", owner: str = "alice", level: int | None = None
) -> JobRequest:
    return make_job_request(owner, image, RequestOptions(wish=Wish(level=level)))


def result(data: bytes = b"result") -> RestoredFile:
    return RestoredFile(
        data=data, format="png", route=ROUTE, num_pixels=1, num_tiles=4, num_retries=0, seconds={}
    )


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> JobTable:
    return JobTable(LIMITS, clock=clock)


def test_a_job_goes_from_queued_to_done(table: JobTable) -> None:
    job = table.submit(job_request(), None)
    assert table.claim(job, "one") == len(b"image")
    assert table.job_request(job, "one") == job_request()
    assert table.view(job, "alice").state == "queued"
    assert table.report(job, "one", (1, 4))
    view = table.view(job, "alice")
    assert (view.state, view.tiles_done, view.num_tiles) == ("running", 1, 4)
    assert table.result(job, "alice") is None
    table.finish(job, "one", result())
    view = table.view(job, "alice")
    assert (view.state, view.tiles_done, view.num_tiles) == ("done", 4, 4)
    assert view.result.data == b""  # the file travels only where it is asked for
    assert table.result(job, "alice").data == b"result"
    assert table.num_bytes == len(b"result")


def test_a_job_is_its_owners_alone(table: JobTable) -> None:
    job = table.submit(job_request(), None)
    assert table.view(job, "bob") is None
    assert table.result(job, "bob") is None
    assert not table.delete(job, "bob")
    assert table.view(job, "alice") is not None


def test_the_same_idempotency_key_is_the_same_job(table: JobTable) -> None:
    job = table.submit(job_request(), "k")
    assert table.submit(job_request(), "k") == job
    assert table.submit(job_request(owner="bob"), "k") != job
    for other in (job_request(b"other"), job_request(level=1)):
        with pytest.raises(ProblemError) as used:
            table.submit(other, "k")
        assert used.value.kind == "used-key"
    table.delete(job, "alice")
    assert table.submit(job_request(b"other"), "k") != job


def test_a_job_that_is_deleted_or_lost_is_no_longer_its_workers(
    table: JobTable, clock: Clock
) -> None:
    job = table.submit(job_request(), None)
    table.claim(job, "one")
    assert table.claim(job, "two") is None
    clock.now = 11.0
    assert table.view(job, "alice").is_lost
    assert table.claim(job, "two") == len(b"image")
    assert table.job_request(job, "one") is None
    assert table.job_request(job, "two") == job_request()
    assert not table.report(job, "one", (3, 4))
    table.finish(job, "one", result(b"too late"))
    assert table.view(job, "alice").state == "queued"
    assert table.delete(job, "alice")
    assert not table.report(job, "two", (1, 4))
    assert table.num_bytes == 0


def test_jobs_are_kept_for_their_time_and_then_forgotten(table: JobTable, clock: Clock) -> None:
    job = table.submit(job_request(), "k")
    table.claim(job, "one")
    table.finish(job, "one", result())
    clock.now = 999.0
    assert table.view(job, "alice").expires_s == 1000.0
    clock.now = 1000.0
    assert table.view(job, "alice") is None
    assert table.num_bytes == 0
    assert table.submit(job_request(b"other"), "k") != job


def test_memory_and_numbers_are_bounded_and_nothing_promised_is_dropped(table: JobTable) -> None:
    first = table.submit(job_request(b"x" * 60), None)
    with pytest.raises(OverloadError):
        table.submit(job_request(b"x" * 60), None)
    table.claim(first, "one")
    table.finish(first, "one", result(b"y" * 101))
    assert table.view(first, "alice").state == "failed"
    kept = [table.submit(job_request(bytes([n])), None) for n in range(2)]
    with pytest.raises(OverloadError):  # three of one owner
        table.submit(job_request(b"z"), None)
    table.submit(job_request(owner="bob"), None)
    with pytest.raises(OverloadError):  # four in all
        table.submit(job_request(owner="carol"), None)
    assert all(table.view(job, "alice") for job in kept)


def large_png() -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return encode_png(cv2.resize(image, (300, 200)))


async def follow(client: httpx.AsyncClient, path: str, state: str) -> dict[str, Any]:
    """Ask until a job is as it should be."""
    for _ in range(400):
        answer = (await client.get(path)).json()
        if answer["state"] == state:
            return answer
        assert answer["state"] != "failed", answer
        await asyncio.sleep(0.02)
    raise AssertionError(answer)


def test_a_job_is_asked_for_followed_fetched_and_deleted(ask: Any, restorer: Restorer) -> None:
    png = large_png()

    async def whole_life() -> None:
        async with ask.client() as client:
            accepted = await client.post("/v1/jobs?tile=128&explain=true", content=png)
            assert accepted.status_code == 202
            where = accepted.headers["location"]
            done = await follow(client, where, "done")
            assert done["tiles_done"] == done["num_tiles"] == 6
            file = await client.get(done["result"])
            expected = restorer.restore(decode_u8(png), Wish(tile_px=128))
            assert np.array_equal(decode_u8(file.content), expected.image)
            assert file.headers["x-restore-tiles"] == "6"
            assert done["route"]["expert"] == expected.route.expert
            assert done["explanation"]["steps"]
            assert (await client.delete(where)).status_code == 204
            for method, path in (("GET", where), ("GET", done["result"]), ("DELETE", where)):
                ask.problem(await client.request(method, path), 404, "not-found")

    asyncio.run(whole_life())


def test_behind_a_prefix_a_job_says_where_it_and_its_result_are(ask: Any) -> None:
    async def whole_life() -> None:
        transport = httpx.ASGITransport(ask.app, root_path="/restorer")
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            accepted = await client.post("/restorer/v1/jobs", content=large_png())
            where = accepted.headers["location"]
            assert where.startswith("/restorer/v1/jobs/")
            done = await follow(client, where, "done")
            assert (await client.get(done["result"])).status_code == 200

    asyncio.run(whole_life())


def test_the_same_idempotency_key_gets_the_same_job_over_http(ask: Any) -> None:
    png = large_png()

    async def twice() -> None:
        async with ask.client() as client:
            headers = {"Idempotency-Key": "order-1"}
            first = await client.post("/v1/jobs", content=png, headers=headers)
            again = await client.post("/v1/jobs", content=png, headers=headers)
            assert first.headers["location"] == again.headers["location"]
            other = await client.post("/v1/jobs?level=0", content=png, headers=headers)
            ask.problem(other, 422, "used-key")
            odd = {"Idempotency-Key": "x" * 200}
            ask.problem(await client.post("/v1/jobs", content=png, headers=odd), 400, "bad-request")

    asyncio.run(twice())


def test_a_job_that_cannot_be_done_says_why(ask: Any, png: bytes) -> None:
    async def broken() -> None:
        async with ask.client() as client:
            where = (await client.post("/v1/jobs", content=png[:-30])).headers["location"]
            while (answer := (await client.get(where)).json())["state"] != "failed":
                await asyncio.sleep(0.02)
            assert answer["problem"]["type"] == "/docs#bad-image"
            refused = await client.get(f"{where}/result")
            ask.problem(refused, 409, "conflict")

    asyncio.run(broken())
    ask.problem(ask("POST", "/v1/jobs", content=b"GIF89a"), 415, "unsupported-format")
    ask.problem(ask("POST", "/v1/jobs?levl=1", content=png), 422, "bad-option")
    ask.problem(ask("GET", "/v1/jobs/nobody"), 404, "not-found")


def test_a_job_of_another_key_does_not_exist(asker: Any, restorer: Restorer, png: bytes) -> None:
    keys = tuple(
        Key(name=name, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in ("a", "b")
    )
    ask = asker(create_app(LocalEngine(restorer), HttpConfig(keys=keys)))

    async def two_owners() -> None:
        async with ask.client() as client:
            own, other = ({"Authorization": f"Bearer {name}"} for name in ("a", "b"))
            posted = await client.post("/v1/jobs", content=png, headers=own)
            where = posted.headers["location"]
            assert (await client.get(where, headers=own)).status_code == 200
            ask.problem(await client.get(where, headers=other), 404, "not-found")
            ask.problem(await client.delete(where, headers=other), 404, "not-found")

    asyncio.run(two_owners())


def test_a_deleted_job_stops_between_tiles(restorer: Restorer, asker: Any) -> None:
    engine = LocalEngine(restorer)
    cancelled = asyncio.Event()

    class Watched(LocalEngine):
        async def restore(self, pixels: Any, wish: Wish, *, on_tile: Any = None) -> Any:
            try:
                return await engine.restore(pixels, wish, on_tile=on_tile)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    ask = asker(create_app(Watched(restorer), HttpConfig()))
    image = cv2.resize(decode_u8(large_png()), (1400, 1400))

    async def delete() -> None:
        async with ask.client() as client:
            posted = await client.post("/v1/jobs?tile=72", content=encode_png(image))
            where = posted.headers["location"]
            await follow(client, where, "running")
            assert (await client.delete(where)).status_code == 204
            await asyncio.wait_for(cancelled.wait(), 10)

    asyncio.run(delete())
    engine.close()  # returns at once: no tile is left to do


def test_a_gateway_that_dies_leaves_its_jobs_to_the_one_that_is_asked_next(
    restorer: Restorer, asker: Any, png: bytes
) -> None:
    clock = Clock()
    limits = dataclasses.replace(JobLimits(), lease_s=5.0)
    jobs = LocalJobs(JobTable(limits, clock=clock))

    class Stuck(LocalEngine):
        async def restore(self, pixels: Any, wish: Wish, *, on_tile: Any = None) -> Any:
            await asyncio.sleep(3600)
            return await super().restore(pixels, wish, on_tile=on_tile)

    config = HttpConfig(jobs=limits)
    dying = asker(create_app(Stuck(restorer), config, jobs=jobs))
    posted = dying("POST", "/v1/jobs", content=png)  # its event loop ends with it
    where = posted.headers["location"]
    alive = asker(create_app(LocalEngine(restorer), config, jobs=jobs))

    async def ask_the_other() -> None:
        async with alive.client() as client:
            await follow(client, where, "queued")
            clock.now = 6.0
            await follow(client, where, "done")

    asyncio.run(ask_the_other())


@pytest.mark.parametrize(("headers", "num_kept"), [([], 0), ([(b"idempotency-key", b"k")], 1)])
def test_a_job_that_nobody_can_know_of_is_not_kept(
    restorer: Restorer, png: bytes, headers: list[tuple[bytes, bytes]], num_kept: int
) -> None:
    table = JobTable(JobLimits())
    app = create_app(LocalEngine(restorer), HttpConfig(), jobs=LocalJobs(table))
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/jobs",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), *headers],
    }

    async def ask_and_leave() -> None:
        messages = [{"type": "http.request", "body": png, "more_body": False}]

        async def receive() -> Any:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            """Nobody reads it."""

        await app(scope, receive, send)

    asyncio.run(ask_and_leave())
    assert len(table._jobs) == num_kept
