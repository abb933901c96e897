"""What trials ask of the lanes, with the real dispatcher and without lanes."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from expertree.errors import TrainingError
from expertree.orchestration.search import requests as module
from expertree.orchestration.search.requests import Requests
from expertree.scheduling.dispatcher import Dispatcher
from expertree.scheduling.tasks import TrainingTask

TASK = TrainingTask(key="a", label="a", cost=1.0)


class Lanes:
    """The dispatcher, called as an actor is; it can be out of reach."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher([], lease_s=30.0, max_attempts=1)
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            if self.is_away:
                raise module.RayError
            return await getattr(self.dispatcher, name)(*arguments)

        return SimpleNamespace(remote=lambda *arguments: asyncio.ensure_future(call(*arguments)))

    async def keys(self) -> list[str]:
        return [task.key for task in (await self.dispatcher.status()).tasks]


async def ask(requests: Requests, number: int) -> asyncio.Task[None]:
    """Let a trial wait for the task."""
    waiting = asyncio.ensure_future(requests.have(number, lambda: [TASK]))
    while TASK.key not in requests:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    return waiting


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, timeout=10))


def test_a_task_is_taken_back_when_the_last_trial_lets_it_go() -> None:
    async def body() -> None:
        lanes = Lanes()
        requests = Requests(lanes)
        waiting = [await ask(requests, number) for number in range(2)]
        await requests.let_go(0)
        assert await lanes.keys() == ["a"]
        await requests.let_go(1)
        assert await lanes.keys() == []
        assert "a" not in requests
        for one in waiting:  # whoever waits all the same is told, and does not wait for ever
            with pytest.raises(TrainingError, match="taken back from the lanes"):
                await one

    run(body())


def test_after_all_were_given_up_nothing_is_told_twice_and_a_trial_may_ask_anew() -> None:
    async def body() -> None:
        lanes = Lanes()
        requests = Requests(lanes)
        waiting = await ask(requests, 0)
        requests.give_up("no lane is left")
        await requests.take_back(["a"], TrainingError("the budget is spent"))
        with pytest.raises(TrainingError, match="no lane is left"):
            await waiting
        again = await ask(requests, 1)
        tenant: Any = SimpleNamespace(lane="lane-0", incarnation="first", node="n")
        assert await lanes.dispatcher.lease(tenant) == TASK
        await lanes.dispatcher.finish(tenant, "a")
        requests.hear(await lanes.dispatcher.status())
        await again

    run(body())


def test_a_dispatcher_out_of_reach_is_an_error_and_what_was_asked_of_it_is_asked_again() -> None:
    async def body() -> None:
        lanes = Lanes()
        requests = Requests(lanes)
        lanes.is_away = True
        with pytest.raises(module.RayError):
            await requests.have(0, lambda: [TASK])
        lanes.is_away = False
        await ask(requests, 0)
        assert await lanes.keys() == ["a"]
        lanes.is_away = True
        await requests.let_go(0)  # the trial has ended, whether lanes hear of it or not

    run(body())
