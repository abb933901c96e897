"""Experts held some at a time: others go on while one is read, and none in use is given up."""

import asyncio
import random
from collections import OrderedDict

import pytest

from expertree.serving.held import HeldExperts


class Cache:
    """A cache as Serve's: at most some experts, and the least recently asked for goes first.

    Reading an expert waits until its event is set, if it has one.
    """

    def __init__(self, max_experts: int) -> None:
        self.max_experts = max_experts
        self.content: OrderedDict[int, str] = OrderedDict()
        self.gates: dict[int, asyncio.Event] = {}
        self.reads: list[int] = []
        self.given_up: list[int] = []
        self.broken: set[int] = set()
        self.held = HeldExperts[str](self.read, max_experts, on_eviction=self.given_up.append)

    async def read(self, node: int) -> str:
        if node in self.content:
            self.content.move_to_end(node)
            return self.content[node]
        if len(self.content) == self.max_experts:
            self.content.popitem(last=False)
        self.reads.append(node)
        if node in self.gates:
            await self.gates[node].wait()
        await asyncio.sleep(0)
        if node in self.broken:
            raise ValueError(f"expert {node} is broken")
        self.content[node] = f"network {node}"
        return self.content[node]

    async def ask(self, node: int) -> str:
        async with self.held.use(node) as network:
            assert self.content[node] == network, "given up while in use"
            await asyncio.sleep(0)
            assert self.content[node] == network, "given up while in use"
            return network


def test_experts_that_are_there_go_on_while_another_one_is_read() -> None:
    async def scenario() -> None:
        cache = Cache(2)
        await cache.ask(1)
        cache.gates[2] = asyncio.Event()
        waiting = [asyncio.create_task(cache.ask(2)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert [await cache.ask(1) for _ in range(5)] == ["network 1"] * 5
        assert not any(task.done() for task in waiting)
        cache.gates[2].set()
        assert await asyncio.gather(*waiting) == ["network 2"] * 3
        assert cache.reads == [1, 2]
        assert cache.given_up == []

    asyncio.run(scenario())


def test_the_one_asked_for_least_recently_is_given_up_and_never_one_in_use() -> None:
    async def scenario() -> None:
        cache = Cache(2)
        for node in (1, 2, 1):
            await cache.ask(node)
        await cache.ask(3)
        assert cache.given_up == [2]
        async with cache.held.use(1):
            await cache.ask(2)
            await cache.ask(4)
            assert cache.given_up == [2, 3, 2]
            async with cache.held.use(4):
                waits = asyncio.create_task(cache.ask(5))
                after = asyncio.create_task(cache.ask(1))
                await asyncio.sleep(0.01)
                assert not waits.done()
                assert not after.done(), "it came later"
            assert await waits == "network 5"
            assert await after == "network 1"
        assert cache.reads == [1, 2, 3, 2, 4, 5]

    asyncio.run(scenario())


def test_an_expert_that_cannot_be_read_fails_those_who_want_it_and_is_tried_again() -> None:
    async def scenario() -> None:
        cache = Cache(1)
        cache.broken.add(1)
        asked = [asyncio.create_task(cache.ask(1)) for _ in range(2)]
        for task in asked:
            with pytest.raises(ValueError, match="expert 1 is broken"):
                await task
        assert cache.reads == [1]
        cache.broken.clear()
        assert await cache.ask(1) == "network 1"

    asyncio.run(scenario())


def test_a_caller_that_leaves_while_its_expert_is_read_holds_nobody_up() -> None:
    async def scenario() -> None:
        cache = Cache(1)
        cache.gates[1] = asyncio.Event()
        left = asyncio.create_task(cache.ask(1))
        next_one = asyncio.create_task(cache.ask(2))
        await asyncio.sleep(0.01)
        left.cancel()
        await asyncio.sleep(0.01)
        assert not next_one.done()
        cache.gates[1].set()
        assert await asyncio.wait_for(next_one, 1) == "network 2"

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_order_they_come_in_all_are_answered_and_none_in_use_is_given_up(
    seed: int,
) -> None:
    async def scenario() -> None:
        rng = random.Random(seed)
        cache = Cache(rng.randint(1, 3))

        async def come() -> None:
            await asyncio.sleep(rng.random() / 100)
            task = asyncio.create_task(cache.ask(rng.randint(1, 6)))
            if rng.random() < 0.2:
                await asyncio.sleep(rng.random() / 1000)
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.result()

        await asyncio.wait_for(asyncio.gather(*[come() for _ in range(60)]), 10)
        assert len(cache.reads) - len(cache.given_up) <= cache.max_experts

    asyncio.run(scenario())
