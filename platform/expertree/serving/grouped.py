"""A queue of work that arrives piece by piece and is done in groups that belong together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
R = TypeVar("R")

Run = Callable[[K, Sequence[T]], Awaitable[Sequence[R]]]
"""Function that does the work of one key together; returns a result for each piece, in order."""


class GroupedQueue(Generic[K, T, R]):
    """A queue whose oldest piece goes next, together with others of its key.

    One group at a time is worked on. A piece whose caller was cancelled is dropped, if it has not
    begun. Belongs to one event loop.
    """

    def __init__(self, run: Run[K, T, R], max_group: int) -> None:
        """Make an empty queue.

        Args:
            run: Function that does the work.
            max_group: Most pieces of a group.
        """
        self._run, self._max_group = run, max_group
        self._waiting: deque[tuple[K, T, asyncio.Future[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, key: K, piece: T) -> R:
        """Queue one piece, and return its result once its group is done.

        Raises:
            Exception: Whatever the work of its group raised.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, piece, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while group := self._next_group():
            key = group[0][0]
            answers = [answer for _, _, answer in group]
            try:
                results = await self._run(key, [piece for _, piece, _ in group])
            except Exception as error:  # noqa: BLE001 - it is theirs who asked
                for answer in answers:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for answer, result in zip(answers, results, strict=True):
                if not answer.done():
                    answer.set_result(result)

    def _next_group(self) -> list[tuple[K, T, asyncio.Future[R]]]:
        alive = [entry for entry in self._waiting if not entry[2].done()]
        group = [entry for entry in alive if entry[0] == alive[0][0]][: self._max_group]
        taken = {id(answer) for _, _, answer in group}
        self._waiting = deque(entry for entry in alive if id(entry[2]) not in taken)
        return group
