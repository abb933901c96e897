import dataclasses
from pathlib import Path

import pytest
import yaml

from expertree.config import load, to_dict
from expertree.pipeline.settings import BuildConfig
from expertree.search.settings import SearchConfig, demands, trial_config
from expertree.search.sharing import Demand, TotalNeeded, add_up
from expertree.search.space import Space
from expertree.search.space_file import read_space

SPACES = Path(__file__).parents[3] / "search_spaces"


def table8() -> tuple[SearchConfig, Space]:
    data = to_dict(SearchConfig())
    data["experts"]["samples_per_expert"] = 1000
    found = yaml.safe_load((SPACES / "paper_table8.yaml").read_text())
    return load(SearchConfig, data), read_space("paper_table8", found, BuildConfig)


def needed(config: SearchConfig, space: Space) -> TotalNeeded:
    trials = [space.overrides(values) for values in space.grid()]
    return add_up(demands(trial_config(config, own)) for own in trials)


def test_the_nine_shapes_of_table_8_need_31_experts_and_not_94() -> None:
    found = needed(*table8())
    assert (found.shared_experts, found.naive_experts) == (31, 94)
    assert (found.shared_samples, found.naive_samples) == (31_000, 94_000)


def test_nothing_but_the_root_is_shared_by_trees_that_are_cut_top_down() -> None:
    config, space = table8()
    space = dataclasses.replace(space, fixed={**space.fixed, "hierarchy.method": "kmeans"})
    found = needed(config, space)
    # {8} and {1, 8} are the same cut of everything, and so are those of {4, 8} and {1, 4, 8}.
    assert found.shared_experts == 1 + (2 + 4 + 8 + 16) + 8 + 16
    assert found.naive_experts == 94


def test_who_starts_from_a_parent_is_only_shared_by_trees_with_that_parent() -> None:
    config, space = table8()
    fixed = {**space.fixed, "experts.warm_start": True, "experts.start_from": "parent"}
    found = needed(config, dataclasses.replace(space, fixed=fixed))
    assert found.shared_experts > 31


def test_kinds_are_counted_once_with_their_largest_number() -> None:
    one = Demand(kind="a", count=2, num_samples=10)
    more = Demand(kind="a", count=3, num_samples=10)
    other = Demand(kind="b", count=1, num_samples=5)
    assert add_up([[one, other], [more]]) == TotalNeeded(
        naive_experts=6, shared_experts=4, naive_samples=55, shared_samples=35
    )


@pytest.mark.parametrize("levels", [(1,), (1, 8), (1, 4, 8)])
def test_a_tree_by_itself_needs_an_expert_a_group(levels: tuple[int, ...]) -> None:
    config, space = table8()
    own = demands(trial_config(config, {**space.fixed, "hierarchy.groups": list(levels)}))
    assert sum(demand.count for demand in own) == sum(levels)
