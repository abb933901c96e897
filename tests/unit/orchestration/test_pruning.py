"""Which expert serves each node."""

import numpy as np
import pytest

from expertree.hierarchy import HierarchyConfig, Tree, build_tree
from expertree.orchestration.pruning import servers


@pytest.fixture
def tree() -> Tree:
    """Root, two groups, and the two halves of each."""
    rng = np.random.default_rng(0)
    centres = np.array([[-9, -2], [-9, 2], [9, -2], [9, 2]], dtype=np.float32)
    points = np.repeat(centres, 20, axis=0) + 0.1 * rng.normal(size=(80, 2))
    return build_tree(points.astype(np.float32), HierarchyConfig(groups=(1, 2, 4)), extractor="x")[
        0
    ]


def test_whoever_gains_serves_its_own_node(tree: Tree) -> None:
    gains = dict.fromkeys(range(1, 7), 0.5)
    assert servers(tree, gains) == {node: node for node in range(7)}


def test_whoever_loses_gives_way_to_who_serves_the_parent(tree: Tree) -> None:
    gains = dict.fromkeys(range(1, 7), 0.5)
    leaf = tree.nodes[1].children[0]
    assert servers(tree, gains | {leaf: -0.1})[leaf] == 1
    found = servers(tree, gains | {leaf: -0.1, 1: -0.2})
    assert (found[1], found[leaf]) == (0, 0)
    assert found[tree.nodes[1].children[1]] == tree.nodes[1].children[1]


def test_an_expert_without_patches_to_judge_it_stays(tree: Tree) -> None:
    assert servers(tree, {}) == {node: node for node in range(7)}
