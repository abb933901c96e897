"""Draw the batches of a training ahead of the steps that need them."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

B = TypeVar("B")


class Ahead(Generic[B]):
    """Draws batches in a thread of its own, the next one while the present one is trained on.

    Batches are functions of their positions alone, so drawing ahead changes none of them; a step
    that asks for other positions than were foreseen (after going back) gets those.
    """

    def __init__(self, draw: Callable[[range], B]) -> None:
        """Draw nothing yet.

        Args:
            draw: Function of the positions of a step's samples to their batch; called in one
                thread, never twice at once.
        """
        self._draw = draw
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._next: tuple[range, Future[B]] | None = None

    def take(self, positions: range, then: range) -> B:
        """Return the batch at some positions, and begin to draw what comes `then`, if anything."""
        ahead, self._next = self._next, None
        if ahead is not None and ahead[0] == positions:
            batch = ahead[1].result()
        else:
            batch = self._pool.submit(self._draw, positions).result()
        if then:
            self._next = then, self._pool.submit(self._draw, then)
        return batch

    def close(self) -> None:
        """Stop drawing."""
        self._pool.shutdown(cancel_futures=True)
