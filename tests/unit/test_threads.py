"""Threads that a process computes on."""

from collections.abc import Iterator

import cv2
import pytest
import torch

from expertree.threads import threads, torch_threads


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def counts() -> tuple[int, int]:
    return torch.get_num_threads(), cv2.getNumThreads()


def test_after_the_block_there_are_as_many_threads_as_before() -> None:
    torch.set_num_threads(3)
    cv2.setNumThreads(2)
    with threads(1):
        assert counts() == (1, 1)
    assert counts() == (3, 2)
    with pytest.raises(OSError, match="the block"), threads(1):
        raise OSError("the block")
    assert counts() == (3, 2)


def test_torchs_threads_can_be_set_alone() -> None:
    torch.set_num_threads(3)
    cv2.setNumThreads(2)
    with torch_threads(1):
        assert counts() == (1, 2)
    assert counts() == (3, 2)
