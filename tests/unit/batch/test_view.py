"""How far a batch is: plain lines, a bar, and time left by pixels."""

import io

import pytest
from rich.console import Console

from expertree.batch.listing import PhotoItem
from expertree.batch.manifest import PhotoRecord
from expertree.batch.view import BatchView, printable


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def items(*pixels: int) -> list[PhotoItem]:
    return [
        PhotoItem(name=f"{i}.png", output=f"{i}.png", num_bytes=1, mtime_ns=1, num_pixels=number)
        for i, number in enumerate(pixels)
    ]


def record(name: str, **changes) -> PhotoRecord:
    values = {"state": "done", "name": name, "num_bytes": 1, "mtime_ns": 1, "output": name}
    chosen = {"model": "m", "options": "o", "expert": 4, "level": 1, "confidence": 0.83}
    return PhotoRecord(**{**values, **chosen, **changes})


def console(*, is_terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=120)


def test_each_photograph_gets_a_line_with_count_route_and_times() -> None:
    clock, out = Clock(), console()
    with BatchView(items(100, 300), out, clock) as view:
        clock.now += 2
        view.done(record("0.png", seconds=1.9, num_tiles=3, notes=("its palette became RGB",)))
        view.done(record("1.png", state="failed", error="is damaged"))
    first, second = out.file.getvalue().splitlines()
    route, times = first.split("; ")
    assert route == "1/2 0.png: expert 4, level 1, 83% sure, 3 tiles, its palette became RGB, 1.9 s"
    assert times == "0:02 elapsed, about 0:06 left"
    assert second == "2/2 failed: 1.png is damaged"


def test_time_left_is_judged_by_pixels_and_tiles() -> None:
    clock = Clock()
    listed = items(100, 100, 800)
    view = BatchView(listed, console(), clock)
    assert view.left_s() is None
    clock.now += 10
    view.done(record("0.png"))
    assert view.left_s() == pytest.approx(90)
    view.done(record("1.png"))
    view.tile(listed[2], 1, 2)
    clock.now += 20
    assert view.left_s() == pytest.approx(30 * 400 / 600)


def test_of_many_photographs_one_line_stands_for_those_of_ten_seconds() -> None:
    clock, out = Clock(), console()
    with BatchView(items(*[1] * 1000), out, clock) as view:
        for number in range(1000):
            clock.now += 0.1
            view.done(record(f"{number}.png"))
    lines = out.file.getvalue().splitlines()
    assert 9 <= len(lines) <= 11
    assert lines[-1].startswith("1,000/1,000")


def test_a_terminal_gets_a_bar_with_names_that_look_like_markup() -> None:
    out = console(is_terminal=True)
    listed = [PhotoItem(name="[red]a.png", output="a", num_bytes=1, mtime_ns=1, num_pixels=9)]
    with BatchView(listed, out) as view:
        view.tile(listed[0], 1, 4)
        view.done(record("[red]a.png", state="failed", error="is [damaged]"))
        assert view._bar is not None
        view._bar.refresh()
    shown = out.file.getvalue()
    assert "1/1" in shown
    assert "failed: [red]a.png is [damaged]" in shown


def test_the_bar_of_a_watched_folder_says_that_it_waits_once_the_model_is_there() -> None:
    out = console(is_terminal=True)
    with BatchView([], out) as view:
        assert view._bar is not None
        view._bar.refresh()
        assert "reading the model" in out.file.getvalue()
        out.file.truncate(0)
        view.wait()
        view._bar.refresh()
        shown = out.file.getvalue()
    assert "waiting" in shown
    assert "reading the model" not in shown


def test_a_name_does_nothing_to_a_terminal() -> None:
    assert printable("a\x1b[2J\x07é\udcff.png\n") == r"a\x1b[2J\x07é\udcff.png" + "\n"
