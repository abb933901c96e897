"""The settings for where a job runs and which resources it may use."""

import dataclasses
import re
from typing import Literal

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


_LEAST_SHARE = 1e-4
"""The smallest share of a resource that Ray counts."""


def num_parts(num_whole: float, amount: float) -> int:
    """Return how many times an amount of something fits into whole ones of it.

    Args:
        num_whole: How many there are, such as a node's GPUs.
        amount: A whole number of them, or a fraction of one; a fraction lies within one of them.
    """
    if amount >= 1:
        return int(num_whole // amount)
    return int(num_whole) * int(1 / amount + _LEAST_SHARE)


def _check_owner(name: str | None) -> None:
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError(
            f"owner={name!r} names a file: give letters, digits, dots, dashes and underscores, at "
            "most 100, the first no dot"
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Settings for where the job runs and which resources it may use.

    Attributes:
        runner: `ray` for a cluster, of this machine or of many; `local` for this process alone, one
            thing after the other, without starting Ray.
        address: A running cluster to join (`auto`, `host:port`); None joins the one that
            `RAY_ADDRESS` names (as inside `ray job submit`), else starts a private one.
        num_cores: Cores of a private cluster; None takes all of this machine.
        use_gpu: Whether to train and embed on GPUs.
        gpus_may_come: Whether the cluster starts GPU nodes on demand, so that none may be there
            yet. Needs `num_lanes`: nodes start for lanes that wait.
        num_lanes: Networks trained at once; None takes as many as the resources allow.
        workers_per_lane: Processes that train one network together, each on a share of every batch.
        cpus_per_lane: CPUs that each worker of a lane reserves.
        gpus_per_lane: GPUs that each worker of a lane reserves when `use_gpu` is set: a whole
            number or, for lanes of one worker that share a GPU, a fraction. Nothing keeps a lane to
            its fraction of the memory.
        owner: Name of the job: what it makes is held in this name, and a later start of the same
            name takes over from one that still runs. Null for a name that no other has.
        lease_s: Seconds of silence after which a lane loses its task to another one.
        dashboard: Whether to start Ray's dashboard with a private cluster; None starts it where
            lanes have several workers. Without it Ray Train loses track of what such a lane has
            reserved if it ends abruptly. Its modules are eight processes.
        verbose: Whether Ray's own lines are shown: of its workers, its bars and its notices.
        max_attempts: How often a network is started before it counts as failed. A start that got
            further than all before it, and was cut short by its machine or by an error that may
            pass, does not count.
        max_device_hours: Most hours of GPUs (of CPUs without `use_gpu`) that training the experts
            may take in one start of the job; what would take more is not begun. Null for no limit.
        price_per_device_hour: Price of such an hour, in any currency; shown in plans.
    """

    runner: Literal["ray", "local"] = "ray"
    address: str | None = None
    num_cores: int | None = None
    use_gpu: bool = False
    gpus_may_come: bool = False
    num_lanes: int | None = None
    workers_per_lane: int = 1
    cpus_per_lane: int = 1
    gpus_per_lane: float = 1.0
    owner: str | None = None
    lease_s: float = 30.0
    max_attempts: int = 3
    dashboard: bool | None = None
    verbose: bool = False
    max_device_hours: float | None = None
    price_per_device_hour: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a number out of range, or cluster settings with `runner=local`."""
        for name in ("workers_per_lane", "cpus_per_lane", "max_attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self._check_gpus()
        for name in ("num_cores", "num_lanes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 or null, got {getattr(self, name)}")
        if self.runner == "local" and (self.address is not None or self.workers_per_lane > 1):
            raise ValueError(
                "runner=local is this process alone: leave address null and workers_per_lane 1, or "
                "set runner=ray"
            )
        _check_owner(self.owner)
        if self.lease_s <= 0:
            raise ValueError(f"lease_s must be positive, got {self.lease_s}")
        if self.max_device_hours is not None and self.max_device_hours <= 0:
            raise ValueError(
                f"max_device_hours must be positive or null, got {self.max_device_hours}"
            )

    def _check_gpus(self) -> None:
        if self.gpus_may_come and self.num_lanes is None:
            raise ValueError(
                "gpus_may_come=true starts nodes for lanes that wait, and num_lanes is null, which "
                "stands for as many as there is room for now; set num_lanes to the most networks "
                "to train at once, as one for each GPU that may come"
            )
        gpus = float(self.gpus_per_lane)
        if not (_LEAST_SHARE <= gpus <= 1 or (gpus > 1 and gpus.is_integer())):
            raise ValueError(
                f"gpus_per_lane must be a fraction of 1, at least {_LEAST_SHARE:g}, or a whole "
                f"number, got {gpus:g}"
            )
        if gpus < 1 < self.workers_per_lane:
            raise ValueError(
                f"workers of one lane need a GPU each (NCCL refuses to share one): with "
                f"workers_per_lane={self.workers_per_lane} give gpus_per_lane=1, got {gpus:g}"
            )

    @property
    def lanes_per_gpu(self) -> int:
        """Number of lanes that share a GPU; 1 where a lane holds one or more."""
        return num_parts(1, self.gpus_per_lane) if self.gpus_per_lane < 1 else 1

    @property
    def starts_dashboard(self) -> bool:
        """Whether a private cluster gets Ray's dashboard."""
        return self.workers_per_lane > 1 if self.dashboard is None else self.dashboard

    @property
    def devices_per_lane(self) -> float:
        """Number of GPUs that a lane holds, or of CPUs where it uses no GPU."""
        each = self.gpus_per_lane if self.use_gpu else self.cpus_per_lane
        return each * self.workers_per_lane
