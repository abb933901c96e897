"""Rules give nodes their networks and beginnings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from expertree.config import load
from expertree.errors import ArtefactError, ConfigError
from expertree.experts import AdapterConfig
from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.hierarchy import HierarchyConfig, Tree, build_tree
from expertree.pipeline.networks import check_weights, choose_networks
from expertree.pipeline.settings import BuildConfig, ExpertsConfig

DARK = {"degradation": "low_light", "backbone": {"name": "retinexformer"}}


@pytest.fixture(scope="module")
def tree() -> Tree:
    """Groups 1, 2, 4: nodes 1 and 2 have two leaves each, 3 to 6."""
    rng = np.random.default_rng(0)
    centres = np.repeat(np.array([[0, 0], [0, 3], [30, 0], [30, 3]]), 20, axis=0)
    points = (centres + 0.1 * rng.normal(size=(80, 2))).astype(np.float32)
    tree = build_tree(points, HierarchyConfig(groups=(1, 2, 4)), extractor="x")[0]
    assert [node.parent for node in tree.nodes] == [None, 0, 0, 1, 1, 2, 2]
    return tree


SHARES = {
    0: {"low_light": 0.3, "mixed": 0.7},
    1: {"low_light": 0.5, "mixed": 0.5},
    2: {"mixed": 1.0},
    3: {"low_light": 0.9, "noise": 0.1},
    4: {"low_light": 0.1, "mixed": 0.9},
    5: {"noise": 0.2, "mixed": 0.8},
    6: {},
}


def choose(tree: Tree, **experts: object):
    return choose_networks(load(ExpertsConfig, experts), tree, SHARES)


def test_without_rules_every_expert_starts_from_its_parent(tree: Tree) -> None:
    chosen = choose(tree)
    assert {node: choice.parent for node, choice in chosen.items()} == {
        node.index: node.parent for node in tree.nodes
    }
    assert {choice.backbone for choice in chosen.values()} == {NAFNetConfig()}
    assert chosen[0].start == "random weights"
    assert chosen[3].start == "its parent's weights"


def test_nodes_in_which_a_degradation_dominates_have_their_own_network(tree: Tree) -> None:
    chosen = choose(tree, rules=[DARK])
    assert [n for n, c in chosen.items() if c.backbone.name == "retinexformer"] == [1, 3]
    stricter = choose(tree, rules=[DARK | {"min_share": 0.6}])
    assert [n for n, c in stricter.items() if c.backbone.name == "retinexformer"] == [3]


def test_another_network_than_the_parents_starts_from_scratch_and_says_so(tree: Tree) -> None:
    chosen = choose(tree, rules=[DARK])
    assert chosen[1].parent is None
    scratch = "random weights, because its parent is another network"
    assert chosen[1].start == f"{scratch} (nafnet)"
    assert chosen[3].parent == 1
    assert (
        chosen[4].start == "random weights, because its parent is another network (retinexformer)"
    )
    assert chosen[5].parent == 2


def test_another_size_of_the_same_kind_is_another_network(tree: Tree) -> None:
    chosen = choose(tree, rules=[{"nodes": [2], "backbone": {"width": 32}}])
    assert chosen[2].backbone.width == 32
    assert chosen[2].parent is None
    assert chosen[5].parent is None


def test_the_first_rule_that_fits_holds(tree: Tree) -> None:
    rules = [{"nodes": [3], "backbone": {"name": "lite_restormer"}}, DARK]
    names = {node: choice.backbone.name for node, choice in choose(tree, rules=rules).items()}
    assert (names[1], names[3]) == ("retinexformer", "restormer")


def test_a_rule_may_give_a_node_its_beginning(tree: Tree) -> None:
    chosen = choose(tree, rules=[{"nodes": [4], "init": "/weights/dark.pth"}])
    assert (chosen[4].parent, chosen[4].file) == (None, "/weights/dark.pth")
    assert chosen[4].start == "published weights (dark.pth)"
    assert [n for n, c in chosen.items() if c.file] == [4]


def test_usual_weights_are_for_the_usual_network_alone(tree: Tree) -> None:
    chosen = choose(tree, rules=[DARK], init="/weights/nafnet.pth")
    assert [n for n, c in chosen.items() if c.file == "/weights/nafnet.pth"] == [0, 4]
    assert chosen[1].file is None
    assert chosen[4].start.startswith("published weights (nafnet.pth), because its parent is")


def test_a_node_that_shares_its_expert_is_named_by_either_number() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(np.array([[0, 0], [0, 30], [30, 0]]), 20, axis=0)
    points = (centres + rng.normal(size=(60, 2))).astype(np.float32)
    tree = build_tree(points, HierarchyConfig(groups=(1, 2, 3)), extractor="x")[0]
    alone = next(node for node in tree.nodes if tree.expert_of(node.index) != node.index)
    chosen = choose(tree, rules=[{"nodes": [alone.index], "init": "a.pth"}])
    assert chosen[tree.expert_of(alone.index)].file == "a.pth"


def test_a_node_that_the_tree_does_not_have_is_refused(tree: Tree) -> None:
    with pytest.raises(ConfigError, match=r"nodes \[7\]; the tree has nodes 0 to 6"):
        choose(tree, rules=[{"nodes": [7]}])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"degradation": "darkness"}, "names 'darkness'; there are .*low_light.*mixed"),
        ({"min_share": 0.0}, "min_share"),
        ({"nodes": [-1]}, "numbers from 0"),
        ({"backbone": {"heads": [1]}}, "'nafnet' has no 'heads'"),
        ({"bakbone": {}}, r"'experts.rules.0.bakbone'; did you mean 'experts.rules.0.backbone'"),
        ({"backbone": {"widht": 8}}, r"'experts.rules.0.backbone'.*did you mean 'width'"),
    ],
)
def test_a_rule_that_cannot_hold_is_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(BuildConfig, {"experts": {"rules": [rule]}})


def test_weights_that_do_not_fit_are_refused_before_any_work(tmp_path: Path) -> None:
    torch.save(build_backbone(NAFNetConfig(width=8)).state_dict(), tmp_path / "a.pth")
    path = str(tmp_path / "a.pth")
    fitting = {"backbone": {"width": 8}, "init": path}
    check_weights(load(ExpertsConfig, {"rules": [fitting]}))
    check_weights(load(ExpertsConfig, fitting))
    for wrong in (
        {"init": path},
        {"rules": [{"init": path}]},
        fitting | {"rules": [fitting | DARK]},
    ):
        with pytest.raises(ArtefactError, match="does not fit"):
            check_weights(load(ExpertsConfig, wrong))


def test_with_adapters_every_node_but_the_root_is_one_on_the_root(tree: Tree) -> None:
    chosen = choose(tree, adapter={"rank": 4})
    assert chosen.pop(0) == choose(tree)[0]
    assert {choice.adapter for choice in chosen.values()} == {AdapterConfig(rank=4)}
    assert {(choice.parent, choice.start) for choice in chosen.values()} == {
        (0, "the root's weights, as an adapter of rank 4")
    }


def test_a_node_with_another_network_than_the_roots_is_whole_and_says_so(tree: Tree) -> None:
    chosen = choose(tree, adapter={}, rules=[DARK])
    assert [n for n, choice in chosen.items() if choice.adapter is None] == [0, 1, 3]
    reason = "no adapter, because the root is another network (nafnet)"
    assert (chosen[1].parent, chosen[1].start) == (None, f"random weights, {reason}")
    assert (chosen[3].parent, chosen[3].start) == (1, f"its parent's weights, {reason}")
    assert chosen[4].parent == 0
    of_the_root = choose(tree, adapter={}, rules=[{"nodes": [0], "backbone": {"width": 8}}])
    assert all(choice.adapter is None for choice in of_the_root.values())


def test_a_node_with_published_weights_of_its_own_is_whole_and_says_so(tree: Tree) -> None:
    chosen = choose(tree, adapter={}, rules=[{"nodes": [2], "init": "a/b.pth"}])
    assert chosen[2].adapter is None
    assert chosen[2].start == (
        "published weights (b.pth), no adapter, because a rule gives it weights of its own"
    )
    assert chosen[5].adapter == AdapterConfig()


def test_adapters_begin_at_published_weights_through_the_root(tree: Tree) -> None:
    chosen = choose(tree, adapter={}, init="a/b.pth")
    assert chosen[0].start == "published weights (b.pth)"
    assert all(choice.parent == 0 and choice.adapter for node, choice in chosen.items() if node)


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ({"adapter": {"rank": 0}}, "rank must be at least 1"),
        ({"adapter": {"rnk": 4}}, r"'experts.adapter.rnk'; did you mean 'experts.adapter.rank'"),
        ({"adapter": {}, "warm_start": False}, "starts from the root's weights"),
    ],
)
def test_adapters_that_cannot_work_are_refused(experts: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(BuildConfig, {"experts": experts})
