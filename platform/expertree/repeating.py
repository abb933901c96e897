"""Repeated calls of a function on a thread beside other work."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def repeating(call: Callable[[], object], every_s: float) -> Iterator[None]:
    """Call a function every `every_s` seconds on a thread of its own while the block runs.

    Args:
        call: The function. An error that it raises is logged, once while it stays the same, and
            ends neither the calls nor the block. There are no calls after the block.
        every_s: Seconds before the first call, and from the end of each call to the next.
    """
    over = threading.Event()

    def repeat() -> None:
        said = None
        while not over.wait(every_s):
            try:
                call()
                said = None
            except Exception as error:
                if said != repr(error):
                    said = repr(error)
                    logger.exception("a call failed that is repeated every %g s", every_s)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
