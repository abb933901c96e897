"""The memory of requests and jobs: what it refuses, and that nobody waits for it in vain."""

import asyncio
from typing import Any

import pytest

from expertree.errors import OverloadError
from expertree.serving import JobLimits
from expertree.serving.budget import MemoryBudget, MemoryShare
from expertree.serving.http.options import RequestOptions
from expertree.serving.job_runner import JobRunner
from expertree.serving.jobs import JobRequest, JobTable, LocalJobs, make_job_request
from expertree.serving.photos import RestoredFile

DONE = RestoredFile(
    data=b"done", format="png", route=Any, num_pixels=1, num_tiles=1, num_retries=0, seconds={}
)


def test_a_share_opens_and_takes_nothing_though_all_is_taken() -> None:
    budget = MemoryBudget(100)
    with budget.share() as other:
        other.grow(90)
        other.grow_unchecked(20)  # an answer that a slow caller still reads
        with budget.share() as share:
            share.grow(0)
            with pytest.raises(OverloadError):
                share.grow(1)


def test_of_shares_that_all_wait_one_goes_on_and_of_others_none() -> None:
    budget = MemoryBudget(100)
    with budget.share() as one, budget.share() as two, budget.share() as working:
        for share in (one, two, working):
            share.grow(10)
        for share in (one, two, one, two):
            with pytest.raises(OverloadError):
                share.grow(90)
        working.grow_unchecked(-10)
        one.grow(90)
        with pytest.raises(OverloadError):
            two.grow(90)
    assert budget.taken_bytes == 0


@pytest.mark.parametrize("pixel_bytes", [850, 2000])
def test_jobs_that_need_more_than_the_others_leave_are_done_one_after_the_other(
    pixel_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget, table = MemoryBudget(1000), JobTable(JobLimits())
    together: list[int] = []
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: sleep(0.001))

    async def work(_: JobRequest, share: MemoryShare, *__: object) -> RestoredFile:
        await sleep(0.005)  # the header is read in a thread
        with share.grown(pixel_bytes):
            together.append(1)
            await sleep(0.01)
            assert len(together) == 1
            together.pop()
        return DONE

    async def scenario() -> None:
        runner = JobRunner(LocalJobs(table), work, JobLimits(deadline_s=10.0), budget)
        asked = [
            table.submit(make_job_request("alice", bytes([n]) * 100, RequestOptions()), None)
            for n in range(3)
        ]
        for job in asked:
            await runner.take(job)
        async with asyncio.timeout(20):
            while {table.view(job, "alice").state for job in asked} & {"queued", "running"}:
                await sleep(0.01)
        await runner.close()
        assert [table.view(job, "alice").problem for job in asked] == [None] * 3

    asyncio.run(scenario())
    assert budget.taken_bytes == 0


def test_a_job_that_starts_while_more_is_taken_than_there_is_waits_for_it() -> None:
    budget, table = MemoryBudget(1000), JobTable(JobLimits())

    async def work(*_: object) -> RestoredFile:
        return DONE

    async def scenario() -> None:
        runner = JobRunner(LocalJobs(table), work, JobLimits(), budget)
        job = table.submit(make_job_request("alice", b"x", RequestOptions()), None)
        with budget.share() as other:
            other.grow(950)
            other.grow_unchecked(100)
            await runner.take(job)
            await asyncio.sleep(0.05)
            assert table.view(job, "alice").state == "queued"
        async with asyncio.timeout(20):
            while table.view(job, "alice").state != "done":
                assert table.view(job, "alice").problem is None
                await asyncio.sleep(0.02)
        await runner.close()

    asyncio.run(scenario())
