"""What a search takes from a build's configuration, and what is its own."""

from expertree.config import to_dict
from expertree.orchestration.search_settings import SearchConfig, base_of, trial_config


def test_a_search_has_the_cheaper_comparison_unless_it_is_told_otherwise() -> None:
    config = SearchConfig()
    assert trial_config(config, {}).experts.comparisons == ("path",)
    told = trial_config(config, {"experts.comparisons": ["path", "tree"]})
    assert told.experts.comparisons == ("path", "tree")


def test_what_trials_have_in_common_is_a_builds_configuration() -> None:
    config = SearchConfig()
    assert set(to_dict(config)) - set(base_of(config)) == {"search_space", "search"}
