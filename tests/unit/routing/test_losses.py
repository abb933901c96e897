"""Each loss against the formula written out in loops."""

import math

import numpy as np
import pytest
import torch

from expertree.hierarchy import Tree
from expertree.routing.losses import (
    balance_loss,
    cost_loss,
    expected_cost,
    node_regrets,
    top1_cost,
    uncertainty_loss,
)


def test_regret_is_the_distance_in_db_to_the_best_expert(tree: Tree) -> None:
    losses = np.random.default_rng(0).uniform(0.01, 0.03, (5, 6))
    regrets = node_regrets(losses, tree, cap_db=6.0)
    for sample in range(5):
        for node in range(6):
            ratio = losses[sample, node] / losses[sample].min()
            expected = min(6.0, 20 * math.log10(ratio))
            assert regrets[sample, node] == pytest.approx(expected, abs=1e-5)


def test_costs_are_learnt_as_they_are_and_in_the_order_of_the_best() -> None:
    predicted, regrets = torch.randn(4, 3), torch.rand(4, 3)
    chosen = (-predicted / 0.5).softmax(1)
    slow = sum(
        (predicted[n, k] - regrets[n, k]) ** 2 / 12 + chosen[n, k] * regrets[n, k] / 4
        for n in range(4)
        for k in range(3)
    )
    torch.testing.assert_close(cost_loss(predicted, regrets), slow)


def test_regrets_do_not_depend_on_how_hard_a_sample_is(tree: Tree) -> None:
    losses = np.random.default_rng(0).uniform(0.01, 0.03, (5, 6))
    np.testing.assert_allclose(
        node_regrets(losses, tree, cap_db=6.0),
        node_regrets(50 * losses, tree, cap_db=6.0),
        atol=1e-5,
    )


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_loss_that_cannot_be_names_its_place(tree: Tree, value: float) -> None:
    losses = np.full((3, 6), 0.1)
    losses[1, 4] = value
    with pytest.raises(ValueError, match="sample 1 with node 4"):
        node_regrets(losses, tree, cap_db=6.0)


def test_a_table_without_a_column_a_node_is_refused(tree: Tree) -> None:
    with pytest.raises(ValueError, match=r"\[3, 5\].*6 nodes"):
        node_regrets(np.full((3, 5), 0.1), tree, cap_db=6.0)


def test_expected_cost_sums_over_all_choices() -> None:
    leaf, level, costs = torch.randn(4, 3), torch.randn(4, 2), torch.rand(4, 3, 2)
    p, q = leaf.softmax(1), level.softmax(1)
    slow = sum(
        p[n, k] * q[n, t] * costs[n, k, t] / 4 for n in range(4) for k in range(3) for t in range(2)
    )
    torch.testing.assert_close(expected_cost(leaf, level, costs), slow)


def test_top1_cost_is_that_of_the_chosen_and_only_its_gates_learn() -> None:
    leaf = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
    level = torch.tensor([[0.0, 1.0]], requires_grad=True)
    costs = torch.rand(1, 3, 2)
    cost = top1_cost(leaf, level, costs)
    torch.testing.assert_close(cost, costs[0, 0, 1])
    cost.backward()
    expected = costs[0, 0, 1] * (torch.tensor([1.0, 0.0, 0.0]) - leaf.detach().softmax(1)[0])
    torch.testing.assert_close(leaf.grad[0], expected)


def test_uncertainty_loss_is_least_where_the_variance_is_the_squared_error() -> None:
    degradation, centroids = torch.zeros(1, 1), torch.full((1, 1), 0.7)
    log_variances = torch.linspace(-4, 4, 801)[:, None]
    losses = torch.stack([uncertainty_loss(degradation, s[None], centroids) for s in log_variances])
    best = log_variances[losses.argmin()].exp().item()
    assert best == pytest.approx(0.49, rel=0.02)


def test_uncertainty_loss_clips_the_variance_at_one_hundredth() -> None:
    error, low = torch.full((2, 3), 0.2), torch.full((2, 3), -50.0)
    expected = 0.04 / (2 * 0.01) + math.log(0.01) / 2
    assert uncertainty_loss(error, low, torch.zeros(2, 3)).item() == pytest.approx(expected)


def test_balance_loss_is_zero_when_even_and_largest_when_one_choice_gets_all() -> None:
    assert balance_loss(torch.zeros(8, 4)).item() == pytest.approx(0.0)
    collapsed = torch.tensor([[50.0, 0.0, 0.0, 0.0]]).repeat(8, 1)
    assert balance_loss(collapsed).item() == pytest.approx(3.0)
    # Every sample may be sure of its choice, as long as the choices differ.
    assert balance_loss(50 * torch.eye(4)).item() == pytest.approx(0.0, abs=1e-6)
