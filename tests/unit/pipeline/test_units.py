"""The samples that each network of a tree sees."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from expertree.config import load
from expertree.errors import ConfigError
from expertree.hierarchy import ROOT, HierarchyConfig, Tree, build_tree
from expertree.pipeline.networks import NetworkChoice, choose_networks
from expertree.pipeline.settings import ExpertsConfig
from expertree.pipeline.units import units_compared, units_of_tree

BY_LEVEL = (9600, 3200, 1600)


@pytest.fixture(scope="module")
def tree() -> Tree:
    rng = np.random.default_rng(0)
    points = np.repeat(5 * rng.normal(size=(6, 8)), 40, axis=0)
    points += 0.1 * rng.normal(size=points.shape)
    shape = HierarchyConfig(groups=(1, 3, 6), metric="l2")
    return build_tree(points.astype(np.float32), shape, extractor="x")[0]


def samples_of(tree: Tree, networks: Mapping[int, NetworkChoice] | None = None, **experts: Any):
    config = load(ExpertsConfig, {"num_samples": BY_LEVEL, **experts})
    units = units_of_tree(config, tree, networks or choose_networks(config, tree, {}))
    return {unit.role: unit.num_samples for unit in units}


def own_levels(tree: Tree, node: int) -> int:
    return sum(BY_LEVEL[level] for level in tree.levels_of_expert(node))


def test_as_many_samples_stand_behind_what_starts_from_the_root_as_from_a_parent(
    tree: Tree,
) -> None:
    found = samples_of(tree, start_from="root")
    assert found[ROOT] == BY_LEVEL[0]
    for node, num_samples in found.items():
        path = range(max(tree.levels_of_expert(node)) + 1)
        behind = 0 if node == ROOT else found[ROOT]
        assert behind + num_samples == sum(BY_LEVEL[level] for level in path)


def test_what_starts_from_no_root_sees_the_samples_of_its_own_levels(tree: Tree) -> None:
    cold = samples_of(tree, start_from="root", warm_start=False)
    assert cold == {node: own_levels(tree, node) for node in tree.experts()}
    leaf = tree.experts()[-1]
    other = [{"nodes": [leaf], "backbone": {"name": "promptir"}}]
    mixed = samples_of(tree, start_from="root", rules=other)
    assert mixed[leaf] == own_levels(tree, leaf)


def test_a_rule_may_give_a_node_samples_of_its_own_number(tree: Tree) -> None:
    leaf, other = tree.experts()[-1], tree.experts()[-2]
    for experts in ({}, {"start_from": "root"}, {"samples_per_expert": 40}):
        usual = samples_of(tree, **experts)
        found = samples_of(tree, rules=[{"nodes": [leaf], "num_samples": 999}], **experts)
        assert found == usual | {leaf: 999}
        assert found[other] != 999
    with pytest.raises(ConfigError, match=r"of a rule must be at least one batch \(4\), got 3"):
        load(ExpertsConfig, {"rules": [{"nodes": [leaf], "num_samples": 3}]})


def test_what_starts_from_the_leaf_beside_it_sees_the_samples_of_its_own_levels(
    tree: Tree,
) -> None:
    """A leaf of a grown tree."""
    beside, leaf = tree.experts()[-2:]
    config = load(ExpertsConfig, {})
    network = NetworkChoice(
        backbone=config.backbone, parent=beside, file=None, adapter=None, start="the leaf beside"
    )
    found = samples_of(tree, {leaf: network}, start_from="root")
    assert found == {leaf: own_levels(tree, leaf)}


def test_a_comparison_has_batches_of_its_own(tree: Tree) -> None:
    rows = [{"name": "usual"}, {"name": "large", "batch_size": 16}]
    config = load(ExpertsConfig, {"num_samples": BY_LEVEL, "comparisons": rows})
    root = choose_networks(config, tree, {})[ROOT]
    found = {unit.role: unit.batch_size for unit in units_compared(config, tree, root, 100)}
    assert found == {"usual": None, "large": 16}
    with pytest.raises(ConfigError, match="batch_size of one must be at least 1: 0"):
        load(ExpertsConfig, {"comparisons": [{"name": "one", "batch_size": 0}]})
