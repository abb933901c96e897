"""Control of the number of threads that one process computes on."""

import contextlib
from collections.abc import Iterator

import cv2
import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch and OpenCV use `count` threads each inside the block, and as before after it.

    So a process that does one task after another, such as a lane, passes no setting to the next.
    """
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
