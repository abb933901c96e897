"""The batches that experts are trained on."""

import dataclasses
from collections.abc import Sequence
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
