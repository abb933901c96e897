"""Describes what a comparison would do, without doing it (`--dry-run`)."""

from collections.abc import Iterator, Sequence

from expertree.comparison.matching import UNITS, Cost, cost_of_sample
from expertree.comparison.methods import MethodConfig
from expertree.comparison.run import compare
from expertree.comparison.settings import CompareConfig, build_config
from expertree.experts.backbones import describe_backbone
from expertree.pipeline.build import prepare
from expertree.pipeline.costs import rates_of
from expertree.pipeline.dry_run import SUSTAINED_FLOPS, lanes_of, missing_of, multiply_adds, play
from expertree.pipeline.experts import ExpertPlan
from expertree.pipeline.sources import missing_folders
from expertree.pipeline.stages import NotMadeError
from expertree.report import formatting


def describe_comparison(config: CompareConfig) -> str:
    """Say what a comparison would find in the store, and what it would make.

    Raises:
        ExpertreeError: If the comparison itself would refuse to run.
    """
    lines = [
        f"plan     {config.output}, nothing is started",
        _head(config),
        *_method_lines(config),
    ]
    absent = missing_folders(config)
    if absent:
        return "\n".join([*lines, f"data     not there: {', '.join(absent)}"])
    missing, found = _missing(config)
    if found:
        lines.append(f"stored   {', '.join(found)}")
    if missing is None:
        return "\n".join([*lines, "to make  nothing but the report"])
    lines.append(f"to make  {missing.stage}, and what follows from it")
    lines += _union_lines(config, missing.experts)
    return "\n".join(lines)


def _head(config: CompareConfig) -> str:
    seeds = ", ".join(map(str, config.seeds))
    return (
        f"methods  {len(config.methods)}, seeds {seeds}; as many {UNITS[config.match]} each "
        f"as one network like experts.backbone takes for {config.samples:,} samples"
    )


def _missing(config: CompareConfig) -> tuple[NotMadeError | None, list[str]]:
    """Return what stopped a comparison that makes nothing, and the stages that it found."""
    material = prepare(config, is_dry=True)
    missing, found = missing_of(
        config, lambda bench: compare(config, material, bench, lambda _: None)
    )
    return missing, list(dict.fromkeys(found))


def _method_lines(config: CompareConfig) -> Iterator[str]:
    """Yield a line for each method, of what is known before anything is made."""
    width = max(len(method.name) for method in config.methods)
    for method in config.methods:
        own = build_config(config, method, seed=config.seeds[0])
        backbone, recipe = own.experts.backbone, own.experts.recipe
        words = [
            method.name.ljust(width),
            f"{backbone.name}, {formatting.count(describe_backbone(backbone).num_parameters)}",
        ]
        if method.tree:
            words.append(f"at most {sum(own.hierarchy.cut_groups)} networks a seed")
        if config.match == "seconds":
            words.append("samples are known once speeds are measured")
        else:
            samples = _samples(config, cost_of_sample(config.match, recipe, {}), method)
            work = samples * multiply_adds(backbone, recipe)
            hours = 2 * work / SUSTAINED_FLOPS / 3600
            words += [
                f"{samples:,.0f} samples a seed",
                f"{formatting.count(work)} multiply-adds",
                f"{hours:.2g} h of a GPU of {SUSTAINED_FLOPS / 1e12:g} TFLOP/s",
            ]
        yield "         " + "  ".join(words)


def _samples(config: CompareConfig, cost: Cost, method: MethodConfig) -> float:
    """Return the samples that a method gets in all: its networks cost the same a sample."""
    own = build_config(config, method, seed=config.seeds[0]).experts
    return config.samples * cost((config.experts.backbone, None)) / cost((own.backbone, None))


def _union_lines(config: CompareConfig, plans: Sequence[ExpertPlan]) -> Iterator[str]:
    """Yield what is known of the networks to train, once they are known."""
    if not plans:
        yield "networks which they are is known once the tree is there"
        return
    missing = [plan for plan in plans if not plan.result.is_done()]
    samples = sum(plan.job.num_samples for plan in missing)
    work = sum(p.job.num_samples * multiply_adds(p.job.backbone, p.job.recipe) for p in missing)
    num_lanes = lanes_of(config.cluster)
    yield (
        f"networks {len(missing)} of {len(plans)} to train, {samples:,} samples, "
        f"{formatting.count(work)} multiply-adds"
    )
    for plan in missing:
        yield f"         {plan.label}  {plan.job.num_samples:,} samples"
    simulated = play(plans, rates_of(plans), num_lanes=num_lanes)
    if simulated is None:
        yield "time     not known: not every network has been trained by this recipe yet"
    else:
        lanes = "1 lane" if num_lanes == 1 else f"{num_lanes} lanes"
        yield f"time     {formatting.duration(simulated.wall_s)} on {lanes}, at the speeds so far"
