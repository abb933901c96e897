"""What each method of a comparison took: samples, multiply-adds, hours, size, time for an image."""

import dataclasses
import functools
from collections.abc import Callable, Iterable

from expertree.comparison.latency import MEASURES
from expertree.comparison.plan import ROUTE, Training
from expertree.comparison.run import Compared, Reached
from expertree.comparison.settings import CompareConfig
from expertree.embedding import load_extractor, look
from expertree.experts.backbones import describe_backbone
from expertree.experts.conditions import Source
from expertree.experts.weights import read_card
from expertree.pipeline.dry_run import multiply_adds
from expertree.pipeline.experts import ExpertPlan
from expertree.pipeline.score import scored_patches
from expertree.pipeline.stages import key_of
from expertree.routing import Router, load_router, measure
from expertree.routing.costs import counted, size_of
from expertree.scheduling.budget import device_hours
from expertree.training import LOG

_SIDE_PX = 512

_PASSES = 3
"""Forward passes that a step of the routers' training costs."""


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
        least_multiply_adds_512: Multiply-adds for a 512 x 512 image, on the cheapest way, with
            those of the extractor and of what routers measure.
        multiply_adds_512: The same on the dearest way.
        latency_ms: Milliseconds for an image.
        num_samples: Samples seen in training, by all its networks.
        training_multiply_adds: Multiply-adds of that.
        core_hours: Hours of lanes' devices that training took; what methods share counts for each.
        searched_samples: Samples seen in the search for its learning rate.
        searched_core_hours: Hours of that.
        routers_samples: Patches that its networks restored to train its routers.
        routers_multiply_adds: Multiply-adds of that, and of training the routers on it.
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
    routers_samples: int
    routers_multiply_adds: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Looking:
    """What an extractor costs, and what routers measure in the windows that it looks at.

    Attributes:
        num_parameters: Its scalars.
        multiply_adds_512: Multiply-adds for a 512 x 512 image, by what is looked for.
        measured_512: Multiply-adds of the measures of such an image.
    """

    num_parameters: int
    multiply_adds_512: Callable[[tuple[Source, ...]], int]
    measured_512: Callable[[], int]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Beside:
    """What an image takes beside its networks: scalars, multiply-adds and milliseconds."""

    num_parameters: int = 0
    multiply_adds_512: int = 0
    latency_ms: float = 0.0


def costs_of(config: CompareConfig, compared: Compared) -> tuple[CostRow, ...]:
    """Return the costs of all methods, in their order."""
    extractor = load_extractor(compared.common.extractor).eval()

    @functools.cache
    def looking(wanted: tuple[Source, ...]) -> int:
        return counted(lambda image: look(extractor, image, wanted), _SIDE_PX)

    @functools.cache
    def measured() -> int:
        view = extractor.config
        return counted(lambda image: measure(image, view=view.view, side_px=view.view_px), _SIDE_PX)

    names = list(dict.fromkeys(one.training.method.name for one in compared.reached))
    return tuple(
        _costs(
            config,
            compared,
            [one for one in compared.reached if one.training.method.name == name],
            Looking(
                num_parameters=size_of(extractor), multiply_adds_512=looking, measured_512=measured
            ),
        )
        for name in names
    )


def _costs(
    config: CompareConfig, compared: Compared, reached: list[Reached], looking: Looking
) -> CostRow:
    first = reached[0].training
    plan, method = first.plans[0], first.method
    told = describe_backbone(plan.job.backbone)
    router = None if reached[0].routed is None else load_router(reached[0].routed.router)
    beside = _beside(compared, first, router, looking)
    patches, work = (0, 0.0) if router is None else _to_train(config, compared, first, router)
    plans = [one for found in reached for one in found.training.plans]
    searched = [one for t in compared.searched.get(method.name, ()) for one in t.plans]
    devices = config.cluster.devices_per_lane
    least = 0 if router is not None else told.least_multiply_adds_512
    return CostRow(
        method=method.name,
        told=method.told,
        network=plan.job.backbone.name,
        num_networks=len(first.plans),
        rate=method.rate * first.factor,
        num_parameters=sum(_parameters(one) for one in first.plans),
        num_active_parameters=told.num_active_parameters,
        num_beside=beside.num_parameters,
        least_multiply_adds_512=beside.multiply_adds_512 + least,
        multiply_adds_512=beside.multiply_adds_512 + told.multiply_adds_512,
        latency_ms=beside.latency_ms + compared.latency_ms[plan.key],
        num_samples=first.num_samples,
        training_multiply_adds=sum(_work(one) for one in first.plans),
        core_hours=_hours(plans, devices) / len(reached),
        searched_samples=sum(one.job.num_samples for one in searched),
        searched_core_hours=_hours(searched, devices),
        routers_samples=patches,
        routers_multiply_adds=work,
    )


def _beside(
    compared: Compared, training: Training, router: Router | None, looking: Looking
) -> _Beside:
    """Return what an image takes before a network restores it; a told network's time has it."""
    method, backbone = training.method, training.plans[0].job.backbone
    wanted: tuple[Source, ...] = ("embedding",) if method.tree else backbone.seen
    if not wanted:
        return _Beside()
    num_parameters, work = looking.num_parameters, looking.multiply_adds_512(wanted)
    latency_ms = compared.latency_ms[key_of(compared.common.extractor)] if method.tree else 0.0
    if router is not None:
        num_parameters += size_of(router)
        if router.shape.num_measures:
            work += looking.measured_512()
            latency_ms += compared.latency_ms[MEASURES]
    return _Beside(num_parameters=num_parameters, multiply_adds_512=work, latency_ms=latency_ms)


def _to_train(
    config: CompareConfig, compared: Compared, training: Training, router: Router
) -> tuple[int, float]:
    """Return the patches that networks restored to train routers, and the multiply-adds of all."""
    num_patches, side_px = scored_patches(compared.common.tables[ROUTE])
    share = num_patches * (side_px / _SIDE_PX) ** 2
    scored = sum(
        share * describe_backbone(p.job.backbone).multiply_adds_512 for p in training.plans
    )
    seen = num_patches * (1.0 - config.router.held_out_fraction) * config.router.num_epochs
    return num_patches * len(training.plans), scored + _PASSES * seen * size_of(router)


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
