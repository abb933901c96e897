"""The batches of a training, drawn ahead of the steps that need them."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import torch
from jaxtyping import Float32
from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """What a step sees.

    Attributes:
        lq: Degraded crops in [0, 1], in channels_last memory.
        gt: Clean ones.
        tasks: The degradations of each, by name in order; none where nothing is wrong.
    """

    lq: Float32[Tensor, "b 3 p p"]
    gt: Float32[Tensor, "b 3 p p"]
    tasks: Sequence[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.lq)

    def rows(self, part: slice) -> Self:
        """Return some of the samples."""
        return dataclasses.replace(self, lq=self.lq[part], gt=self.gt[part], tasks=self.tasks[part])

    def to(self, device: torch.device) -> Self:
        """Return the same on a device."""
        lq, gt = (part.to(device, non_blocking=True) for part in (self.lq, self.gt))
        return dataclasses.replace(self, lq=lq, gt=gt)

    def pinned(self) -> Self:
        """Return the same in memory that a GPU reads while it computes."""
        return dataclasses.replace(self, lq=self.lq.pin_memory(), gt=self.gt.pin_memory())


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
