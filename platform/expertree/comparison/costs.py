"""What each method of a comparison took: samples, multiply-adds, hours, size, time for an image."""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import torch
from torch.utils.flop_counter import FlopCounterMode

from expertree.comparison.run import Compared, Reached
from expertree.comparison.settings import CompareConfig
from expertree.embedding import load_extractor, look
from expertree.experts.backbones import describe_backbone
from expertree.experts.conditions import Source
from expertree.experts.weights import read_card
from expertree.pipeline.dry_run import multiply_adds
from expertree.pipeline.experts import ExpertPlan
from expertree.pipeline.stages import key_of
from expertree.routing import load_router
from expertree.scheduling.budget import device_hours
from expertree.training import LOG

_SIDE_PX = 512


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CostRow:
    """What a method took, a training's costs in the mean over seeds.

    Attributes:
        method: Its name.
        told: Whether it was told what is wrong with each image.
        network: Name of its network.
        num_networks: Networks that were trained for one seed.
        rate: Factor on the recipe's learning rates.
        num_parameters: Scalars of its networks, without the statistics that they keep; of an
            adapter those that it brings.
        num_active_parameters: Scalars of them that run for an image; the most of all ways.
        num_beside: Scalars of the extractor and routers that it needs beside them.
        least_multiply_adds_512: Multiply-adds for a 512 x 512 image, on the cheapest way, with the
            extractor's.
        multiply_adds_512: The same on the dearest way.
        latency_ms: Milliseconds for an image.
        num_samples: Samples seen in training, by all its networks.
        training_multiply_adds: Multiply-adds of that.
        core_hours: Hours of lanes' devices that training took; what methods share counts for each.
        searched_samples: Samples seen in the search for its learning rate.
        searched_core_hours: Hours of that.
    """

    method: str
    told: bool
    network: str
    num_networks: int
    rate: float
    num_parameters: int
    num_active_parameters: int
    num_beside: int
    least_multiply_adds_512: int
    multiply_adds_512: int
    latency_ms: float
    num_samples: int
    training_multiply_adds: float
    core_hours: float
    searched_samples: int
    searched_core_hours: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Looking:
    """What an extractor costs: its scalars, and multiply-adds by what is looked for."""

    num_parameters: int
    multiply_adds_512: Callable[[tuple[Source, ...]], int]


def costs_of(config: CompareConfig, compared: Compared) -> tuple[CostRow, ...]:
    """Return the costs of all methods, in their order."""
    extractor = load_extractor(compared.common.extractor).eval()

    @functools.cache
    def looking(wanted: tuple[Source, ...]) -> int:
        with FlopCounterMode(display=False) as counter:
            look(extractor, torch.zeros(1, 3, _SIDE_PX, _SIDE_PX), wanted)
        return int(counter.get_total_flops() // 2)

    size = sum(p.numel() for p in extractor.parameters())
    names = list(dict.fromkeys(one.training.method.name for one in compared.reached))
    return tuple(
        _costs(
            config,
            compared,
            [one for one in compared.reached if one.training.method.name == name],
            Looking(num_parameters=size, multiply_adds_512=looking),
        )
        for name in names
    )


def _costs(
    config: CompareConfig, compared: Compared, reached: list[Reached], looking: Looking
) -> CostRow:
    first = reached[0].training
    plan, method = first.plans[0], first.method
    backbone, told = plan.job.backbone, describe_backbone(plan.job.backbone)
    wanted: tuple[Source, ...] = ("embedding",) if method.tree else backbone.seen
    looked = looking.multiply_adds_512(wanted) if wanted else 0
    beside = looking.num_parameters if wanted else 0
    if reached[0].routed is not None:
        beside += sum(p.numel() for p in load_router(reached[0].routed.router).parameters())
    latency_ms = compared.latency_ms[plan.key]
    if method.tree:
        latency_ms += compared.latency_ms[key_of(compared.common.extractor)]
    plans = [one for found in reached for one in found.training.plans]
    searched = [one for t in compared.searched.get(method.name, ()) for one in t.plans]
    devices = config.cluster.devices_per_lane
    can_leave = reached[0].routed is not None
    return CostRow(
        method=method.name,
        told=method.told,
        network=plan.job.backbone.name,
        num_networks=len(first.plans),
        rate=method.rate * first.factor,
        num_parameters=sum(_parameters(one) for one in first.plans),
        num_active_parameters=told.num_active_parameters,
        num_beside=beside,
        least_multiply_adds_512=looked + (0 if can_leave else told.least_multiply_adds_512),
        multiply_adds_512=looked + told.multiply_adds_512,
        latency_ms=latency_ms,
        num_samples=first.num_samples,
        training_multiply_adds=sum(_work(one) for one in first.plans),
        core_hours=_hours(plans, devices) / len(reached),
        searched_samples=sum(one.job.num_samples for one in searched),
        searched_core_hours=_hours(searched, devices),
    )


def _parameters(plan: ExpertPlan) -> int:
    """Return the scalars of a network without the statistics that it keeps, or of an adapter."""
    if plan.job.adapter is None:
        return describe_backbone(plan.job.backbone).num_parameters
    return read_card(plan.result).num_parameters


def _work(plan: ExpertPlan) -> float:
    return plan.job.num_samples * multiply_adds(plan.job.backbone, plan.job.recipe)


def _hours(plans: Iterable[ExpertPlan], devices_per_lane: float) -> float:
    seconds = sum(float(plan.result.read_json(LOG)["seconds"]) for plan in plans)
    return device_hours(seconds, devices_per_lane)
