"""Let several processes train one network, each on a share of every batch."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """This process among those that train one network together.

    With more than one, torch.distributed's default process group connects them; all of them make
    the same calls in the same order.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError for a rank that does not exist."""
        if not 0 <= self.rank < self.count:
            raise ValueError(f"rank {self.rank} does not exist among {self.count} workers")

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and reports for all."""
        return self.rank == 0

    def share(self, positions: Sequence[int]) -> Sequence[int]:
        """Return this worker's part of a batch, which may be empty."""
        return positions[self.rank :: self.count]

    def sum_(self, values: Tensor) -> None:
        """Replace a tensor by its sum over all workers."""
        if self.count > 1:
            dist.all_reduce(values)

    def rows_of_all(self, rows: Tensor) -> Tensor:
        """Return the rows of all workers, in their order; each may have any number of them."""
        counts = torch.zeros(self.count, dtype=torch.int64, device=rows.device)
        counts[self.rank] = len(rows)
        self.sum_(counts)
        end = int(counts[: self.rank + 1].sum())
        found = rows.new_zeros(int(counts.sum()), *rows.shape[1:])
        found[end - len(rows) : end] = rows
        if len(found) > 0:
            self.sum_(found)
        return found

    def wait(self) -> None:
        """Wait until all workers have called this."""
        if self.count > 1:
            dist.barrier()

    def agree_on(self, value: T) -> T:
        """Return the first worker's value in every worker; it must be picklable."""
        if self.count == 1:
            return value
        shared = [value]
        dist.broadcast_object_list(shared, src=0)
        return shared[0]


ALONE = Workers()
"""One process that trains by itself."""
