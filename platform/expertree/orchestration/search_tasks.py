"""The tasks that plan and judge trials, for the registry of a search.

Nothing is imported here that imports the networks, so that the registry's process starts without.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import ray
from ray import cloudpickle

from expertree.orchestration.search_needs import Judged, TrialPlan
from expertree.storage import Storage

PackedSetup: TypeAlias = bytes
"""A `SearchSetup` as bytes, which only those unpack who have imported the networks."""


# Without a CPU of its own: it waits for tasks of Ray Data, which need those that there are.
@ray.remote(num_cpus=0, max_retries=3, scheduling_strategy="DEFAULT")
def plan(setup: PackedSetup, overrides: Mapping[str, Any]) -> TrialPlan:
    """Cut a trial's tree and say which experts it needs."""
    from expertree.orchestration.search_plan import plan_trial  # noqa: PLC0415

    return plan_trial(cloudpickle.loads(setup), overrides)


@ray.remote(num_cpus=0.5, max_retries=3, scheduling_strategy="DEFAULT")
def judge(
    setup: PackedSetup,
    overrides: Mapping[str, Any],
    experts: Sequence[tuple[int, Storage]],
    num_samples: Mapping[int, int],
) -> Judged:
    """Train a trial's routers on what its experts make of the routers' patches, and judge it."""
    from expertree.orchestration.search_judge import judge_trial  # noqa: PLC0415

    return judge_trial(cloudpickle.loads(setup), overrides, dict(experts), num_samples)
