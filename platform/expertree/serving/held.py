"""The experts that a replica holds, where it holds some of them at a time; independent of Ray."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

Read = Callable[[int], Awaitable[T]]
"""Function that opens an expert, by its node, and gives it again at once while it is held. It may
let go of whichever was asked for least recently, where it holds as many as it may."""


class HeldExperts(Generic[T]):
    """Experts of which at most a number are open; those that are in use stay open.

    Callers come in turn: one whose expert is not open waits until another one is out of use, and
    whoever asks after it waits too. While an expert is being opened nobody waits but those who want
    it. Belongs to one event loop.
    """

    def __init__(
        self, read: Read[T], max_experts: int, *, on_eviction: Callable[[int], None]
    ) -> None:
        """Hold nothing yet.

        Args:
            read: Function that opens an expert; called for one at a time.
            max_experts: Experts that are open at once.
            on_eviction: Called with each expert that is given up for another.
        """
        self._read, self._max_experts, self._on_eviction = read, max_experts, on_eviction
        self._open: dict[int, asyncio.Task[T]] = {}  # the least recently asked for first
        self._num_users: dict[int, int] = {}
        self._turn, self._reading = asyncio.Lock(), asyncio.Lock()
        self._out_of_use = asyncio.Event()

    @contextlib.asynccontextmanager
    async def use(self, node: int) -> AsyncIterator[T]:
        """Give an expert, opened if need be, which stays open until the block ends.

        Raises:
            Exception: Whatever opening it raised.
        """
        async with self._turn:
            opened = await self._place(node)
            self._num_users[node] = self._num_users.get(node, 0) + 1
        try:
            yield await asyncio.shield(opened)  # others may wait for it too
        finally:
            self._num_users[node] -= 1
            if not self._num_users[node]:
                del self._num_users[node]
                self._out_of_use.set()

    async def _place(self, node: int) -> asyncio.Task[T]:
        """Return the opening of an expert, begun now if it is not open, as the newest one."""
        while node not in self._open and len(self._open) >= self._max_experts:
            unused = next((own for own in self._open if self._is_unused(own)), None)
            if unused is None:
                self._out_of_use.clear()
                await self._out_of_use.wait()
            else:
                del self._open[unused]
                self._on_eviction(unused)
        opened = self._open.pop(node, None) or asyncio.create_task(self._load(node))
        self._open[node] = opened
        return opened

    def _is_unused(self, node: int) -> bool:
        return node not in self._num_users and self._open[node].done()

    async def _load(self, node: int) -> T:
        try:
            async with self._reading:
                for other, opened in list(self._open.items()):
                    if opened.done():  # so that `read` lets go of none of these
                        await self._read(other)
                return await self._read(node)
        except BaseException:
            self._open.pop(node, None)  # the next one who wants it tries again
            raise
        finally:
            # Of a caller that left meanwhile, nobody else would say so, once this task is done.
            asyncio.get_running_loop().call_soon(self._out_of_use.set)
