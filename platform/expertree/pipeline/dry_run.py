"""Describes what a build would do, without doing it (`--dry-run`)."""

import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from expertree.events import EventLog
from expertree.experts import BackboneConfig, RecipeConfig
from expertree.experts.adapter import adapter_shapes
from expertree.experts.backbones import describe_backbone
from expertree.pipeline.build import build, prepare
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.costs import rates_of, seconds_of
from expertree.pipeline.experts import ExpertPlan
from expertree.pipeline.finetune import settle
from expertree.pipeline.grow import check_photographs, inherit, past_of
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.sources import missing_folders
from expertree.pipeline.stages import NotMadeError, Workbench
from expertree.report import formatting
from expertree.scheduling.budget import device_hours
from expertree.scheduling.simulation import Simulated, simulate
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage
from expertree.uris import public

_BYTES_PER_PARAMETER = 4

SUSTAINED_FLOPS = 3.37e12
"""Operations a second that training is assumed to reach: those of Restormer on the paper's A6000,
which takes 0.368 s at 512 px (paper 000, table 6) for 620 billion multiply-adds. At this pace its
578 hours (table 7) are 13 experts of 290 thousand steps of 8 patches of 128 px."""

_PASSES = 3
"""Forward passes that a training step costs: one forward, and two for the gradients."""

_PNG_SHARE = 0.75
"""Bytes of a stored patch over those of its pixels, noisy and clean ones together."""


def missing_of(
    config: BuildConfig, run: Callable[[Workbench], object]
) -> tuple[NotMadeError | None, list[str]]:
    """Run stages on a workbench that makes nothing.

    Args:
        config: Configuration with the store and the cluster.
        run: Function that runs the stages.

    Returns:
        What stopped them, None if all is there; and the names of the stages that were found.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(
            store=Storage.open(config.store),
            events=EventLog(Path(folder) / "events.jsonl"),
            runner=LocalRunner(config.cluster),
            on_stage=lambda *_: None,
            is_dry=True,
        )
        missing: NotMadeError | None = None
        try:
            run(bench)
        except NotMadeError as stop:
            missing = stop
    return missing, [time.name for time in bench.times]


def describe_plan(config: BuildConfig) -> str:
    """Say what a build of this configuration would find in the store, and what it would make.

    Raises:
        ExpertreeError: If the build itself would refuse to run.
    """
    config = settle(inherit(config))
    lines = [f"plan     {public(config.output)}, nothing is started"]
    absent = missing_folders(config)
    if absent:
        lines.append(f"data     not there: {', '.join(absent)}; what follows needs none of it")
        return "\n".join([*lines, *_lines_before_the_tree(config)])
    material = prepare(config, is_dry=True)
    past = past_of(config)
    if past is not None:
        check_photographs(past, material)
    missing, found = missing_of(
        config, lambda bench: build(config, material, bench, lambda _: None)
    )
    if found:
        lines.append(f"stored   {', '.join(found)}")
    if missing is None:
        return "\n".join([*lines, "to make  nothing but the report"])
    lines.append(f"to make  {missing.stage}, and what follows from it")
    experts = missing.experts
    lines += _lines(experts, config) if experts else _lines_before_the_tree(config)
    return "\n".join(lines)


def lanes_of(config: ClusterConfig) -> int:
    """Return how many lanes there would be; 1 where only the cluster could tell."""
    if config.runner == "local":
        return 1
    if config.num_lanes is not None:
        return config.num_lanes
    if config.address is not None or config.use_gpu:
        return 1
    cores = config.num_cores or os.cpu_count() or 1
    return max(1, cores // config.cpus_per_lane // config.workers_per_lane)


def play(
    plans: Sequence[ExpertPlan], rates: Mapping[str, float], *, num_lanes: int
) -> Simulated | None:
    """Simulate training the missing experts; None if the rate of one's kind is not known yet."""
    missing = [plan for plan in plans if not plan.result.is_done()]
    tasks = []
    for plan in missing:
        seconds = seconds_of(plan, rates)
        if seconds is None:
            return None
        after = (plan.parent,) if plan.parent is not None else ()
        tasks.append(TrainingTask(key=plan.key, label=plan.label, cost=seconds, after=after))
    return simulate(tasks, num_lanes=num_lanes)


