"""A function that is called again and again beside other work."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeating(call: Callable[[], object], every_s: float) -> Iterator[None]:
    """Call a function on a thread of its own while the block runs, every so many seconds.

    Args:
        call: What it raises ends the calls, not the block; nothing is called after the block.
        every_s: Seconds before the first call and between one's end and the next.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            call()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
