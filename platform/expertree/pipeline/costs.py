"""Estimates what missing experts will cost from how fast finished ones were trained."""

from collections.abc import Mapping, Sequence

from expertree.errors import ResourceError
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.experts import ExpertPlan
from expertree.scheduling.budget import Budget
from expertree.training import LOG


def rates_of(plans: Sequence[ExpertPlan]) -> dict[str, float]:
    """Return the finished experts' mean samples a second, by kind of network and recipe."""
    found: dict[str, list[float]] = {}
    for plan in plans:
        # An expert that was taken over from a bundle has no speed.
        rate = plan.result.read_json(LOG).get("samples_per_s") if plan.result.is_done() else None
        if rate is not None:
            found.setdefault(plan.kind, []).append(float(rate))
    return {kind: sum(rates) / len(rates) for kind, rates in found.items()}


def seconds_of(plan: ExpertPlan, rates: Mapping[str, float]) -> float | None:
    """Return the seconds that a lane will need; None if no expert of this kind has a rate yet."""
    return plan.job.num_samples / rates[plan.kind] if plan.kind in rates else None


def budget_of(config: ClusterConfig, plans: Sequence[ExpertPlan]) -> Budget | None:
    """Return the cap on what the missing experts may cost, or None if there is none.

    Raises:
        ResourceError: If the cap is known to be too small for every expert that could begin, which
            is the root alone as a rule.
    """
    if config.max_device_hours is None:
        return None
    budget = Budget(
        device_hours=config.max_device_hours,
        devices_per_lane=config.devices_per_lane,
        rates=rates_of(plans),
    )
    missing = {plan.key: plan for plan in plans if not plan.result.is_done()}
    first = [plan for plan in missing.values() if plan.parent not in missing]
    wanted = [(seconds_of(plan, budget.rates), plan.label) for plan in first]
    known = [(seconds, label) for seconds, label in wanted if seconds is not None]
    if known and len(known) == len(first) and min(known)[0] > budget.lane_s:
        seconds, label = min(known)
        raise ResourceError(f"{label}: {budget.refuse(spent_s=0.0, wanted_s=seconds)}")
    return budget
