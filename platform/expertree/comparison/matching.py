"""How many samples each method gets, so that all of them cost the same.

The budget is what one network like `experts.backbone` costs on `samples` samples. A method costs
the sum over its networks of their samples times the cost of one, so that a tree's experts share the
budget that one network has alone.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from expertree.comparison.settings import CompareConfig, Match, build_config, proportions
from expertree.experts import AdapterConfig, RecipeConfig
from expertree.experts.backbones import ONE_PHASE, BackboneConfig, phased, phases_of
from expertree.hierarchy import Tree
from expertree.pipeline.dry_run import multiply_adds
from expertree.pipeline.networks import NetworkChoice, choose_networks
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.units import Unit, units_of_tree

Kind: TypeAlias = tuple[BackboneConfig, AdapterConfig | Literal["child"] | None]
"""What the cost of a sample depends on: a network, whole or as an adapter; or as a child, an expert
that starts from another and so has the last of several phases alone."""

Cost: TypeAlias = Callable[[Kind], float]
"""A function from a network to the cost of training it on one sample."""

UNITS: Mapping[Match, str] = {
    "samples": "samples",
    "multiply_adds": "multiply-adds of training",
    "seconds": "seconds of training",
}
"""What is matched, in words."""


def kind_of(network: NetworkChoice) -> Kind:
    """Return what the cost of a sample of a network depends on."""
    is_child = network.parent is not None and phased(network.backbone)
    return network.backbone, network.adapter or ("child" if is_child else None)


def cost_of_sample(match: Match, recipe: RecipeConfig, rates: Mapping[Kind, float]) -> Cost:
    """Return the function that says what training a network on one sample costs.

    Args:
        match: What is matched.
        recipe: Recipe of the trainings.
        rates: Measured samples a second, by network; used by `seconds` alone.
    """
    if match == "samples":
        return lambda _: 1.0
    if match == "multiply_adds":
        return lambda kind: multiply_adds(kind[0], recipe)
    return lambda kind: 1.0 / rates[kind]


def units_of(experts: BuildConfig, tree: Tree) -> list[Unit]:
    """Return the networks of a method, by a configuration that names no rules."""
    networks = choose_networks(experts.experts, tree, {})
    return list(units_of_tree(experts.experts, tree, networks))


def total_cost(units: Sequence[Unit], cost: Cost) -> float:
    """Return what training some networks costs."""
    return sum(unit.num_samples * cost(kind_of(unit.network)) for unit in units)


def matched(
    config: CompareConfig, usual: BuildConfig, tree: Tree, cost: Cost, *, share: float = 1.0
) -> tuple[int, ...]:
    """Return the samples of each level of a method by which it costs as much as the budget.

    Args:
        config: The comparison.
        usual: Configuration of the method, whose samples are proportions.
        tree: Its tree.
        cost: Cost of a sample.
        share: Share of the budget.

    Raises:
        ConfigError: If an expert would get less than a batch.
    """
    budget = share * config.samples * cost((config.experts.backbone, None))
    return proportions(usual.experts, budget / total_cost(units_of(usual, tree), cost))


def steady_speed(log: Mapping[str, Any], ends: Sequence[float] = (1.0,)) -> float:
    """Return the samples a second of a training, by its `log.json`, once it has warmed up.

    Each part is timed by itself and counts by its share, however fast it is. Its first quarter is
    left out: what a process imports and sets up with its first steps costs a network the more, the
    faster it is. A part of few steps is taken to be as fast as the whole.

    Args:
        log: The log.
        ends: Shares of the samples at which parts end (`ends_of`), in order, 1 the last.
    """
    whole = _timed(log, 0.0, 1.0)
    if whole is None:
        return float(log["samples_per_s"])
    samples, seconds = whole
    if len(ends) == 1:
        return samples / seconds
    of_sample = 0.0
    for begin, end in itertools.pairwise((0.0, *ends)):
        samples, seconds = _timed(log, begin, end, after_first=begin == 0.0) or whole
        of_sample += (end - begin) * seconds / samples
    return 1.0 / of_sample


def ends_of(kind: Kind, recipe: RecipeConfig) -> tuple[float, ...]:
    """Return the shares of a training's samples at which its steps may become faster or slower.

    They are the ends of the network's phases, of which what starts from another expert sees the
    last alone, and where patches and batches get another size; 1 is the last.
    """
    backbone, later = kind
    phases = phases_of(backbone) if later is None else ONE_PHASE
    stages = [stage.from_fraction for stage in recipe.progressive]
    return tuple(sorted({*(phase.until for phase in phases), *stages}))


def _timed(
    log: Mapping[str, Any], begin: float, end: float, *, after_first: bool = False
) -> tuple[int, float] | None:
    """Return how many samples of a part were timed, and the seconds; None for too few steps.

    Args:
        log: The log of a training.
        begin: Share of the samples at which the part begins.
        end: Share at which it ends.
        after_first: Whether the time between the first point and the second is left out, in which
            all is set up.
    """
    samples, seconds = log["curve"]["samples"], log["curve_s"]
    first, last = (math.ceil(share * samples[-1]) for share in (begin, end))
    # Times are those before the last step of a point, which may be of the part before.
    least = first + max((last - first) / 4, samples[0])
    points = list(zip(samples, seconds, strict=True))[int(after_first) :]
    inside = [own for own in points if least <= own[0] <= last]
    if len(inside) < 2:
        return None
    (seen, begun), (all_seen, ended) = inside[0], inside[-1]
    return all_seen - seen, max(ended - begun, 1e-9)


def kinds_of(config: CompareConfig) -> list[Kind]:
    """Return the networks whose speed `match=seconds` must know, the reference's first."""
    found: list[Kind] = [(config.experts.backbone, None)]
    for method in config.methods:
        experts = build_config(config, method, seed=config.seed).experts
        found.append((experts.backbone, None))
        if method.adapter is not None:
            found.append((experts.backbone, method.adapter))
        elif method.tree and experts.warm_start and phased(experts.backbone):
            found.append((experts.backbone, "child"))
    return list(dict.fromkeys(found))
