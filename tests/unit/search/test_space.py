from pathlib import Path
from typing import Any

import pytest
import yaml

from expertree.cli.composing import CONF, compose
from expertree.config import load, to_dict
from expertree.errors import ConfigError
from expertree.experts.backbones import BackboneConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.backbones.restormer import RestormerConfig
from expertree.pipeline.settings import BuildConfig
from expertree.search.draws import RandomDraws
from expertree.search.settings import SearchConfig, check_trials, open_space, trial_config
from expertree.search.setup import check_space
from expertree.search.space import SPACES, Space, apply, flatten
from expertree.search.space_file import read_space


def space(parameters: dict[str, Any], fixed: dict[str, Any] | None = None) -> Space:
    return read_space("mine", {"fixed": fixed or {}, "parameters": parameters}, BuildConfig)


TWO_OR_THREE = {
    "tree.levels": {"choice": [2, 3]},
    "hierarchy.groups[1]": {"int": [2, 4]},
    "hierarchy.groups[2]": {"int": [3, 5], "when": {"tree.levels": 3}},
}


def test_a_level_has_groups_only_where_it_exists_and_more_than_the_one_before() -> None:
    own = space(TWO_OR_THREE)
    shapes = {tuple(own.overrides(values)["hierarchy.groups"]) for values in own.grid()}
    two = {(1, k) for k in (2, 3, 4)}
    three = {(1, k, m) for k in (2, 3, 4) for m in (3, 4, 5) if m > k}
    assert shapes == two | three
    assert own.size() == len(shapes)
    assert own.most_groups() == 5


def test_random_draws_stay_in_the_space_and_repeat_by_seed() -> None:
    own = space(TWO_OR_THREE)
    grid = list(own.grid())
    for number in range(50):
        values = own.draw(RandomDraws([7, number]))
        assert values in grid
        assert values == own.draw(RandomDraws([7, number]))


