"""Spaces that would search something else than what their file says are refused, or mean it."""

from collections.abc import Sequence
from typing import Any

import pytest

from expertree.errors import ConfigError
from expertree.pipeline.settings import BuildConfig
from expertree.search.draws import OptunaDraws, RandomDraws
from expertree.search.settings import SearchConfig, trial_config
from expertree.search.setup import check_space
from expertree.search.space import Space
from expertree.search.space_file import read_space


def space(parameters: dict[str, Any], fixed: dict[str, Any] | None = None) -> Space:
    return read_space("mine", {"fixed": fixed or {}, "parameters": parameters}, BuildConfig)


class Extreme:
    """An Optuna trial that suggests the least or the largest of everything."""

    def __init__(self, last: bool) -> None:
        self._place = -1 if last else 0

    def suggest_categorical(self, _: str, choices: Sequence[Any]) -> Any:
        return choices[self._place]

    def suggest_int(self, _: str, low: int, high: int) -> int:
        return (low, high)[self._place]


@pytest.mark.parametrize(
    ("parameters", "fixed", "shapes"),
    [
        (
            {"hierarchy.groups[1]": {"int": [2, 6]}, "hierarchy.groups[2]": {"int": [4, 5]}},
            {},
            {(1, one, two) for one in (2, 3, 4) for two in (4, 5) if two > one},
        ),
        (
            {
                "hierarchy.groups[1]": {"choice": [2, 8]},
                "hierarchy.groups[2]": {"choice": [6, 4, 2]},
            },
            {},
            {(1, 2, 4), (1, 2, 6)},
        ),
        (
            {"hierarchy.groups[1]": {"int": [2, 9]}},
            {"hierarchy.groups[2]": 4},
            {(1, 2, 4), (1, 3, 4)},
        ),
        (
            {"hierarchy.groups[1]": {"int": [6, 9]}},
            {"hierarchy.groups": [1, 4, 8]},
            {(1, 6, 8), (1, 7, 8)},
        ),
        (  # 3 leads nowhere, between two that do
            {
                "hierarchy.groups[1]": {"int": [2, 4]},
                "hierarchy.groups[2]": {"int": [2, 3], "when": {"hierarchy.groups[1]": 3}},
            },
            {},
            {(1, 2), (1, 4)},
        ),
    ],
)
def test_draws_leave_room_for_the_levels_after_them(
    parameters: dict[str, Any], fixed: dict[str, Any], shapes: set[tuple[int, ...]]
) -> None:
    own = space(parameters, fixed)
    assert {tuple(own.overrides(one)["hierarchy.groups"]) for one in own.grid()} == shapes
    draws = [RandomDraws([0, number]) for number in range(60)]
    drawn = [
        own.draw(one) for one in (*draws, OptunaDraws(Extreme(False)), OptunaDraws(Extreme(True)))
    ]
    assert {tuple(own.overrides(one)["hierarchy.groups"]) for one in drawn} == shapes


def test_an_index_changes_one_entry_of_what_is_configured() -> None:
    config = SearchConfig()
    values = {
        "experts.num_samples[1]": 4000,
        "experts.backbone.encoder[0]": 3,
        "experts.recipe.betas[1]": 0.99,
    }
    own = space({key: {"choice": [value]} for key, value in values.items()})
    check_space(config, own)
    (trial,) = own.grid()
    experts = trial_config(config, own.overrides(trial)).experts
    before = config.experts
    assert experts.num_samples == (before.num_samples[0], 4000, before.num_samples[2])
    assert experts.recipe.betas == (before.recipe.betas[0], 0.99)
    assert experts.backbone.encoder == (3, *before.backbone.encoder[1:])  # type: ignore[attr-defined]


def test_an_index_beside_another_network_changes_what_that_one_has() -> None:
    own = space(
        {
            "experts.backbone.prompt_widths[1]": {"choice": [24]},
            "experts.backbone.name": {"choice": ["promptir"]},
        }
    )
    (trial,) = own.grid()
    usual = trial_config(SearchConfig(), {"experts.backbone.name": "promptir"}).experts.backbone
    found = trial_config(SearchConfig(), own.overrides(trial)).experts.backbone
    widths = usual.prompt_widths  # type: ignore[attr-defined]
    assert found.prompt_widths == (widths[0], 24, *widths[2:])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("experts.num_samples[4]", r"no entry of experts\.num_samples=\[9600, 3200, 3200\]"),
        ("router.alpha[0]", r"no entry of router\.alpha=0\.1; .* leave the index out"),
    ],
)
def test_an_entry_that_there_is_not_is_refused(key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_space(SearchConfig(), space({key: {"choice": [64]}}))


def test_fixed_levels_and_entries_are_like_drawn_ones() -> None:
    own = space(
        {
            "hierarchy.groups[2]": {"int": [5, 6], "when": {"tree.levels": 3}},
            "hierarchy.groups[3]": {"int": [7, 8], "when": {"tree.levels": 4}},
        },
        {"tree.levels": 3, "hierarchy.groups[1]": 4, "experts.samples_per_expert": 64},
    )
    found = [own.overrides(one)["hierarchy.groups"] for one in own.grid()]
    assert found == [[1, 4, 5], [1, 4, 6]]
    check_space(SearchConfig(), own)
    assert trial_config(SearchConfig(), own.overrides({})).hierarchy.groups == (1, 4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hierarchy.groups[2]": {"int": [7, 16]}}, r"give hierarchy\.groups\[1\] before it"),
        ({"hierarchy.groups[1]": {"uniform": [2, 6]}}, r"give int or a choice of whole numbers"),
        ({"hierarchy.groups": {"int": [2, 6]}}, r"a choice of lists of whole numbers"),
        (
            {
                "hierarchy.groups": {"choice": [[1], [1, 4]]},
                "router.alpha": {"choice": [1], "when": {"hierarchy.groups": [1, 4]}},
            },
            r"to be 1, but it is one of \[1\], \[1, 4\]; .* write \[\[\.\.\.\]\]",
        ),
        (
            {
                "tree.levels": {"choice": [2, 3]},
                "router.alpha": {"choice": [1], "when": {"tree.levels": 4}},
            },
            r"'tree\.levels' to be 4, but it is one of 2, 3",
        ),
        (
            {
                "experts.samples_per_expert": {"int": [64, 128]},
                "router.alpha": {"choice": [1], "when": {"experts.samples_per_expert": [64, 129]}},
            },
            r"to be 129, but it is a whole number from 64 to 128",
        ),
        (
            {
                "router.beta": {"uniform": [0, 1]},
                "router.alpha": {"choice": [1], "when": {"router.beta": 0.5}},
            },
            r"'router\.beta', which takes any number of a range",
        ),
    ],
)
def test_what_could_never_be_drawn_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space(parameters)


def test_samples_by_level_are_refused_where_each_expert_has_its_own() -> None:
    own = space(
        {"experts.num_samples[1]": {"int": [3200, 6400]}}, {"experts.samples_per_expert": 64}
    )
    with pytest.raises(ConfigError, match=r"num_samples\[1\], which does nothing beside"):
        check_space(SearchConfig(), own)
