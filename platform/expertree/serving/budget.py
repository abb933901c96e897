"""The memory that requests may take; one that needs more than is left is told to come again."""

import contextlib
from collections.abc import Iterator

from expertree.errors import OverloadError

BYTES_PER_PIXEL = 24
"""Bytes of a pixel in work: decoded, as float32 for the network, restored, encoded again."""


class MemoryBudget:
    """A number of bytes that requests take shares of; not safe for several threads.

    A share that was refused and keeps what it holds waits until it grows. Where all others wait, a
    share grows however little is left: they would otherwise wait for each other.

    Attributes:
        max_bytes: Bytes in all.
        taken_bytes: Bytes that shares hold.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.taken_bytes = 0
        self._waiting: set[MemoryShare] = set()

    def has_room(self, share: "MemoryShare", num_bytes: int) -> bool:
        """Return whether a share may take more bytes; it waits from now on if it may not."""
        waiting_bytes = sum(own.num_bytes for own in self._waiting - {share})
        working_bytes = self.taken_bytes - share.num_bytes - waiting_bytes
        if working_bytes and self.taken_bytes + num_bytes > self.max_bytes:
            self._waiting.add(share)
            return False
        return True

    def add(self, share: "MemoryShare", num_bytes: int) -> None:
        """Count bytes that a share has taken or, if negative, given back; it waits no more."""
        self.taken_bytes += num_bytes
        share.num_bytes += num_bytes
        self._waiting.discard(share)

    @contextlib.contextmanager
    def share(self) -> Iterator["MemoryShare"]:
        """Open a share, which is given back when nobody uses it any more.

        Work that is within `MemoryShare.grown` keeps it beyond the end of the block.
        """
        share = MemoryShare(self)
        with share.grown(0):
            yield share


class MemoryShare:
    """One request's part of a budget.

    Attributes:
        num_bytes: Bytes that it holds.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._num_users = 0
        self.num_bytes = 0

    def grow(self, num_bytes: int) -> None:
        """Take more bytes, until the share is given back; none at all are always left.

        Raises:
            OverloadError: If they are not left, though they may be when others are done.
        """
        if num_bytes and not self._budget.has_room(self, num_bytes):
            raise OverloadError("the images in work leave no memory for this one; come back later")
        self._budget.add(self, num_bytes)

    def grow_unchecked(self, num_bytes: int) -> None:
        """Take more bytes for what is in memory already, whether or not they are left."""
        self._budget.add(self, num_bytes)

    @contextlib.contextmanager
    def grown(self, num_bytes: int) -> Iterator[None]:
        """Take more bytes for a block, in which nothing of the share is given back.

        Raises:
            OverloadError: If they are not left, as in `grow`.
        """
        self.grow(num_bytes)
        self._num_users += 1
        try:
            yield
        finally:
            self._num_users -= 1
            self._budget.add(self, -num_bytes if self._num_users else -self.num_bytes)
