"""Show a batch's progress, by a bar in a terminal and by plain lines elsewhere.

Time left is judged by pixels: a panorama takes longer than a snapshot.
"""

import re
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from expertree.batch.listing import PhotoItem
from expertree.batch.manifest import PhotoRecord
from expertree.progress import clock_text

_MAX_LINES = 200
"""Most photographs of a batch in which each gets a line; in larger ones, one in 10 s does."""

_INTERVAL_S = 10.0

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters but tabs and the ends of lines."""


class BatchView:
    """Shows how far a batch is. Failures always get a line of their own.

    Args:
        items: Photographs to restore.
        console: Console to write to.
        clock: Function that returns seconds, which never run backwards.
    """

    def __init__(
        self,
        items: Sequence[PhotoItem],
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._clock = console, clock
        self._num_items, self._num_done = 0, 0
        self._pixels: dict[str, int] = {}
        self._total_px, self._done_px = 0, 0
        self._tile_px = 0.0
        self._begin = clock()
        self._written_at = self._begin
        self._last = "reading the model"
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[count]}"),
                BarColumn(bar_width=28),
                TextColumn("{task.fields[times]}"),
                TextColumn("[dim]{task.fields[last]}", markup=True),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task("", count="", times="", last=self._last)
        self.add(items)

    def __enter__(self) -> Self:
        """Start to draw the bar, if there is one."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop drawing, and give the terminal back."""
        if self._bar is not None:
            self._bar.stop()

    def add(self, items: Sequence[PhotoItem]) -> None:
        """Take up further photographs; after a pause the time left is judged anew."""
        if self._num_done == self._num_items:
            self._begin, self._total_px, self._done_px = self._clock(), 0, 0
        self._num_items += len(items)
        self._pixels |= {item.name: item.num_pixels for item in items}
        self._total_px += sum(item.num_pixels for item in items)
        self._draw()

    def wait(self) -> None:
        """Show that nothing is at hand."""
        self._last = "waiting"
        self._draw()

    def say(self, line: str) -> None:
        """Print a line above the bar, or as the next one."""
        self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def tile(self, item: PhotoItem, num_done: int, num_tiles: int) -> None:
        """Show that one more tile of a photograph is done."""
        self._tile_px = item.num_pixels * num_done / num_tiles
        if num_tiles > 1:
            self._last = f"{item.name}, tile {num_done} of {num_tiles}"
        self._draw()

    def done(self, record: PhotoRecord) -> None:
        """Show that one more photograph is done, or failed."""
        self._num_done += 1
        self._done_px += self._pixels[record.name]
        self._tile_px = 0.0
        self._last = line_of(record)
        if record.state == "failed":
            self._say_of_photograph(f"{self._count()} {self._last}")
        elif self._bar is None and self._is_due():
            self._say_of_photograph(f"{self._count()} {self._last}; {self._times()}")
        self._draw()

    def left_s(self) -> float | None:
        """Return seconds to the end, if pixels go on as they went; None before the first ones."""
        done_px = self._done_px + self._tile_px
        if done_px <= 0:
            return None
        elapsed = self._clock() - self._begin
        return elapsed * max(self._total_px - done_px, 0.0) / done_px

    def _is_due(self) -> bool:
        is_last = self._num_done == self._num_items
        waited = self._clock() - self._written_at >= _INTERVAL_S
        return self._num_items <= _MAX_LINES or waited or is_last

    def _say_of_photograph(self, line: str) -> None:
        self._written_at = self._clock()
        self.say(line)

    def _draw(self) -> None:
        if self._bar is None:
            return
        self._bar.update(
            self._task,
            total=max(1, self._total_px),
            completed=min(self._done_px + self._tile_px, self._total_px),
            count=self._count(),
            times=self._times(),
            last=printable(self._last).replace("[", "\\["),
        )

    def _count(self) -> str:
        return f"{self._num_done:,}/{self._num_items:,}"

    def _times(self) -> str:
        left = self.left_s()
        elapsed = f"{clock_text(self._clock() - self._begin)} elapsed"
        return elapsed if left is None else f"{elapsed}, about {clock_text(left)} left"


def printable(text: str) -> str:
    """Return text that every stream takes and that does nothing to a terminal.

    What is no text in a file's name is escaped, and so are its control characters.
    """
    return _CONTROL.sub(
        lambda found: f"\\x{ord(found[0]):02x}", text.encode(errors="backslashreplace").decode()
    )


def line_of(record: PhotoRecord) -> str:
    """Return one line on a photograph and what became of it."""
    if record.state == "failed":
        return f"failed: {record.name} {record.error}"
    confidence = f", {record.confidence:.0%} sure" if record.confidence is not None else ""
    tiles = f", {record.num_tiles} tiles" if record.num_tiles > 1 else ""
    notes = "".join(f", {note}" for note in record.notes)
    what = choice_text(record.expert, record.level)
    return f"{record.name}: {what}{confidence}{tiles}{notes}, {record.seconds:.1f} s"


def choice_text(expert: int | None, level: int | None) -> str:
    """Return in words what was chosen for a photograph that is done."""
    return "left as it is" if expert is None else f"expert {expert}, level {level}"
