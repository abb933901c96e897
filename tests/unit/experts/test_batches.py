"""Batches are the same however far ahead they were drawn."""

import time

import pytest
import torch

from expertree.experts.batches import Batch, Batches


class Drawn:
    """Remembers what it drew."""

    def __init__(self, seconds=0.0):
        self.seconds, self.calls = seconds, []

    def __call__(self, positions, patch_px):
        time.sleep(self.seconds)
        self.calls.append(positions)
        side = torch.full((len(positions), 3, patch_px, patch_px), float(positions[0]))
        return Batch(lq=side, gt=-side, tasks=[("noise",)] * len(positions))


def content(batch):
    """First position, number and patch side of a batch."""
    assert torch.equal(batch.lq, -batch.gt)
    return int(batch.lq[0, 0, 0, 0]), len(batch), batch.lq.shape[-1]


@pytest.fixture
def drawn():
    return Drawn()


@pytest.fixture
def batches(drawn):
    made = Batches(drawn)
    yield made
    made.close()


def test_the_next_batch_is_drawn_before_it_is_asked_for(batches, drawn):
    first = batches.take(range(2), 16, (range(2, 4), 16))
    deadline = time.monotonic() + 10
    while len(drawn.calls) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert drawn.calls == [range(2), range(2, 4)]
    second = batches.take(range(2, 4), 16, None)
    assert (content(first), content(second)) == ((0, 2, 16), (2, 2, 16))
    assert len(drawn.calls) == 2


def test_what_was_not_foreseen_is_drawn_anew(batches):
    batches.take(range(2), 16, (range(2, 4), 16))
    assert content(batches.take(range(2, 4), 32, None)) == (2, 2, 32)
    assert content(batches.take(range(2), 16, None)) == (0, 2, 16)


def test_only_waiting_counts_as_waiting():
    batches = Batches(Drawn(seconds=0.2))
    batches.take(range(2), 16, (range(2, 4), 16))
    first_s = batches.waited_s
    time.sleep(0.4)
    batches.take(range(2, 4), 16, None)
    batches.close()
    assert first_s >= 0.2
    assert batches.waited_s - first_s < 0.1


def test_an_error_in_drawing_reaches_the_step(batches):
    batches.take(range(2), 16, (range(2, 4), -1))
    with pytest.raises(RuntimeError, match="negative"):
        batches.take(range(2, 4), -1, None)
