"""The configuration of a comparison: that of a build, the methods, and what they are given."""

import dataclasses
from typing import Literal

from expertree.comparison.methods import METHODS, Method, MethodConfig
from expertree.errors import ConfigError
from expertree.experts import RecipeConfig
from expertree.hierarchy import HierarchyConfig
from expertree.pipeline.settings import BuildConfig, ExpertsConfig

Match = Literal["samples", "multiply_adds", "seconds"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig(BuildConfig):
    """The whole configuration of a comparison; what methods have in common is given as for a build.

    `experts.num_samples` says how a tree divides its samples among its levels, in proportion.
    `experts.comparisons` and `num_examples` are not used.
    """

    title: str = "Methods at equal cost"
    """Heading of the report."""

    output: str = "runs/compare"
    """Folder or URI for the report and the event log."""

    methods: tuple[Method, ...] = (METHODS["tree"], METHODS["one_network"])
    """Methods, in the order of the rows: names of `comparison.methods.METHODS`, or their own."""

    match: Match = "samples"
    """What all methods get as much of: samples, multiply-adds of training, or seconds of training
    at the speed that each network has on this machine. A tree's experts share one budget."""

    samples: int = 12_000
    """Samples that define the budget: with `samples` those of every method, else those that one
    network like `experts.backbone` would get."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the trainings; the photographs, patches, extractor and tree are those of `seed`."""

    rates: tuple[float, ...] = ()
    """Factors on the learning rates, of which each method takes the one that is best on the
    photographs for routers, which no table reports; empty for the recipe's own rates."""

    rates_share: float = 0.125
    """Samples of a training with one of these rates, as a share of the method's own."""

    timed_samples: int = 384
    """Samples of the training by which `match=seconds` measures the speed of a network; the first
    quarter of each of its phases is not timed."""

    latency_px: int = 512
    """Side of the image by which the time that a restoration takes is measured."""

    sets: str = ""
    """A folder: each method's bundle is measured on every public set below it, beside published
    results."""

    sets_partial: bool = False
    """Whether less than a whole set will do."""

    def __post_init__(self) -> None:
        """Check the configuration as for a build, and that every method can be made.

        Raises:
            ConfigError: If it is impossible; the message says what to change.
        """
        BuildConfig.__post_init__(self)
        _check_numbers(self)
        names = [method.name for method in self.methods]
        if not names or len({method.folder for method in self.methods}) != len(names):
            raise ConfigError(f"methods must be at least one, with different names, got {names}")
        if self.grow.build is not None:
            raise ConfigError("grow.build grows one tree; a comparison trains anew: leave it out")
        if self.finetune.bundle is not None:
            raise ConfigError(
                "finetune.bundle has its networks; a comparison trains others: leave it out"
            )
        if self.experts.samples_per_expert is not None or self.experts.rules:
            raise ConfigError(
                "a comparison divides a tree's budget by experts.num_samples alone: leave "
                "experts.samples_per_expert null and experts.rules empty"
            )
        for method in self.methods:
            build_config(self, method, seed=self.seed)  # which checks it


def build_config(
    config: CompareConfig,
    method: MethodConfig,
    *,
    seed: int,
    factor: float = 1.0,
    num_samples: tuple[int, ...] | None = None,
) -> BuildConfig:
    """Return the configuration of the build that a method with one seed and rate is a part of.

    Args:
        config: The comparison.
        method: The method.
        seed: Seed of the training.
        factor: Factor on the method's learning rates.
        num_samples: Samples by level; by default the proportions, or of one network the budget's.

    Raises:
        ConfigError: If there can be no such build.
    """
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(BuildConfig)}
    given = config.experts
    backbone = method.backbone or given.backbone
    usual = given.num_samples if method.tree else (config.samples,)
    try:
        experts = dataclasses.replace(
            given,
            backbone=backbone,
            init=given.init if backbone == given.backbone else None,
            recipe=_at_rate(given.recipe, method.rate * factor),
            num_samples=num_samples or usual,
            adapter=method.adapter,
            comparisons=(),
        )
    except ValueError as error:
        raise ConfigError(f"{method.name}: {error}") from None
    hierarchy = config.hierarchy if method.tree else one_group(config)
    return BuildConfig(**{**fields, "seed": seed, "experts": experts, "hierarchy": hierarchy})


def one_group(config: CompareConfig) -> HierarchyConfig:
    """Return the settings of the tree of one node, whose expert is a network for everything."""
    return HierarchyConfig(groups=(1,), fit_samples=config.hierarchy.fit_samples)


def proportions(experts: ExpertsConfig, factor: float) -> tuple[int, ...]:
    """Return samples by level, all times a factor.

    Raises:
        ConfigError: If a level would get less than a batch.
    """
    found = tuple(round(factor * samples) for samples in experts.num_samples)
    if min(found) < experts.recipe.batch_size:
        raise ConfigError(
            f"the budget leaves {list(found)} samples for an expert of each level, which must be "
            f"at least one batch ({experts.recipe.batch_size}); raise samples"
        )
    return found


def _at_rate(recipe: RecipeConfig, factor: float) -> RecipeConfig:
    return dataclasses.replace(
        recipe,
        learning_rate=recipe.learning_rate * factor,
        matrix_learning_rate=recipe.matrix_learning_rate * factor,
    )


def _check_numbers(config: CompareConfig) -> None:
    for name in ("samples", "timed_samples"):
        if getattr(config, name) < config.experts.recipe.batch_size:
            raise ConfigError(
                f"{name} must be at least one batch ({config.experts.recipe.batch_size}), got "
                f"{getattr(config, name)}"
            )
    if not config.seeds or len(set(config.seeds)) != len(config.seeds):
        raise ConfigError(f"seeds must be different, at least one, got {list(config.seeds)}")
    if any(not rate > 0 for rate in config.rates) or not 0 < config.rates_share <= 1:
        raise ConfigError(
            f"rates must be positive and rates_share in (0, 1], got {list(config.rates)} and "
            f"{config.rates_share}"
        )
    if config.latency_px < 16:
        raise ConfigError(f"latency_px must be at least 16, got {config.latency_px}")
