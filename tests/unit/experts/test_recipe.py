"""The learning rate as a function of samples seen, and values that cannot work."""

import pytest

from expertree.experts.recipe import RecipeConfig, learning_rate_at

RECIPE = RecipeConfig(batch_size=4, learning_rate=1.0, warmup_samples=16)


def test_rate_rises_linearly_then_falls_as_a_cosine():
    rates = [learning_rate_at(RECIPE, n, 116) for n in range(0, 116, 4)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert learning_rate_at(RECIPE, 66, 116) == pytest.approx(0.5, abs=1e-3)
    assert learning_rate_at(RECIPE, 116, 116) == pytest.approx(1e-3)


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert learning_rate_at(RecipeConfig(learning_rate=0.5), 0, 100) == 0.5


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 0},
        {"patch_px": 0},
        {"checkpoint_every_samples": 0},
        {"num_threads": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"ema_decay": 1.0},
    ],
)
def test_values_that_cannot_work_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        RecipeConfig(**values)
