"""The parts of the tree's benchmark that need no cluster."""

import pytest

from expertree.benchmarks.tree import first_starts, gaps, on_paper
from expertree.scheduling.states import Attempt


def attempt(lane: str, start: float, end: float | None) -> Attempt:
    return Attempt(key=f"{lane}{start}", lane=lane, node="n", number=1, start=start, end=end)


def test_gaps_are_between_experts_of_one_lane() -> None:
    history = [
        attempt("a", 0, 10),
        attempt("b", 1, 12),
        attempt("a", 10.5, 20),
        attempt("a", 22, None),
    ]
    assert list(gaps(history)) == pytest.approx([0.5, 2.0])
    assert first_starts(history, begin=-1.0) == [1.0, 2.0]


def test_on_paper_preemptions_cost_little_and_never_nothing() -> None:
    found = on_paper()
    assert set(found) == {"8 GPUs", "27 GPUs", "64 GPUs"}
    assert [one["bound_hours"] for one in found.values()] == [176.0, 44.0, 44.0]
    for one in found.values():
        assert 1.0 < one["over_bound"] < 1.1
