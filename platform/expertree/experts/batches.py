"""The batches that experts are trained on."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Self

import torch
from jaxtyping import Float32
from torch import Tensor

from expertree.experts.conditions import Condition


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """What a step sees.

    Attributes:
        lq: Degraded crops in [0, 1], in channels_last memory.
        gt: Clean ones.
        tasks: The degradations of each, by name in order; none where nothing is wrong.
        seeds: A random number of each, in [0, 2^63), for what its network draws in training.
        second: Another crop of each degraded patch, where the network's objective wants one.
        condition: What the network is told of them beside their pixels.
        phase: The phase of the network's training, by number.
        progress: Share of the phase that is over, in [0, 1).
    """

    lq: Float32[Tensor, "b 3 p p"]
    gt: Float32[Tensor, "b 3 p p"]
    tasks: Sequence[tuple[str, ...]]
    seeds: Sequence[int] = ()
    second: Float32[Tensor, "b 3 p p"] | None = None
    condition: Condition = dataclasses.field(default_factory=dict)
    phase: int = 0
    progress: float = 0.0

    def __len__(self) -> int:
        return len(self.lq)

    def rows(self, part: slice) -> Self:
        """Return some of the samples."""
        condition = {name: value[part] for name, value in self.condition.items()}
        return dataclasses.replace(
            self,
            lq=self.lq[part],
            gt=self.gt[part],
            tasks=self.tasks[part],
            seeds=self.seeds[part],
            second=None if self.second is None else self.second[part],
            condition=condition,
        )

    def to(self, device: torch.device) -> Self:
        """Return the same on a device."""
        return self._moved(lambda part: part.to(device, non_blocking=True))

    def pinned(self) -> Self:
        """Return the same in memory that a GPU reads while it computes."""
        return self._moved(Tensor.pin_memory)

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Self:
        second = None if self.second is None else move(self.second)
        condition = {name: move(value) for name, value in self.condition.items()}
        return dataclasses.replace(
            self, lq=move(self.lq), gt=move(self.gt), second=second, condition=condition
        )
