"""How many samples each method gets, so that all of them cost the same.

The budget is what one network like `experts.backbone` costs on `samples` samples. A method costs
the sum over its networks of their samples times the cost of one, so that a tree's experts share the
budget that one network has alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from expertree.comparison.settings import CompareConfig, Match, build_config, proportions
from expertree.experts import AdapterConfig, RecipeConfig
from expertree.experts.backbones import BackboneConfig
from expertree.hierarchy import Tree
from expertree.pipeline.dry_run import multiply_adds
from expertree.pipeline.networks import NetworkChoice, choose_networks
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.units import Unit, units_of_tree

Kind: TypeAlias = tuple[BackboneConfig, AdapterConfig | None]
"""What the cost of a sample depends on: a network, whole or as an adapter."""

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
    return network.backbone, network.adapter


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


def steady_speed(log: Mapping[str, Any]) -> float:
    """Return the samples a second of a training, by its `log.json`, once it has warmed up.

    The first quarter is left out: what a process imports and sets up with its first steps costs
    a network the more, the faster it is.
    """
    samples, seconds = log["curve"]["samples"], log["curve_s"]
    first = next(place for place, seen in enumerate(samples) if 4 * seen >= samples[-1])
    if first == len(samples) - 1:
        return float(log["samples_per_s"])
    return float((samples[-1] - samples[first]) / max(seconds[-1] - seconds[first], 1e-9))


def kinds_of(config: CompareConfig) -> list[Kind]:
    """Return the networks whose speed `match=seconds` must know, the reference's first."""
    found: list[Kind] = [(config.experts.backbone, None)]
    for method in config.methods:
        backbone = build_config(config, method, seed=config.seed).experts.backbone
        found += [(backbone, None), *([(backbone, method.adapter)] if method.adapter else [])]
    return list(dict.fromkeys(found))
