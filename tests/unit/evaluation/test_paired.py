"""Intervals of paired differences, and what choices tell, against calculations by hand."""

import itertools

import numpy as np
import pytest

from expertree.evaluation.paired import (
    chance_information,
    mutual_information,
    paired_interval,
    shares_of_choices,
)


def test_a_difference_that_is_the_same_everywhere_has_no_width() -> None:
    found = paired_interval(np.full(6, 0.5), [np.arange(3), np.arange(3, 6)])
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_an_interval_is_that_of_all_draws_that_there_are() -> None:
    values = np.array([-1.0, 0.0, 4.0, 9.0])
    # All 256 draws of four, each as likely: what many random ones tend to.
    means = [np.mean(draw) for draw in itertools.product(values, repeat=4)]
    low, high = np.percentile(means, (2.5, 97.5))
    found = paired_interval(values, [np.arange(4)])
    assert found.mean == 3.0
    assert found.low == pytest.approx(low, abs=0.3)
    assert found.high == pytest.approx(high, abs=0.3)


def test_each_group_counts_the_same_and_draws_its_own_images() -> None:
    values = np.array([1.0, 1.0, 1.0, 5.0])
    found = paired_interval(values, [np.arange(3), np.array([3])])
    assert (found.mean, found.low, found.high) == (3.0, 3.0, 3.0)


def test_draws_repeat_by_seed() -> None:
    values = np.random.default_rng(0).normal(size=50)
    groups = [np.arange(50)]
    assert paired_interval(values, groups) == paired_interval(values, groups)
    assert paired_interval(values, groups, seed=1) != paired_interval(values, groups)


def test_a_choice_by_degradation_tells_all_of_it_and_a_constant_one_nothing() -> None:
    labels = ["rain"] * 4 + ["haze"] * 4
    assert mutual_information(np.array([2] * 4 + [7] * 4), labels) == pytest.approx(1.0)
    assert mutual_information(np.zeros(8, dtype=np.int64), labels) == pytest.approx(0.0)
    # Three of four by degradation: 1 - H(1/4) bits.
    mixed = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    entropy = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))
    assert mutual_information(mixed, labels) == pytest.approx(1.0 - entropy)


def test_chance_is_about_what_choices_without_meaning_show() -> None:
    rng = np.random.default_rng(0)
    labels = [f"task {n % 5}" for n in range(200)]
    drawn = [rng.integers(4, size=200) for _ in range(300)]
    mean = np.mean([mutual_information(own, labels) for own in drawn])
    assert chance_information(drawn[0], labels) == pytest.approx(3 * 4 / (400 * np.log(2)))
    assert mean == pytest.approx(chance_information(drawn[0], labels), rel=0.1)


def test_shares_of_choices_by_label() -> None:
    choices = np.array([3, 3, 1, -1])
    found = shares_of_choices(choices, ["rain", "rain", "haze", "haze"], ["haze", "rain"])
    assert found == ([-1, 1, 3], [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
