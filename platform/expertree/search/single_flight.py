"""Makes callers that ask for the same key at the same time share one run."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Joins callers that ask for the same key; an error goes to all of them and is not kept."""

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Task[T]] = {}

    async def do(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """Return what `make` returns; it is started only if no run for the key is under way.

        A caller that stops waiting does not stop the run.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(_run(make))
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return await asyncio.shield(flight)


async def _run(make: Callable[[], Awaitable[T]]) -> T:
    return await make()
