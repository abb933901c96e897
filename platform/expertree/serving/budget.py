"""Memory that requests may take: whoever needs more than is left is told to come again."""

import contextlib
from collections.abc import Iterator

from expertree.errors import OverloadError

BYTES_PER_PIXEL = 24
"""Of an image on its way: decoded, as float32 for the network, restored, and encoded again."""


class Budget:
    """A number of bytes that shares are taken of.

    Attributes:
        max_bytes: All of it.
        taken_bytes: What shares hold.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.taken_bytes = 0

    @contextlib.contextmanager
    def share(self) -> Iterator["Share"]:
        """A share that grows, and is given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.taken_bytes -= share.num_bytes


class Share:
    """One request's part of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.num_bytes = 0

    def grow(self, num_bytes: int) -> None:
        """Take more.

        Raises:
            OverloadError: If that is not left, though it may be when others are done.
        """
        budget = self._budget
        others_bytes = budget.taken_bytes - self.num_bytes
        if others_bytes and budget.taken_bytes + num_bytes > budget.max_bytes:
            raise OverloadError("the images in work leave no memory for this one; come back later")
        budget.taken_bytes += num_bytes
        self.num_bytes += num_bytes

    def shrink(self, num_bytes: int) -> None:
        """Give a part back."""
        self._budget.taken_bytes -= num_bytes
        self.num_bytes -= num_bytes
