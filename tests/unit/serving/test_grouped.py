"""Groups of work: the oldest first, with others of its kind, and none that nobody waits for."""

import asyncio
from collections.abc import Sequence

import pytest

from expertree.serving.grouped import GroupedQueue


class Log:
    """Work that notes its groups; the first waits until told."""

    def __init__(self) -> None:
        self.groups: list[tuple[str, list[int]]] = []
        self.go = asyncio.Event()

    async def run(self, key: str, pieces: Sequence[int]) -> list[int]:
        self.groups.append((key, list(pieces)))
        await self.go.wait()
        if 13 in pieces:
            raise ValueError("thirteen")
        return [10 * piece for piece in pieces]


def test_waiting_pieces_of_a_key_are_done_together_oldest_key_first() -> None:
    async def scenario() -> None:
        log = Log()
        queue = GroupedQueue[str, int, int](log.run, max_group=2)
        keys = ["a", "b", "a", "b", "b", "a"]
        asked = [asyncio.create_task(queue.submit(key, n)) for n, key in enumerate(keys)]
        await asyncio.sleep(0)
        log.go.set()
        assert await asyncio.gather(*asked) == [0, 10, 20, 30, 40, 50]
        assert log.groups == [("a", [0, 2]), ("b", [1, 3]), ("b", [4]), ("a", [5])]

    asyncio.run(scenario())


def test_a_piece_whose_caller_left_before_its_turn_is_not_done() -> None:
    async def scenario() -> None:
        log = Log()
        queue = GroupedQueue[str, int, int](log.run, max_group=1)
        asked = [asyncio.create_task(queue.submit("a", n)) for n in range(3)]
        await asyncio.sleep(0.01)
        asked[1].cancel()
        await asyncio.sleep(0)
        log.go.set()
        assert [await asked[0], await asked[2]] == [0, 20]
        assert [pieces for _, pieces in log.groups] == [[0], [2]]

    asyncio.run(scenario())


def test_an_error_reaches_those_of_its_group_and_nobody_else() -> None:
    async def scenario() -> None:
        log = Log()
        log.go.set()
        queue = GroupedQueue[str, int, int](log.run, max_group=2)
        bad, also, good = (
            asyncio.create_task(queue.submit(key, n)) for key, n in (("a", 13), ("a", 1), ("b", 2))
        )
        assert await good == 20
        for each in (bad, also):
            with pytest.raises(ValueError, match="thirteen"):
                await each

    asyncio.run(scenario())
