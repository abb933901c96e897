"""The records of what a trial of a search needs, and of what it reaches.

Nothing here imports the networks, so that the registry's process starts without them.
"""

import dataclasses
from collections.abc import Mapping

from expertree.scheduling.tasks import TrainingTask
from expertree.search.record import Node
from expertree.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Milestone:
    """One expert at one rung.

    Attributes:
        key: Key of the task that trains it to this rung.
        num_samples: Samples that it has seen there.
        result: Result in the store that holds it as it is there.
        train: Task that trains it to this rung.
        score: Task that scores it; there is nothing to do where its columns are stored.
        columns: Directories of its columns of scores, by patch set.
    """

    key: str
    num_samples: int
    result: Storage
    train: TrainingTask
    score: TrainingTask
    columns: Mapping[str, Storage]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertNeed:
    """One expert that a trial needs.

    Attributes:
        key: Content hash of the expert.
        label: Name shown to users.
        node: Node of the expert.
        served: Whether routers may choose it; else others only start from it.
        parent: Key of the expert that it starts from.
        stops: The expert at each rung; at the last one it is trained in full.
    """

    key: str
    label: str
    node: int
    served: bool
    parent: str | None
    stops: tuple[Milestone, ...]

    @property
    def num_samples(self) -> int:
        """The samples that it sees in full."""
        return self.stops[-1].num_samples


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialPlan:
    """One trial's tree and the experts that it needs, parents first.

    Attributes:
        measured: Measurements of the tree before its experts are trained; see `record.Trial`.
    """

    tree: tuple[Node, ...]
    needs: tuple[ExpertNeed, ...]
    measured: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """The results of a tree with its experts as they are at a rung; PSNR in dB.

    Attributes:
        measured: Other measurements; see `record.Trial`.
    """

    psnr_in: float
    psnr_out: float
    best_level_in: float
    best_level_out: float
    gpu_hours: float
    measured: Mapping[str, float]
