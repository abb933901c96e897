"""What a search says before it starts."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from expertree.config import load, to_dict
from expertree.errors import ConfigError
from expertree.search.estimate import Rate, check_budget, describe_search, rate_of
from expertree.search.settings import SearchConfig, SearchSettings, open_space, trial_config
from expertree.storage import Storage
from expertree.training import LOG

SPACES = Path(__file__).parents[3] / "search_spaces"


def config(folder: Path, **search: Any) -> SearchConfig:
    return load(
        SearchConfig,
        {
            "store": str(folder / "store"),
            "output": str(folder / "out"),
            "search_space": "paper_table8",
            "search": {"searcher": "grid", **search},
            "experts": {
                "samples_per_expert": 800,
                "backbone": {"width": 4, "encoder": [1], "middle": 1, "decoder": [1]},
                "recipe": {"patch_px": 16},
            },
        },
    )


def test_the_plan_has_the_experts_of_all_trials_and_the_hours_with_and_without_sharing(
    tmp_path: Path,
) -> None:
    text = describe_search(config(tmp_path), SPACES)
    assert "paper_table8: 9 trials, 9 of them" in text
    assert "31 distinct at most, 94 if each trial trained its own" in text
    assert "24,800 at most, 75,200 without sharing" in text
    assert "CPU-hours at most" in text
    assert "to make: degrade" in text
    assert not (tmp_path / "out" / "search.json").exists()


def test_a_grid_is_searched_whole_unless_a_number_is_given_which_is_said(tmp_path: Path) -> None:
    (tmp_path / "wide.yaml").write_text("parameters: {router.num_epochs: {int: [1, 30]}}\n")
    whole = dataclasses.replace(config(tmp_path), search_space=str(tmp_path / "wide.yaml"))
    text = describe_search(whole, SPACES)
    assert "wide: 30 trials, 30 of them by search.searcher=grid" in text
    assert "leaves the last" not in text
    search = dataclasses.replace(whole.search, num_trials=24)
    text = describe_search(dataclasses.replace(whole, search=search), SPACES)
    assert "30 trials, 24 of them" in text
    assert "search.num_trials=24 leaves the last 6 out; null takes all" in text


@pytest.mark.parametrize(
    ("searcher", "given", "size", "most"),
    [
        *(("grid", None, 30, 30), ("grid", 24, 30, 24), ("grid", 24, 9, 9)),
        *(("random", None, 9, 24), ("optuna", None, None, 24), ("optuna", 7, 9, 7)),
    ],
)
def test_the_number_of_trials_is_that_of_the_grid_or_a_usual_one(
    searcher: str, given: int | None, size: int | None, most: int
) -> None:
    own = load(SearchSettings, {"searcher": searcher, "num_trials": given})
    assert own.most_trials(size) == most


def test_a_budget_that_does_not_train_one_expert_is_refused(tmp_path: Path) -> None:
    own = config(tmp_path, budget_hours=0.01)
    space = open_space("paper_table8", SPACES)
    with pytest.raises(ConfigError, match=r"budget_hours=0.01 is less than the root alone takes"):
        check_budget(own, space, Rate(samples_per_s=1.0, source="a guess"))
    check_budget(own, space, Rate(samples_per_s=100.0, source="a guess"))


def test_a_space_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'granulartiy' is none of adaptive, granularity"):
        open_space("granulartiy", SPACES)
    with pytest.raises(ConfigError, match=r"there is no file .*mine.yaml"):
        open_space(str(tmp_path / "mine.yaml"), SPACES)
    (tmp_path / "broken.yaml").write_text("parameters: {")
    with pytest.raises(ConfigError, match=r"broken.yaml is not YAML"):
        open_space(str(tmp_path / "broken.yaml"), SPACES)


def test_the_speed_of_stored_experts_of_the_same_network_is_taken(tmp_path: Path) -> None:
    own = trial_config(config(tmp_path), {})
    expert = Storage.open(tmp_path / "store").sub("expert").sub("a")
    expert.write_json(LOG, {"samples_per_s": 7.0})
    recipe = to_dict(own.experts.recipe)
    expert.commit({"backbone": dataclasses.asdict(own.experts.backbone), "recipe": recipe})
    assert rate_of(own) == Rate(samples_per_s=7.0, source="the speed of experts in the store")
