"""Counts the experts that trials need, each for itself and together, before any is trained."""

import dataclasses
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """Experts of one kind that a trial needs.

    Attributes:
        kind: Everything that their weights depend on, short of the images: trials that name the
            same kind share its experts.
        count: Most experts of this kind.
        num_samples: Samples that each of them sees.
    """

    kind: str
    count: int
    num_samples: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TotalNeeded:
    """The experts and samples that trials need in all.

    Attributes:
        naive_experts: Experts if each trial trains its own.
        shared_experts: Experts if each is trained once; at most, since a group that two levels have
            in common is counted for both.
        naive_samples: Samples to train on if each trial trains its own experts.
        shared_samples: Samples to train on if experts are shared.
    """

    naive_experts: int
    shared_experts: int
    naive_samples: int
    shared_samples: int


def add_up(trials: Iterable[Sequence[Demand]]) -> TotalNeeded:
    """Add up what trials need, each for itself and together."""
    naive_experts = naive_samples = 0
    kinds: dict[str, Demand] = {}
    for demands in trials:
        for demand in demands:
            naive_experts += demand.count
            naive_samples += demand.count * demand.num_samples
            known = kinds.get(demand.kind)
            if known is None or known.count < demand.count:
                kinds[demand.kind] = demand
    return TotalNeeded(
        naive_experts=naive_experts,
        shared_experts=sum(demand.count for demand in kinds.values()),
        naive_samples=naive_samples,
        shared_samples=sum(demand.count * demand.num_samples for demand in kinds.values()),
    )
