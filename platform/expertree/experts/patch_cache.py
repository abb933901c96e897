"""Keep decoded patches in memory, within one budget for all sets of a process."""

import dataclasses
import threading
import weakref
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

Key: TypeAlias = tuple[str, int]
"""Column and index of a patch."""

Value: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

DEFAULT_CACHE_BYTES = 1 << 30
"""Room for 10,000 pairs of 128 px patches: a small run never decodes an image twice."""


@dataclasses.dataclass(slots=True)
class _Kept:
    """The values of one set that are kept."""

    values: dict[Key, Value] = dataclasses.field(default_factory=dict)
    num_bytes: int = 0
    most_bytes: int = 1


class PatchCache:
    """Keeps what sets of patches have decoded; safe for several threads.

    A set takes room from those that were used longest ago, but never from itself. Each pass over a
    set is a permutation: of a set twice as large as the budget, 15 of 100 patches are found again
    if the oldest are thrown away, and 50 if the first ones are kept. The values of a set are
    dropped with the set.
    """

    def __init__(self, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        """Make a cache that keeps at most `max_bytes` of values."""
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._lock = threading.RLock()
        self._sets: dict[int, _Kept] = {}

    def add_set(self, patches: object) -> int:
        """Register a set, and return the number that other calls name it by."""
        with self._lock:
            number = max(self._sets, default=-1) + 1
            self._sets[number] = _Kept()
        weakref.finalize(patches, self._forget, number)
        return number

    def find(self, number: int, keys: Iterable[Key]) -> dict[Key, Value]:
        """Return those of some values that are kept; their set is now the last to be evicted."""
        with self._lock:
            kept = self._sets[number] = self._sets.pop(number)
            return {key: kept.values[key] for key in keys if key in kept.values}

    def has_room(self, number: int) -> bool:
        """Return whether one more value of a set can be kept."""
        with self._lock:
            kept = self._sets[number]
            return kept.num_bytes + kept.most_bytes <= self.max_bytes

    def keep(self, number: int, key: Key, value: Value) -> bool:
        """Keep a value, at the cost of other sets, unless the budget is too small for the set.

        Returns:
            Whether there is room for one more, as `has_room` says.
        """
        with self._lock:
            kept = self._sets[number]
            kept.most_bytes = max(kept.most_bytes, value.nbytes)
            if key not in kept.values and kept.num_bytes + value.nbytes <= self.max_bytes:
                self._make_room(kept, value.nbytes)
                kept.values[key] = value
                kept.num_bytes += value.nbytes
                self.num_bytes += value.nbytes
            return kept.num_bytes + kept.most_bytes <= self.max_bytes

    def _make_room(self, kept: _Kept, num_bytes: int) -> None:
        if self.num_bytes + num_bytes <= self.max_bytes:
            return
        for other in [other for other in self._sets.values() if other is not kept]:
            while other.values and self.num_bytes + num_bytes > self.max_bytes:
                self._drop(other)

    def _drop(self, kept: _Kept) -> None:
        _, value = kept.values.popitem()
        kept.num_bytes -= value.nbytes
        self.num_bytes -= value.nbytes

    def _forget(self, number: int) -> None:
        with self._lock:
            kept = self._sets.pop(number)
            while kept.values:
                self._drop(kept)


SHARED_CACHE = PatchCache()
"""The cache of all sets of this process that are not given another one."""
