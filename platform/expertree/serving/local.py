"""The engine over one `Restorer`, in threads of this process."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from expertree.errors import MemoryShortageError, OptionError, OverloadError
from expertree.images.tiling import OnTile
from expertree.memory import is_out_of_memory
from expertree.restorer import Restorer
from expertree.routing import Route, Wish
from expertree.serving.describe import describe_model, describe_route
from expertree.serving.engine import (
    Model,
    Pixels,
    RestoredPixels,
    Routed,
    to_pixels,
    to_tensor,
    untouched,
)
from expertree.serving.threads import run_in_thread

T = TypeVar("T")


class _StoppedError(Exception):
    """The work must stop, since nobody waits for the image any more."""


class LocalEngine:
    """An `Engine` whose images are restored in threads of this process.

    Attributes:
        restorer: An opened bundle.
        model: Description of the bundle.
    """

    def __init__(
        self,
        restorer: Restorer,
        *,
        model_id: str | None = None,
        num_threads: int = 1,
        max_queued: int = 32,
    ) -> None:
        """Make an engine, whose threads start with the first requests.

        Args:
            restorer: An opened bundle.
            model_id: Name of the model in URLs; the beginning of its digest by default.
            num_threads: Images that are worked on at a time.
            max_queued: Images that may wait for a thread; the next one is refused.
        """
        self.restorer = restorer
        self.model = describe_model(restorer.bundle, model_id)
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="restore")
        self._places = num_threads + max_queued
        self._taken = 0

    async def route(self, pixels: Pixels, wish: Wish) -> Routed:
        """Choose the expert for an image, in a thread; see `Engine.route`."""

        def work(queue_s: float, _: threading.Event) -> Routed:
            return self._route(pixels, wish, queue_s)

        return await self._in_thread(work)

    async def restore(
        self, pixels: Pixels, wish: Wish, *, on_tile: OnTile | None = None
    ) -> RestoredPixels:
        """Restore an image in a thread; see `Engine.restore`."""
        loop = asyncio.get_running_loop()

        def work(queue_s: float, stop: threading.Event) -> RestoredPixels:
            def tile_done(num_done: int, num_tiles: int) -> None:
                if stop.is_set():
                    raise _StoppedError
                if on_tile is not None:
                    loop.call_soon_threadsafe(on_tile, num_done, num_tiles)

            return self._restore(pixels, wish, queue_s, tile_done)

        return await self._in_thread(work)

    async def models(self) -> tuple[Model, ...]:
        """Return the one model."""
        return (self.model,)

    async def ready(self) -> bool:
        """Return True, since the model is loaded."""
        return True

    def close(self) -> None:
        """Wait for images that are being restored, and take no more."""
        self._pool.shutdown(cancel_futures=True)

    async def _in_thread(self, work: Callable[[float, threading.Event], T]) -> T:
        """Run work in a thread, which is told to stop, and waited for, if this is cancelled."""
        stop, asked = threading.Event(), time.perf_counter()

        def timed() -> T:
            if stop.is_set():
                raise _StoppedError
            return work(time.perf_counter() - asked, stop)

        with self._place():
            return await run_in_thread(self._pool, timed, stop=stop)

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._taken >= self._places:
            raise OverloadError(f"{self._taken} images wait already; come back later")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    def _route(self, pixels: Pixels, wish: Wish, queue_s: float) -> Routed:
        begin = time.perf_counter()
        with _named_errors():
            route = self.restorer.route(to_tensor(pixels), wish)
        return self._described(route, queue_s, time.perf_counter() - begin)

    def _restore(
        self, pixels: Pixels, wish: Wish, queue_s: float, on_tile: OnTile
    ) -> RestoredPixels:
        with _named_errors():
            done = self.restorer.restore(to_tensor(pixels), wish, on_tile=on_tile)
        routed = self._described(done.route, queue_s, done.seconds["route"])
        if done.num_tiles == 0:
            return untouched(pixels, routed)
        return RestoredPixels(
            pixels=to_pixels(done.image, pixels.dtype),
            route=routed,
            num_tiles=done.num_tiles,
            num_retries=done.num_retries,
            seconds={**routed.seconds, "restore": done.seconds["restore"]},
            layers=done.layers,
        )

    def _described(self, route: Route, queue_s: float, route_s: float) -> Routed:
        bundle = self.restorer.bundle
        return describe_route(
            route,
            bundle.tree,
            bundle.guide,
            model=self.model.digest,
            seconds={"queue": queue_s, "route": route_s},
        )


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Turn a restorer's errors within the block into those that gateways know."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortageError(
            "there is not enough memory for the image; let tiles be chosen (tile=auto), send less "
            "of it, or come back later"
        ) from error
    except ValueError as error:
        raise OptionError(str(error)) from error
