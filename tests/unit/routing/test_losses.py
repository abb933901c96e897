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
    psnr = np.random.default_rng(0).uniform(20, 30, (5, 6))
    regrets = node_regrets(psnr, tree, cap_db=6.0)
    for sample in range(5):
        for node in range(6):
            expected = min(6.0, psnr[sample].max() - psnr[sample, node])
            assert regrets[sample, node] == pytest.approx(expected, abs=1e-5)


def test_the_input_is_one_more_choice_that_may_be_the_best(tree: Tree) -> None:
    psnr = np.array([[30.0, 31, 28, 29, 31, 28], [20.0, 20, 20, 20, 20, 20]])
    regrets = node_regrets(psnr, tree, cap_db=6.0, inputs=np.array([33.0, 20.0]))
    assert regrets.tolist() == [[3, 2, 5, 4, 2, 5, 0], [0] * 7]


def test_an_identical_image_is_finitely_far_from_others(tree: Tree) -> None:
    psnr = np.array([[math.inf, 100.0, 61.0, 58.0, 57.5, 40.0]])
    regrets = node_regrets(psnr, tree, cap_db=6.0, inputs=np.array([math.inf]))
    assert regrets.tolist() == [[0, 0, 0, 2, 2.5, 6, 0]]


def test_what_nobody_sees_costs_nothing(tree: Tree) -> None:
    psnr = np.array([[48.0, 44.0, 30.0, 30.0, 30.0, 30.0]])
    clean = np.array([math.inf])
    strict = node_regrets(psnr, tree, cap_db=12.0, inputs=clean)[0]
    lenient = node_regrets(psnr, tree, cap_db=12.0, inputs=clean, identical_db=45.0)[0]
    assert strict[:2].tolist() == [12.0, 12.0]
    assert lenient[:2].tolist() == [0.0, 1.0]
    assert strict[-1] == lenient[-1] == 0.0


def test_costs_are_learnt_as_they_are_and_in_the_order_of_the_best() -> None:
    predicted, regrets = torch.randn(4, 3), torch.rand(4, 3)
    chosen = (-predicted / 0.5).softmax(1)
    slow = sum(
        4 * (math.asinh(predicted[n, k]) - math.asinh(regrets[n, k])) ** 2 / 12
        + chosen[n, k] * regrets[n, k] / 4
        for n in range(4)
        for k in range(3)
    )
    torch.testing.assert_close(cost_loss(predicted, regrets), slow)


def test_regrets_do_not_depend_on_how_hard_a_sample_is(tree: Tree) -> None:
    psnr = np.random.default_rng(0).uniform(20, 30, (5, 6))
    np.testing.assert_allclose(
        node_regrets(psnr, tree, cap_db=6.0), node_regrets(psnr - 10, tree, cap_db=6.0), atol=1e-5
    )


def test_a_psnr_that_is_no_number_names_its_place(tree: Tree) -> None:
    psnr = np.full((3, 6), 30.0)
    psnr[1, 4] = math.nan
    with pytest.raises(ValueError, match="sample 1 with node 4"):
        node_regrets(psnr, tree, cap_db=6.0)
    with pytest.raises(ValueError, match=r"inputs' PSNR is \[3\] with 1 that are no number"):
        node_regrets(np.full((3, 6), 30.0), tree, cap_db=6.0, inputs=psnr[:, 4])


def test_a_table_without_a_column_a_node_is_refused(tree: Tree) -> None:
    with pytest.raises(ValueError, match=r"\[3, 5\].*6 nodes"):
        node_regrets(np.full((3, 5), 30.0), tree, cap_db=6.0)


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


def test_a_hopeless_choice_weighs_no_more_than_a_close_one_that_is_as_wrong_in_ratio() -> None:
    """Half a dB is all that can be won on faint coding; a wrong expert costs ten."""

    def error(predicted: float, regret: float) -> float:
        # One choice: the soft choice takes it whatever is predicted, and costs its regret.
        return float(cost_loss(torch.tensor([[predicted]]), torch.tensor([[regret]]))) - regret

    assert error(0.0, 0.5) > 0.5 * error(6.0, 10.0)
    assert error(0.5, 0.5) == pytest.approx(0.0, abs=1e-6)
