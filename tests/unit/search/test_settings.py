"""What a search takes from a build's configuration, and what is its own."""

from expertree.config import to_dict
from expertree.pipeline.settings import SAMPLES_OF_A_PATH, Comparison
from expertree.search.settings import SearchConfig, base_of, trial_config


def test_a_search_has_the_cheaper_comparison_unless_it_is_told_otherwise() -> None:
    config = SearchConfig()
    assert trial_config(config, {}).experts.comparisons == (SAMPLES_OF_A_PATH,)
    told = trial_config(config, {"experts.comparisons": [{"name": "other", "num_samples": 9}]})
    assert told.experts.comparisons == (Comparison(name="other", num_samples=9),)


def test_what_trials_have_in_common_is_a_builds_configuration() -> None:
    config = SearchConfig()
    assert set(to_dict(config)) - set(base_of(config)) == {"search_space", "search"}
