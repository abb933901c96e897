"""The batches of a training, drawn ahead of the steps that need them."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from jaxtyping import Float32
from torch import Tensor

Batch = tuple[Float32[Tensor, "b 3 p p"], Float32[Tensor, "b 3 p p"]]
"""Degraded and clean crops."""


class Batches:
    """Draws batches in a thread of its own, the next one while the present one is trained on.

    Batches are functions of their positions alone, so drawing ahead changes none of them; a step
    that asks for other positions than were foreseen (after a rollback) gets those.

    Attributes:
        waited_s: Seconds that steps have waited for their batch.
    """

    def __init__(self, draw: Callable[[Sequence[int], int], Batch]) -> None:
        """See the class.

        Args:
            draw: Positions and patch side to a batch; called in one thread, never twice at once.
        """
        self._draw = draw
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._next: tuple[Sequence[int], int, Future[Batch]] | None = None
        self.waited_s = 0.0

    def take(
        self, positions: Sequence[int], patch_px: int, then: tuple[Sequence[int], int] | None
    ) -> Batch:
        """The batch at some positions, while what comes `then` begins to be drawn."""
        begin = time.perf_counter()
        ahead, self._next = self._next, None
        if ahead is not None and (ahead[0], ahead[1]) == (positions, patch_px):
            batch = ahead[2].result()
        else:
            batch = self._pool.submit(self._draw, positions, patch_px).result()
        self.waited_s += time.perf_counter() - begin
        if then is not None:
            self._next = (*then, self._pool.submit(self._draw, *then))
        return batch

    def close(self) -> None:
        """Stop drawing."""
        self._pool.shutdown(cancel_futures=True)
