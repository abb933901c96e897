"""How many threads one process computes on."""

import contextlib
from collections.abc import Iterator

import cv2
import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch and OpenCV use so many threads each inside the block, and as many as before after.

    A process that does one thing after the other, such as a lane, leaves none of its settings to
    the next.
    """
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
