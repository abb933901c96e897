"""Control of the number of threads that one process computes on."""

import contextlib
from collections.abc import Iterator

import cv2
import torch


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the block, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch and OpenCV use `count` threads each inside the block, and as before after it.

    So a process that does one task after another, such as a lane, passes no setting to the next.
    """
    before = cv2.getNumThreads()
    with torch_threads(count):
        cv2.setNumThreads(count)
        try:
            yield
        finally:
            cv2.setNumThreads(before)
