"""Work in threads that leaves nothing behind when nobody waits for it any more."""

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
    """Run work in a thread; what is cancelled ends when the thread no longer works on it.

    asyncio's own `run_in_executor` returns at once when it is cancelled: the thread goes on, with
    memory that nobody counts, and work whose turn has not come lies in the pool's queue until then.

    Args:
        pool: The threads.
        work: Run in one of them, unless it is cancelled before its turn; then it is let go of.
        stop: Set when the work is cancelled, for it to look at.

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
