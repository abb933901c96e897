"""What a trial of a search needs, and what it reaches with that.

Nothing here imports the networks, so that the registry's process starts without them.
"""

import dataclasses
from collections.abc import Mapping

from expertree.scheduling.schedule import TrainingTask
from expertree.search.record import Node
from expertree.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """One expert at one rung.

    Attributes:
        key: Of the task that trains it so far.
        num_samples: That it has seen there.
        result: Where it is stored as it is there.
        train: The task.
        score: The task that scores it; there is nothing to do where its columns are stored.
        columns: Where those are, by patch set.
    """

    key: str
    num_samples: int
    result: Storage
    train: TrainingTask
    score: TrainingTask
    columns: Mapping[str, Storage]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """One expert that a trial needs.

    Attributes:
        key: Content hash.
        label: What the user calls it.
        node: Its node.
        served: Whether routers may choose it; else others only start from it.
        parent: Key of the expert that it starts from.
        stops: It at each rung, the last one in full.
    """

    key: str
    label: str
    node: int
    served: bool
    parent: str | None
    stops: tuple[Stop, ...]

    @property
    def num_samples(self) -> int:
        """That it sees in full."""
        return self.stops[-1].num_samples


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialPlan:
    """One trial's tree and the experts that it needs, parents first.

    Attributes:
        measured: What is known of the tree before its experts are; see `record.Trial`.
    """

    tree: tuple[Node, ...]
    needs: tuple[Need, ...]
    measured: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What a tree reaches with its experts as they are at a rung; PSNR in dB.

    Attributes:
        measured: What else; see `record.Trial`.
    """

    psnr_in: float
    psnr_out: float
    best_level_in: float
    best_level_out: float
    gpu_hours: float
    measured: Mapping[str, float]
