"""Calls beside a block."""

import threading
import time

import pytest

from expertree.repeating import repeating


def test_calls_come_while_the_block_runs_and_none_after_it() -> None:
    third = threading.Event()
    calls: list[int] = []

    def call() -> None:
        calls.append(threading.get_ident())
        if len(calls) == 3:
            third.set()

    with repeating(call, 0.01):
        assert third.wait(10)
    num_calls = len(calls)
    time.sleep(0.05)
    assert len(calls) == num_calls
    assert threading.get_ident() not in calls


def test_a_block_that_fails_ends_the_calls_at_once() -> None:
    calls: list[None] = []
    begin = time.monotonic()
    with pytest.raises(OSError, match="the block"), repeating(lambda: calls.append(None), 60.0):
        raise OSError("the block")
    assert time.monotonic() - begin < 10
    assert not calls


def test_a_call_that_fails_is_said_once_and_repeated(caplog: pytest.LogCaptureFixture) -> None:
    sixth = threading.Event()
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        if len(calls) == 6:
            sixth.set()
        if len(calls) != 3:
            raise KeyError("root")

    with repeating(call, 0.01):
        assert sixth.wait(10)
    assert caplog.text.count("KeyError: 'root'") == 2  # before the third, and after it
    assert caplog.text.count("a call failed that is repeated every 0.01 s") == 2