def training_bytes(num_parameters: int, num_trained: int, recipe: RecipeConfig) -> int:
    """Return the bytes of weights, gradients, AdamW's two averages and the weights' own average.

    For Muon, which keeps one average less, this is an upper bound. Activations come on top; they
    depend on the sizes of patch and batch.
    """
    copies = 3 + (recipe.ema_decay > 0)
    return _BYTES_PER_PARAMETER * (num_parameters + copies * num_trained)


def _lines(plans: Sequence[ExpertPlan], config: BuildConfig) -> Iterator[str]:
    missing = [plan for plan in plans if not plan.result.is_done()]
    num_lanes = lanes_of(config.cluster)
    rates = rates_of(plans)
    simulated = play(plans, rates, num_lanes=num_lanes)
    begins = {s.key: s.begin_s for s in simulated.spans} if simulated is not None else {}
    lanes = "1 lane" if num_lanes == 1 else f"{num_lanes} lanes"
    yield f"experts  {len(missing)} of {len(plans)} to train, on {lanes}"
    width = max(len(plan.label) for plan in plans)
    for plan in sorted(plans, key=lambda plan: begins.get(plan.key, -1.0)):
        size = describe_backbone(plan.job.backbone).num_parameters
        words = [
            plan.label.ljust(width),
            f"{plan.job.num_samples:>9,} samples",
            f"{plan.job.backbone.name}, {formatting.count(size)} parameters",
            f"from {plan.start}",
        ]
        if plan.result.is_done():
            words.append("in the store")
        elif plan.key in begins:
            seconds = plan.job.num_samples / rates[plan.kind]
            words.append(
                f"{formatting.duration(seconds)}, begins at {formatting.duration(begins[plan.key])}"
            )
        yield "         " + "  ".join(words)
    if simulated is None:
        yield "time     not known: no expert of this network and recipe has been trained yet"
    elif missing:
        yield (
            f"time     {formatting.duration(simulated.wall_s)}, at the speed of the experts in the "
            f"store; no schedule is shorter than {formatting.duration(simulated.bound_s)}"
        )
        yield from _cost_lines(simulated, config.cluster)
    most = max((_bytes_of(plan) for plan in missing), default=0)
    yield memory_line(most, config.cluster)


def memory_line(num_bytes: int, cluster: ClusterConfig) -> str:
    """Say what a lane needs, and what those that share a GPU need together.

    Args:
        num_bytes: Bytes of weights and optimiser of the largest network.
        cluster: Settings of lanes.
    """
    line = (
        f"memory   {num_bytes / 2**20:,.0f} MiB a lane for weights and optimiser, and activations"
    )
    lanes = cluster.lanes_per_gpu
    if cluster.use_gpu and lanes > 1:
        line += (
            f"; {lanes} lanes share a GPU (cluster.gpus_per_lane={cluster.gpus_per_lane:g}): "
            f"{lanes * num_bytes / 2**20:,.0f} MiB, {lanes} times the activations, and CUDA's own "
            "part of each process"
        )
    return line


def _cost_lines(simulated: Simulated, config: ClusterConfig) -> Iterator[str]:
    lane_s = sum(span.end_s - span.begin_s for span in simulated.spans)
    hours = device_hours(lane_s, config.devices_per_lane)
    words = f"{hours:.3g} hours of {'GPUs' if config.use_gpu else 'CPUs'}"
    if config.price_per_device_hour is not None:
        words += f", {hours * config.price_per_device_hour:.2f} at {config.price_per_device_hour:g}"
    yield f"cost     {words}"
    limit = config.max_device_hours
    if limit is not None and hours > limit:
        yield (
            f"budget   cluster.max_device_hours={limit:g} is not enough: the build would stop "
            "before its last experts, and go on when it is run again"
        )


def _bytes_of(plan: ExpertPlan) -> int:
    size = trained = describe_backbone(plan.job.backbone).num_parameters
    if plan.job.adapter is not None:
        shapes = adapter_shapes(plan.job.backbone, plan.job.adapter)
        trained = sum(math.prod(shape) for shape in shapes.values())
    return training_bytes(size, trained, plan.job.recipe)


