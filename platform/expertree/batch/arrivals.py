"""Decide which photographs of a folder that fills are taken: those that nobody writes any more."""

import dataclasses
from collections.abc import Iterable, Sequence

from expertree.batch.listing import PhotoItem

SETTLE_S = 2.0
"""Seconds for which a file's size and time must have stood still. One that is taken too early, as
whoever writes it paused, fails as damaged, and is taken again when it has changed."""

_AGAIN_S = 60.0
_MAX_AGAIN_S = 3600.0
"""Seconds until a photograph is tried again that failed for what may pass (a full disk, memory):
the first, twice as many each time, at most the second."""


@dataclasses.dataclass(slots=True)
class _Seen:
    """A file as it looked last, since when, and what has become of it."""

    look: tuple[int, int]
    due_s: float
    is_taken: bool = False
    again_s: float = dataclasses.field(default_factory=lambda: _AGAIN_S)


class Arrivals:
    """The files of a folder, of which each is taken once as it is."""

    def __init__(self) -> None:
        """Begin without any."""
        self._seen: dict[str, _Seen] = {}

    def pass_over(self, items: Iterable[PhotoItem]) -> None:
        """Take files for taken, as they are now."""
        for item in items:
            look = item.num_bytes, item.mtime_ns
            self._seen[item.name] = _Seen(look=look, due_s=0.0, is_taken=True)

    def take(self, items: Sequence[PhotoItem], now_s: float) -> tuple[PhotoItem, ...]:
        """Return the files that are due, in their order; an empty one never is.

        Args:
            items: All files that are there now.
            now_s: Seconds on a clock that never runs backwards.
        """
        before, self._seen = self._seen, {}
        due = []
        for item in items:
            look = item.num_bytes, item.mtime_ns
            seen = before.get(item.name)
            if seen is None or seen.look != look:
                seen = _Seen(look=look, due_s=now_s + SETTLE_S)
            self._seen[item.name] = seen
            if item.num_bytes and not seen.is_taken and now_s >= seen.due_s:
                seen.is_taken = True
                due.append(item)
        return tuple(due)

    def try_again(self, name: str, now_s: float) -> None:
        """Let a file that was taken be due once more, later each time."""
        seen = self._seen[name]
        seen.is_taken = False
        seen.due_s = now_s + seen.again_s
        seen.again_s = min(2 * seen.again_s, _MAX_AGAIN_S)

    @property
    def num_waiting(self) -> int:
        """Number of files that are there and were not taken yet."""
        return sum(not seen.is_taken for seen in self._seen.values())
