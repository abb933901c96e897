"""A bound on the parts of a file: a small one may claim to have millions, each of which costs."""

from collections.abc import Iterator

from expertree.errors import DamagedImageError

_MOST_PARTS, _BYTES_PER_PART = 100_000, 1024
"""Parts that any file may have, and the bytes for which it may have one more: some programs cut
large pictures into chunks of 8 KB."""


def count_parts(data: bytes) -> Iterator[None]:
    """Yield once for each part that a file may have: its chunks, segments or boxes.

    Raises:
        DamagedImageError: When one more is asked for.
    """
    most = _MOST_PARTS + len(data) // _BYTES_PER_PART
    for _ in range(most):
        yield
    raise DamagedImageError(f"is damaged: it falls into more than {most:,} parts")
