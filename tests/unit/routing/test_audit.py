"""Oracles against loops."""

import dataclasses

import numpy as np
import pytest
import torch

from expertree.errors import ArtefactError
from expertree.hierarchy import Tree
from expertree.routing import RouterOutput, audit_routes, decide, node_table


def test_table_gives_each_node_the_column_of_its_expert(tree: Tree) -> None:
    by_expert = {expert: np.full(2, float(expert)) for expert in tree.experts()}
    assert node_table(by_expert, tree).tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0, 2.0]] * 2


def test_where_there_is_no_root_the_worst_of_the_others_stands_in_for_it(tree: Tree) -> None:
    others = {expert: np.full(2, float(expert)) for expert in tree.experts() if expert != 0}
    assert node_table(others, tree, absent=np.max)[0].tolist() == [4.0, 1.0, 2.0, 3.0, 4.0, 2.0]
    assert node_table(others, tree, absent=np.min)[0, 0] == 1.0


def test_table_needs_exactly_the_experts_of_the_tree(tree: Tree) -> None:
    with pytest.raises(ArtefactError, match="missing"):
        node_table({0: np.zeros(2)}, tree)


def test_audit_equals_a_search_in_loops(tree: Tree) -> None:
    rng = np.random.default_rng(0)
    by_expert = {expert: rng.uniform(20, 30, 40) for expert in tree.experts()}
    psnr = node_table(by_expert, tree)
    unused = torch.zeros(40, 16)
    routes = decide(
        RouterOutput(
            degradation=unused,
            log_variance=unused,
            leaf_logits=torch.from_numpy(rng.standard_normal((40, 3))),
            level_logits=torch.from_numpy(rng.standard_normal((40, 3))),
        ),
        tree,
    )
    inputs = rng.uniform(20, 30, 40)
    routes = [
        dataclasses.replace(route, expert=None) if row % 4 == 0 else route
        for row, route in enumerate(routes)
    ]
    audit = audit_routes(routes, psnr, tree, inputs=inputs)
    routed = [inputs[i] if i % 4 == 0 else psnr[i, route.node] for i, route in enumerate(routes)]
    paths = [[psnr[i, node] for node in tree.path(route.leaf)] for i, route in enumerate(routes)]
    assert audit.num_samples == 40
    assert audit.psnr_routed == pytest.approx(np.mean(routed))
    assert audit.psnr_best_level == pytest.approx(np.mean([max(path) for path in paths]))
    assert audit.psnr_best == pytest.approx(psnr.max(axis=1).mean())
    assert audit.as_is == 0.25
    hits = [value >= max(path) for value, path in zip(routed, paths, strict=True)]
    assert audit.agreement == pytest.approx(np.mean(hits))
    assert audit.lost_level_db == pytest.approx(audit.psnr_best_level - audit.psnr_routed)
    assert audit.lost_db == pytest.approx(audit.psnr_best - audit.psnr_routed)
    assert sum(audit.routed_levels) == pytest.approx(1.0)
    levels = [path.index(max(path)) for path in paths]
    assert audit.best_levels == pytest.approx([levels.count(level) / 40 for level in range(3)])


def test_audit_of_nothing_is_refused(tree: Tree) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        audit_routes([], np.zeros((0, 6)), tree, inputs=np.zeros(0))