def test_a_range_of_numbers_has_no_size_and_no_grid() -> None:
    own = space({"router.alpha": {"log_uniform": [0.01, 1.0]}})
    assert own.size() is None
    assert 0.01 <= own.draw(RandomDraws([0]))["router.alpha"] <= 1.0
    with pytest.raises(ConfigError, match=r"router.alpha takes any number.*search.searcher"):
        list(own.grid())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"router.alhpa": {"choice": [1]}}, r"'router.alhpa'; did you mean 'router.alpha'"),
        ({"hierarchy.gruops[1]": {"int": [2, 3]}}, r"did you mean 'hierarchy.groups'"),
        ({"photographs.source": {"choice": ["a"]}}, r"trials may differ in hierarchy"),
        ({}, r"is empty"),
        ({"router.alpha": {"choice": []}}, r"not empty"),
        ({"router.alpha": {"uniform": [2, 1]}}, r"is empty: uniform goes from 2 to 1"),
        ({"router.alpha": {"log_uniform": [0, 1]}}, r"must begin above 0"),
        ({"router.alpha": {"normal": [0, 1]}}, r"must have one of choice, int, uniform"),
        (
            {"router.alpha": {"choice": [1], "when": {"router.beta": 2}}},
            r"'router.beta', which is no parameter before it",
        ),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_in_a_sentence(
    parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        space(parameters)


def test_levels_that_cannot_grow_are_impossible() -> None:
    own = space({"hierarchy.groups[1]": {"int": [6, 6]}, "hierarchy.groups[2]": {"int": [2, 4]}})
    assert own.size() == 0
    with pytest.raises(ConfigError, match=r"impossible.*more than the one before"):
        own.draw(RandomDraws([0]))


def test_more_groups_than_samples_are_refused_before_anything_starts() -> None:
    config = SearchConfig()
    with pytest.raises(ConfigError, match=r"impossible trial.*groups.*num_train"):
        check_trials(config, [{"hierarchy.groups": [1, 100_000], "experts.samples_per_expert": 64}])


def test_a_trial_is_flat_scalars_to_whoever_looks_at_it() -> None:
    overrides = {"hierarchy.groups": [1, 4], "router.alpha": 0.1, "experts.adapter": {"rank": 8}}
    assert flatten(overrides, num_experts=5) == {
        "tree.levels": 2,
        "tree.k1": 1,
        "tree.k2": 4,
        "tree.num_experts": 5,
        "router.alpha": 0.1,
        "experts.adapter": '{"rank":8}',
    }


def test_others_are_told_what_is_drawn_by_the_names_that_trials_have() -> None:
    own = space(
        {
            "hierarchy.groups[1]": {"int": [2, 6]},
            "router.alpha": {"log_uniform": [0.01, 1]},
            "hierarchy.method": {"choice": ["kmeans", "bisecting"]},
        }
    )
    assert own.ranges() == {
        "tree.k2": {"min": 2, "max": 6},
        "router.alpha": {"min": 0.01, "max": 1.0, "distribution": "log_uniform_values"},
        "hierarchy.method": {"values": ["kmeans", "bisecting"]},
    }
    shapes = space({"hierarchy.groups": {"choice": [[1, 4], [1, 4, 8]]}})
    assert shapes.ranges() == {"tree.shape": {"values": ["{1, 4}", "{1, 4, 8}"]}}


def test_overrides_open_sections_that_are_null_and_leave_the_base_alone() -> None:
    base = {"experts": {"adapter": None}, "router": {"alpha": 1.0}}
    changed = apply(BuildConfig, base, {"experts.adapter.rank": 4, "router.alpha": 0.5})
    assert changed["experts"]["adapter"]["rank"] == 4
    assert changed["router"]["alpha"] == 0.5
    assert base == {"experts": {"adapter": None}, "router": {"alpha": 1.0}}


def test_a_trial_may_have_another_network_or_another_size() -> None:
    base = to_dict(BuildConfig()) | {"output": "x"}
    base["experts"]["backbone"]["width"] = 8

    def network(**changed: object) -> BackboneConfig:
        overrides = {f"experts.backbone.{key}": value for key, value in changed.items()}
        return load(BuildConfig, apply(BuildConfig, base, overrides)).experts.backbone

    assert network(middle=2) == NAFNetConfig(width=8, middle=2)
    assert network(heads=None, name="restormer") == RestormerConfig()
    assert network(width=24, name="restormer") == RestormerConfig(width=24)
    assert base["experts"]["backbone"]["name"] == "nafnet"


def test_a_size_that_a_trials_network_does_not_have_is_refused_before_the_start() -> None:
    own = space({"experts.backbone.widht": {"choice": [8, 16]}})
    with pytest.raises(ConfigError, match=r"impossible trial.*no 'widht'; did you mean 'width'"):
        check_space(SearchConfig(), own)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_space_that_comes_along_is_valid_and_its_trials_can_be(path: Path) -> None:
    own = read_space(path.stem, yaml.safe_load(path.read_text()), BuildConfig)
    config = to_dict(SearchConfig())
    for section, values in yaml.safe_load((CONF / "search.yaml").read_text()).items():
        if section in config:
            config[section] |= values
    draws = [own.draw(RandomDraws([number])) for number in range(20)]
    check_trials(load(SearchConfig, config), [own.overrides(values) for values in draws])


def test_a_search_over_methods_has_networks_of_other_papers_as_experts_and_alone() -> None:
    config = compose(SearchConfig, ["search_space=methods"], verb="search", config_name="search")
    assert config is not None
    own = open_space("methods", SPACES)
    check_space(config, own)
    trials = [own.overrides(own.draw(RandomDraws([0, number]))) for number in range(60)]
    builds = [trial_config(config, trial) for trial in trials]
    names = {build.experts.backbone.name for build in builds}
    assert names == {"nafnet", "adair", "moce_ir", "airnet", "sler_ir", "lora_ir"}
    assert {build.hierarchy.groups for build in builds} == {(1,), (1, 4), (1, 4, 8)}
    widths = {b.experts.backbone.width for b in builds if b.experts.backbone.name == "nafnet"}
    assert widths == {12, 16, 20}
    gates = {b.experts.backbone.gate for b in builds if b.experts.backbone.name == "moce_ir"}
    assert gates == {"query", "output"}
