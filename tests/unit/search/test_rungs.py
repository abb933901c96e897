import numpy as np
import pytest

from expertree.search.rungs import check_fractions, goes_on, why_stopped


def test_the_first_goes_on_and_then_one_of_so_many() -> None:
    assert goes_on(20.0, [], reduction=3)
    assert not goes_on(20.0, [21.0], reduction=3)
    assert not goes_on(20.0, [21.0, 19.0], reduction=3)
    assert goes_on(20.0, [21.0, 19.0, 18.0], reduction=3)


def test_whatever_the_order_the_best_always_goes_on() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        values = rng.permutation(9).astype(float).tolist()
        kept = [v for n, v in enumerate(values) if goes_on(v, values[:n], reduction=3)]
        assert 8.0 in kept


def test_the_reason_has_the_numbers() -> None:
    assert why_stopped(0, 0.25, 20.0, [21.0, 19.0]) == (
        "at rung 1, a share of 0.25 of the training, 1 of 2 others had reached more than its "
        "20.00 dB"
    )


@pytest.mark.parametrize("fractions", [(), (0.5,), (0.5, 0.25, 1.0), (0.0, 1.0), (0.001, 1.0)])
def test_fractions_grow_to_the_whole_training(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"fractions must grow"):
        check_fractions(fractions)
