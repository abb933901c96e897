"""The comparisons that come with the package: composed, and said what they take."""

import dataclasses
from pathlib import Path

import pytest

from expertree.cli.composing import compose
from expertree.comparison.dry_run import describe_comparison
from expertree.comparison.methods import METHODS
from expertree.comparison.settings import CompareConfig, build_config
from expertree.pipeline.settings import BuildConfig


def composed(*arguments: str) -> CompareConfig:
    found = compose(CompareConfig, arguments, verb="compare", config_name="compare")
    assert found is not None
    return found


def test_the_demo_says_what_it_takes_and_makes_nothing(tmp_path: Path) -> None:
    places = (f"store={tmp_path}/store", f"output={tmp_path}/out", "cluster.runner=local")
    lines = describe_comparison(composed("experiment=compare_demo", *places)).splitlines()
    assert lines[1].startswith("methods  7, seeds 0, 1; as many samples each")
    assert sum("960 samples a seed" in line for line in lines) == 7
    assert any("MoCE-IR, gate on output" in line for line in lines)
    assert lines[-2:] == [
        "to make  degrade, and what follows from it",
        "networks which they are is known once the tree is there",
    ]
    assert not any((tmp_path / "store").glob("*"))


def test_the_larger_one_has_every_method_but_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EXPERTREE_DATA", str(tmp_path))
    found = composed("experiment=compare_small")
    names = {method.name for method in found.methods}
    assert names == {method.name for method in METHODS.values()} - {"NAFNet"}
    assert (found.match, found.rates) == ("seconds", (0.5, 1.0, 2.0))
    assert "EXPERTREE_DATA" not in found.photographs.source


def test_a_method_of_ones_own_is_given_on_the_command_line() -> None:
    found = composed(
        "methods=[tree,{name: mine, rate: 0.5, backbone: {name: moce_ir_s, gate: output}}]",
        "experts.backbone.name=restormer",
    )
    mine = found.methods[1]
    assert mine.backbone is not None
    assert (mine.backbone.name, mine.rate) == ("moce_ir", 0.5)
    own = build_config(found, found.methods[0], seed=5)
    assert type(own) is BuildConfig
    assert (own.seed, own.experts.backbone.name) == (5, "restormer")
    assert {field.name for field in dataclasses.fields(BuildConfig)} <= {
        field.name for field in dataclasses.fields(CompareConfig)
    }
