"""Which files of a folder that fills are taken, and when."""

from expertree.batch.arrivals import SETTLE_S, Arrivals
from expertree.batch.listing import PhotoItem


def item(name: str = "a.png", num_bytes: int = 10, mtime_ns: int = 20) -> PhotoItem:
    return PhotoItem(name=name, output=name, num_bytes=num_bytes, mtime_ns=mtime_ns, num_pixels=1)


def test_a_file_is_taken_once_when_it_has_stood_still() -> None:
    arrivals = Arrivals()
    assert arrivals.take([item()], 0.0) == ()
    assert arrivals.take([item()], SETTLE_S - 0.1) == ()
    assert arrivals.num_waiting == 1
    assert arrivals.take([item()], SETTLE_S) == (item(),)
    assert arrivals.take([item()], SETTLE_S + 60.0) == ()
    assert arrivals.num_waiting == 0


def test_one_that_grows_or_changes_in_place_is_waited_for() -> None:
    arrivals = Arrivals()
    looks = [item(num_bytes=10), item(num_bytes=20), item(num_bytes=20, mtime_ns=21)]
    for second, look in enumerate(looks):
        assert arrivals.take([look], float(second)) == ()
    assert arrivals.take([looks[-1]], 2.0 + SETTLE_S) == (looks[-1],)


def test_what_is_done_already_is_passed_over_until_it_changes() -> None:
    arrivals = Arrivals()
    arrivals.pass_over([item()])
    assert arrivals.take([item(), item("b.png")], 0.0) == ()
    assert arrivals.take([item(), item("b.png")], SETTLE_S) == (item("b.png"),)
    assert arrivals.take([item(mtime_ns=21)], 10.0) == ()
    assert arrivals.take([item(mtime_ns=21)], 20.0) == (item(mtime_ns=21),)


def test_an_empty_file_is_waited_for_as_long_as_it_is_empty() -> None:
    arrivals = Arrivals()
    for second in range(100):
        assert arrivals.take([item(num_bytes=0)], float(second)) == ()
    assert arrivals.take([item()], 100.0) == ()
    assert arrivals.take([item()], 100.0 + SETTLE_S) == (item(),)


def test_what_changed_is_taken_again_and_what_was_away_too() -> None:
    arrivals = Arrivals()
    arrivals.take([item()], 0.0)
    arrivals.take([item()], 10.0)
    newer = item(mtime_ns=99)
    assert arrivals.take([newer], 20.0) == ()
    assert arrivals.take([newer], 30.0) == (newer,)
    assert arrivals.take([], 40.0) == ()
    assert arrivals.take([newer], 50.0) == ()
    assert arrivals.take([newer], 60.0) == (newer,)


def test_what_failed_for_what_may_pass_is_due_later_each_time_and_always_within_an_hour() -> None:
    arrivals, now_s, waits_s = Arrivals(), 0.0, []
    arrivals.take([item()], now_s)
    for _ in range(9):
        failed_s = now_s
        while not arrivals.take([item()], now_s):
            now_s += 1.0
        waits_s.append(now_s - failed_s)
        arrivals.try_again("a.png", now_s)
    assert waits_s == [SETTLE_S, 60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_what_fails_for_months_is_tried_each_hour_still() -> None:
    arrivals, now_s = Arrivals(), 0.0
    arrivals.take([item("a.jpg")], now_s)
    for _ in range(1100):
        now_s += 3600.0
        assert [one.name for one in arrivals.take([item("a.jpg")], now_s)] == ["a.jpg"]
        arrivals.try_again("a.jpg", now_s)
