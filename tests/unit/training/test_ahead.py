"""Batches are the same however far ahead they were drawn."""

import time

import pytest

from expertree.training.ahead import Ahead

NOTHING = range(0)


class Drawn:
    """Remembers what it drew."""

    def __init__(self, seconds=0.0):
        self.seconds, self.calls = seconds, []

    def __call__(self, positions):
        time.sleep(self.seconds)
        self.calls.append(positions)
        if positions.start == 99:
            raise RuntimeError("no sample 99")
        return [10 * position for position in positions]


@pytest.fixture
def drawn():
    return Drawn()


@pytest.fixture
def ahead(drawn):
    made = Ahead(drawn)
    yield made
    made.close()


def test_the_next_batch_is_drawn_before_it_is_asked_for(ahead, drawn):
    first = ahead.take(range(2), range(2, 4))
    deadline = time.monotonic() + 10
    while len(drawn.calls) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert drawn.calls == [range(2), range(2, 4)]
    assert (first, ahead.take(range(2, 4), NOTHING)) == ([0, 10], [20, 30])
    assert len(drawn.calls) == 2


def test_what_was_not_foreseen_is_drawn_anew(ahead):
    ahead.take(range(2), range(2, 4))
    assert ahead.take(range(2, 5), NOTHING) == [20, 30, 40]
    assert ahead.take(range(2), NOTHING) == [0, 10]


def test_a_batch_that_was_drawn_meanwhile_is_not_waited_for():
    ahead = Ahead(Drawn(seconds=0.3))
    begin = time.perf_counter()
    ahead.take(range(2), range(2, 4))
    first_s = time.perf_counter() - begin
    time.sleep(0.6)
    begin = time.perf_counter()
    ahead.take(range(2, 4), NOTHING)
    second_s = time.perf_counter() - begin
    ahead.close()
    assert first_s >= 0.3
    assert second_s < 0.2


def test_an_error_in_drawing_reaches_the_step(ahead):
    ahead.take(range(2), range(99, 101))
    with pytest.raises(RuntimeError, match="no sample 99"):
        ahead.take(range(99, 101), NOTHING)
