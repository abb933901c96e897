"""What methods are called, and what the headline's gain is measured over."""

import pytest

from expertree.evaluation import METHODS, described, gain_over


def test_names_differ_and_short_ones_leave_room_for_numbers() -> None:
    for names in ({m.name for m in METHODS.values()}, {m.short for m in METHODS.values()}):
        assert len(names) == len(METHODS)
    assert max(len(method.short) for method in METHODS.values()) <= 17


def test_only_what_looks_at_the_clean_image_is_a_limit() -> None:
    assert [name for name, m in METHODS.items() if m.is_bound] == ["best_level", "best"]


def test_an_unknown_method_is_called_by_its_own_name() -> None:
    assert (described("new").name, described("new").short) == ("new", "new")


@pytest.mark.parametrize(
    ("averages", "expected"),
    [
        ({"input": 22.0, "one_network": 25.0, "one_network_tree": 24.0}, "one_network_tree"),
        ({"input": 22.0, "one_network": 25.0, "one_network_tree": 21.0}, "input"),
        ({"input": 22.0, "one_network": 25.0}, "one_network"),
        ({"input": 22.0, "one_network": 20.0}, "input"),
        ({"input": 22.0, "classical": 29.0, "routed": 30.0}, "input"),
    ],
)
def test_a_gain_is_over_the_better_of_the_input_and_the_longest_trained_network(
    averages: dict[str, float], expected: str
) -> None:
    assert gain_over(averages) == expected
