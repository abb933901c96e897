"""The tasks that plan and judge trials, for the registry of a search.

Nothing is imported here that imports the networks, so that the registry starts without them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import ray
from ray import cloudpickle

from expertree.search.trial_plan import TrialPlan, TrialResult
from expertree.storage import Storage

PackedSetup: TypeAlias = bytes
"""A `SearchSetup` as bytes, which only processes that have imported the networks unpack."""


# Without a CPU of its own: it waits for tasks of Ray Data, which need those that there are.
@ray.remote(num_cpus=0, max_retries=3, scheduling_strategy="DEFAULT")
def plan(setup: PackedSetup, overrides: Mapping[str, Any]) -> TrialPlan:
    """Cut a trial's tree, and return its plan with the experts that it needs."""
    from expertree.orchestration.runner import runner_of  # noqa: PLC0415
    from expertree.search.planning import plan_trial  # noqa: PLC0415

    unpacked = cloudpickle.loads(setup)
    return _packed(plan_trial(unpacked, overrides, runner_of(unpacked.config.cluster)))


def _packed(plan: TrialPlan) -> TrialPlan:
    """Return the plan with the work of each task as bytes, which the registry passes on."""
    from expertree.orchestration.lane import pack  # noqa: PLC0415

    needs = []
    for need in plan.needs:
        stops = []
        for stop in need.stops:
            train, score = pack([stop.train, stop.score])
            stops.append(dataclasses.replace(stop, train=train, score=score))
        needs.append(dataclasses.replace(need, stops=tuple(stops)))
    return dataclasses.replace(plan, needs=tuple(needs))


@ray.remote(num_cpus=0.5, max_retries=3, scheduling_strategy="DEFAULT")
def judge(
    setup: PackedSetup,
    overrides: Mapping[str, Any],
    experts: Sequence[tuple[int, Storage]],
    num_samples: Mapping[int, int],
) -> TrialResult:
    """Train a trial's routers on its experts' scores, and return what its tree reaches."""
    from expertree.orchestration.runner import runner_of  # noqa: PLC0415
    from expertree.search.judge import judge_trial  # noqa: PLC0415

    unpacked = cloudpickle.loads(setup)
    runner = runner_of(unpacked.config.cluster)
    return judge_trial(unpacked, overrides, dict(experts), num_samples, runner)
