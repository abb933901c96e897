import shlex

import pytest
import yaml

from expertree.config import load, to_dict
from expertree.pipeline.settings import BuildConfig
from expertree.search.best import build_command, difference
from expertree.search.space import apply


def test_the_best_trees_configuration_says_what_differs_and_nothing_else() -> None:
    defaults = to_dict(BuildConfig())
    overrides = {"hierarchy.groups": [4, 8], "experts.samples_per_expert": 64, "router.alpha": 0.5}
    config = load(BuildConfig, apply(BuildConfig, defaults, overrides))
    found = difference(to_dict(config), defaults)
    assert found == {
        "hierarchy": {"groups": [4, 8]},
        "experts": {"samples_per_expert": 64},
        "router": {"alpha": 0.5},
    }
    assert yaml.safe_load(yaml.safe_dump(found)) == found


@pytest.mark.parametrize("output", ["runs/my search", "s3://bucket/search?region=a&scheme=http"])
def test_the_command_for_the_best_tree_is_one_that_a_shell_takes(output: str) -> None:
    words = ["expertree", "build", "--config-dir", output, "--config-name", "best"]
    assert shlex.split(build_command(output)) == words
    assert build_command("runs/search").startswith("expertree build --config-dir runs/search ")


def test_a_section_that_was_opened_is_written_whole() -> None:
    defaults = to_dict(BuildConfig())
    config = load(BuildConfig, apply(BuildConfig, defaults, {"experts.adapter.rank": 4}))
    (adapter,) = difference(to_dict(config), defaults)["experts"].values()
    assert adapter["rank"] == 4


def test_a_network_of_another_name_is_written_whole() -> None:
    defaults = to_dict(BuildConfig())
    for name in ("nafnet", "retinexformer"):
        overrides = {"experts.backbone.name": name, "experts.backbone.width": 16}
        config = load(BuildConfig, apply(BuildConfig, defaults, overrides))
        found = difference(to_dict(config), defaults)
        assert load(BuildConfig, found) == config
    assert found["experts"]["backbone"]["width"] == 16
