"""Run work in threads so that a cancelled caller leaves nothing running behind."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def run_in_thread(
    pool: Executor, work: Callable[[], T], *, stop: threading.Event | None = None
) -> T:
    """Run work in a thread; if cancelled, return only once the thread no longer works on it.

    asyncio's own `run_in_executor` returns at once when it is cancelled: the thread goes on, with
    memory that nobody counts, and work that has not begun stays in the pool's queue.

    Args:
        pool: The pool of threads.
        work: The function to run; it is dropped if the caller is cancelled before it begins.
        stop: Event that is set when the caller is cancelled, so that the work can end early.

    Raises:
        Exception: Whatever the work raises.
    """
    held = [work]
    del work

    def run() -> T:
        return held.pop()()

    future = pool.submit(run)
    answer = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        if future.cancel():
            held.clear()
        while not answer.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({answer})
        if not answer.cancelled():
            answer.exception()  # nobody wants to know; unasked, asyncio would complain of it
        raise
