"""What each method gets: the arithmetic of equal cost, and which trainings are one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from expertree.comparison.matching import (
    cost_of_sample,
    ends_of,
    kinds_of,
    matched,
    steady_speed,
    total_cost,
    units_of,
)
from expertree.comparison.methods import METHODS, MethodConfig
from expertree.comparison.settings import CompareConfig, build_config
from expertree.config import load
from expertree.errors import ConfigError
from expertree.experts import AdapterConfig, RecipeConfig
from expertree.experts.backbones import backbone_config, chooses, describe_backbone, phases_of
from expertree.experts.recipe import PatchStage
from expertree.hierarchy import HierarchyConfig, Tree, build_tree
from expertree.pipeline.dry_run import multiply_adds

TREE = {"hierarchy": {"groups": [1, 4]}, "experts": {"num_samples": [16, 8]}}


def config(**more: Any) -> CompareConfig:
    return load(CompareConfig, {**TREE, "samples": 4800, **more})


def tree_of(groups: tuple[int, ...]) -> Tree:
    rng = np.random.default_rng(0)
    points = np.repeat(5 * rng.normal(size=(4, 8)), 20, axis=0)
    points = (points + 0.1 * rng.normal(size=points.shape)).astype(np.float32)
    return build_tree(points, HierarchyConfig(groups=groups), extractor="x")[0]


def samples_of(settings: CompareConfig, method: MethodConfig, rates=None) -> list[int]:
    """The samples of each network of a method."""
    usual = build_config(settings, method, seed=0)
    tree = tree_of(usual.hierarchy.groups)
    cost = cost_of_sample(settings.match, settings.experts.recipe, rates or {})
    given = matched(settings, usual, tree, cost)
    own = build_config(settings, method, seed=0, num_samples=given)
    return [unit.num_samples for unit in units_of(own, tree)]


def test_the_experts_of_a_tree_share_the_samples_of_one_network() -> None:
    # 16 + 4 * 8 = 48 parts of 4800 samples.
    assert samples_of(config(), METHODS["tree"]) == [1600, 800, 800, 800, 800]
    assert samples_of(config(), METHODS["one_network"]) == [4800]
    assert samples_of(config(), METHODS["adair"]) == [4800]


def test_equal_multiply_adds_are_samples_over_the_cost_of_one() -> None:
    settings = config(match="multiply_adds")
    small, large = settings.experts.backbone, METHODS["moce_ir"].backbone
    recipe = settings.experts.recipe
    ratio = multiply_adds(small, recipe) / multiply_adds(large, recipe)
    expected = (
        describe_backbone(small).multiply_adds_512 / describe_backbone(large).multiply_adds_512
    )
    assert ratio == pytest.approx(expected)
    assert samples_of(settings, METHODS["moce_ir"]) == [round(4800 * ratio)]
    assert sum(samples_of(settings, METHODS["tree"])) == 4800


def test_equal_seconds_take_the_measured_speeds() -> None:
    settings = config(match="seconds", methods=["tree_lora", "one_network", "adair"])
    network, adair = settings.experts.backbone, METHODS["adair"].backbone
    adapter = AdapterConfig()
    assert kinds_of(settings) == [(network, None), (network, adapter), (adair, None)]
    rates = {(network, None): 40.0, (network, adapter): 20.0, (adair, None): 10.0}
    assert samples_of(settings, METHODS["adair"], rates) == [1200]
    # An adapter costs two samples of a whole network: 16 + 4 * 8 * 2 = 80 parts of 4800.
    assert samples_of(settings, METHODS["tree_lora"], rates) == [960, 480, 480, 480, 480]


def test_children_of_a_network_with_phases_have_a_speed_of_their_own() -> None:
    phased = {"name": "tree of SLER-IR", "tree": True, "backbone": {"name": "sler_ir_small"}}
    settings = config(match="seconds", methods=["tree", phased])
    usual, sler = settings.experts.backbone, settings.methods[1].backbone
    assert sler is not None
    assert kinds_of(settings) == [(usual, None), (sler, None), (sler, "child")]
    rates = {(usual, None): 40.0, (sler, None): 10.0, (sler, "child"): 20.0}
    # 16 parts at 4 times the budget's cost and 4 * 8 at twice of it: 128 parts of 4800.
    assert samples_of(settings, settings.methods[1], rates) == [600, 300, 300, 300, 300]
    cold = config(
        match="seconds", methods=[phased], experts={**TREE["experts"], "warm_start": False}
    )
    assert kinds_of(cold) == [(usual, None), (sler, None)]


def test_what_methods_cost_is_the_sum_over_their_networks() -> None:
    settings = config()
    units = units_of(build_config(settings, METHODS["tree"], seed=0), tree_of((1, 4)))
    assert total_cost(units, lambda _: 2.0) == 2.0 * (16 + 4 * 8)


def test_a_budget_below_a_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least one batch \(4\); raise samples"):
        samples_of(config(samples=12), METHODS["tree"])


def test_a_rate_scales_both_optimisers_and_the_usual_one_changes_nothing() -> None:
    settings = config()
    usual = settings.experts.recipe
    assert build_config(settings, METHODS["one_network"], seed=3).experts.recipe == usual
    halved = build_config(settings, METHODS["one_network"], seed=3, factor=0.5)
    assert halved.seed == 3
    assert halved.experts.recipe.learning_rate == usual.learning_rate / 2
    assert halved.experts.recipe.matrix_learning_rate == usual.matrix_learning_rate / 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": ["tre"]}, "there is no method 'tre'; there are tree,"),
        ({"methods": ["tree", "tree"]}, "different names"),
        ({"methods": ["tree", {"name": "Tree!", "rate": 2.0}]}, "different names"),
        ({"methods": [{"name": "a", "told": True}]}, "takes sentences"),
        ({"methods": [{"name": "a", "choice": "nearest"}]}, "only a tree"),
        ({"methods": [{"name": "a", "backbon": None}]}, r"did you mean 'methods.0.backbone'"),
        (
            {
                "methods": [
                    {"name": "a", "tree": True, "adapter": {}, "backbone": {"name": "lora_ir"}}
                ]
            },
            "has low-rank experts of its own",
        ),
        (
            {"methods": [{"name": "a", "backbone": {"name": "sler_ir", "embed_dim": 64}}]},
            "embeddings of length 64",
        ),
        ({"seeds": [1, 1]}, "seeds must be different"),
        ({"rates": [0.0]}, "rates must be positive"),
        ({"samples": 1}, "samples must be at least one batch"),
    ],
)
def test_what_cannot_be_compared_is_said(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**wrong)


def test_networks_that_choose_are_known_without_weights() -> None:
    choosing = {name for name, own in METHODS.items() if own.backbone and chooses(own.backbone)}
    assert choosing == {"moce_ir", "moce_ir_output", "sler_ir", "lora_ir"}


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("nafnet", 1.0),
        ("adair_small", 1.0),
        # The restorer and the first block of the encoder: 23,085 of 71,133.
        ("airnet_small", 23_085 / 71_133),
        # One expert of four in each decoder block, the largest.
        ("moce_ir_small", 362_400 / 377_376),
    ],
)
def test_active_parameters_are_those_of_the_layers_that_run(name: str, active: float) -> None:
    told = describe_backbone(backbone_config(name))
    assert told.num_active_parameters / told.num_parameters == pytest.approx(active)


def test_speeds_are_those_of_trainings_that_have_warmed_up() -> None:
    log = {"curve": {"samples": [4, 8, 12, 16]}, "curve_s": [0.0, 5.0, 6.0, 7.0]}
    assert steady_speed({**log, "samples_per_s": 1.6}) == 12 / 7.0
    later = {"curve": {"samples": [8, 32, 56]}, "curve_s": [3.0, 4.0, 6.0], "samples_per_s": 7.0}
    assert steady_speed(later) == 24 / 2.0
    one = {"curve": {"samples": [4]}, "curve_s": [0.0], "samples_per_s": 2.5}
    assert steady_speed(one) == 2.5


def log_of(
    seconds_of_step: Callable[[int], float],
    *,
    steps: int = 96,
    start_s: float = 0.0,
    batch_size: int = 4,
) -> Any:
    """The log of a training of some samples a step whose first step sets up for a while."""
    taken = [start_s * (step == 0) + seconds_of_step(batch_size * step) for step in range(steps)]
    begun = [sum(taken[:step]) for step in range(steps)]
    seen = [batch_size * (step + 1) for step in range(steps)]
    return {"curve": {"samples": seen}, "curve_s": begun, "samples_per_s": seen[-1] / sum(taken)}


@pytest.mark.parametrize("name", ["sler_ir_small", "airnet_small", "lora_ir_small"])
@pytest.mark.parametrize("cost", [0.25, 4.0])
def test_a_first_phase_counts_by_its_share_however_fast_it_is(name: str, cost: float) -> None:
    ends = ends_of((backbone_config(name), None), RecipeConfig())
    assert ends == tuple(phase.until for phase in phases_of(backbone_config(name)))

    def seconds(seen: int) -> float:
        return 0.1 * (cost if seen < ends[0] * 384 else 1.0)

    expected = 4.0 / (0.1 * (ends[0] * cost + 1.0 - ends[0]))
    assert steady_speed(log_of(seconds, start_s=5.0), ends) == pytest.approx(expected, rel=1e-6)
    assert steady_speed(log_of(seconds, start_s=5.0)) == pytest.approx(40.0)  # without its phases


@pytest.mark.parametrize("batch_size", [4, 8, 16, 32])
@pytest.mark.parametrize("first", [0.05, 0.1, 0.16])
def test_what_is_set_up_with_the_first_step_is_in_no_speed_of_a_short_first_phase(
    first: float, batch_size: int
) -> None:
    log = log_of(lambda _: 0.1, steps=384 // batch_size, start_s=5.0, batch_size=batch_size)
    assert steady_speed(log, (first, 0.68, 1.0)) == pytest.approx(10.0 * batch_size)


def test_a_phase_of_a_step_is_taken_to_be_as_fast_as_the_rest() -> None:
    found = steady_speed(log_of(lambda _: 0.1, steps=8, start_s=5.0), (0.05, 0.68, 1.0))
    assert found == pytest.approx(40.0)


def test_an_adapter_has_one_phase_and_larger_patches_are_timed_by_themselves() -> None:
    network = backbone_config("sler_ir_small")
    stages = (PatchStage(from_fraction=0.5, patch_px=96, batch_size=2),)
    recipe = RecipeConfig(progressive=stages)
    assert ends_of((network, None), recipe) == (0.16, 0.5, 1.0)
    assert ends_of((network, AdapterConfig()), recipe) == (0.5, 1.0)
    assert ends_of((network, "child"), recipe) == (0.5, 1.0)
    assert ends_of((backbone_config("nafnet"), None), RecipeConfig()) == (1.0,)