def _lines_before_the_tree(config: BuildConfig) -> Iterator[str]:
    if config.grow.build is not None:
        yield from _lines_before_growing(config)
        return
    if config.finetune.bundle is not None:
        yield from _lines_before_finetuning(config)
        return
    groups = config.hierarchy.cut_groups
    compared = config.experts.comparisons
    networks = "1 network" if len(compared) == 1 else f"{len(compared)} networks"
    yield (
        f"experts  at most {sum(groups)}, for groups {', '.join(map(str, groups))}, and {networks} "
        "to compare with; which they are is known once the tree is there"
    )
    size = describe_backbone(config.experts.backbone).num_parameters
    by_level = config.experts.samples_by_level(len(groups))
    total = sum(count * samples for count, samples in zip(groups, by_level, strict=True))
    path = config.experts.samples_of_path(len(groups))
    compared_with = {one: one.count(path=path, tree=total) for one in compared}
    num_samples = total + sum(compared_with.values())
    yield f"samples  at most {num_samples:,} to train on in all"
    work = total * multiply_adds(config.experts.backbone, config.experts.recipe)
    for one, seen in compared_with.items():
        network = one.backbone or config.experts.backbone
        work += seen * multiply_adds(network, config.experts.recipe)
    hours = 2 * work / SUSTAINED_FLOPS / 3600
    yield (
        f"hours    at most {hours:{',.0f' if hours >= 10 else '.2g'}} GPU-hours: {work:.2g} "
        f"multiply-adds, {_PASSES} forward passes a sample, at {SUSTAINED_FLOPS / 1e12:g} TFLOP/s "
        "(two operations each; Restormer on an A6000, UniRestorer's table 6); rules for some "
        "nodes are not counted"
    )
    if config.reference is not None:
        yield f"paper    {config.reference}"
    most = training_bytes(size, size, config.experts.recipe)
    yield memory_line(most, config.cluster)
    stored = stored_bytes(config, num_networks=sum(groups) + len(compared))
    yield f"disk     about {stored / 2**30:,.3g} GiB for the store: patches and weights"


def _lines_before_growing(config: BuildConfig) -> Iterator[str]:
    given, least = config.experts, config.grow.limits.min_samples
    samples = given.samples_per_expert or given.num_samples[-1]
    yield (
        f"experts  those of {config.grow.build} stay as they are; one more, of about {samples:,} "
        f"samples, for each group of at least {least:,} new patches that fits no leaf"
    )
    size = describe_backbone(given.backbone).num_parameters
    yield memory_line(training_bytes(size, size, given.recipe), config.cluster)


def _lines_before_finetuning(config: BuildConfig) -> Iterator[str]:
    count, samples = sum(config.hierarchy.cut_groups), config.finetune.num_samples
    further = f"{samples:,} samples further each" if samples else "not trained further"
    yield (
        f"experts  the {count} of {public(str(config.finetune.bundle))}, {further} where no rule "
        "says otherwise; those without images of their group stay as they are"
    )
    given = config.experts
    size = describe_backbone(given.backbone).num_parameters
    yield memory_line(training_bytes(size, size, given.recipe), config.cluster)


def multiply_adds(backbone: BackboneConfig, recipe: RecipeConfig) -> float:
    """Return the multiply-adds of training a network on one sample, the mean over its stages."""
    whole = describe_backbone(backbone).multiply_adds_512
    begins = [0.0, *(stage.from_fraction for stage in recipe.progressive), 1.0]
    sides = [recipe.patch_px, *(stage.patch_px for stage in recipe.progressive)]
    shares = [end - begin for begin, end in itertools.pairwise(begins)]
    pixels = sum(share * side**2 for share, side in zip(shares, sides, strict=True))
    return float(_PASSES * whole * pixels / 512**2)


def stored_bytes(config: BuildConfig, *, num_networks: int) -> float:
    """Return about how many bytes the store will hold: patches, the training ones twice, weights.

    Args:
        config: Configuration of the build.
        num_networks: Networks to store, each as large as the usual backbone.
    """
    sets = config.degradation.patch_sets()
    num_patches = sum(one.num_patches for one in sets.values()) + sets["train"].num_patches
    patches = num_patches * 2 * 3 * config.degradation.patch_px**2 * _PNG_SHARE
    size = describe_backbone(config.experts.backbone).num_parameters
    return patches + _BYTES_PER_PARAMETER * size * num_networks
