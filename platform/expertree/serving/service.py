"""Decode a photograph, have the engine route or restore it, and encode the result."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from expertree.errors import MemoryShortageError, OptionError, TooLargeError, UnavailableError
from expertree.images.containers import Header, read_header
from expertree.images.tiling import OnTile
from expertree.memory import is_out_of_memory
from expertree.routing import Wish
from expertree.serving.budget import BYTES_PER_PIXEL, MemoryBudget, MemoryShare
from expertree.serving.engine import Engine, Model, Routed, untouched
from expertree.serving.http.options import RequestOptions
from expertree.serving.photos import DecodedPhoto, RestoredFile, choose_format, decode, encode
from expertree.serving.settings import Limits
from expertree.serving.threads import run_in_thread

T = TypeVar("T")


class Service:
    """Routes and restores photographs given as files, within limits on pixels and memory.

    Attributes:
        engine: The engine that routes and restores.
        limits: Limits on images and memory.
        budget: Memory that requests may take.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self.budget = MemoryBudget(limits.max_memory_bytes)
        self._codecs = ThreadPoolExecutor(limits.num_codec_threads, thread_name_prefix="codec")
        self._headers = ThreadPoolExecutor(1, thread_name_prefix="header")

    async def model(self) -> Model:
        """Return the model that answers requests.

        Raises:
            UnavailableError: If no model is loaded yet.
        """
        models = await self.engine.models()
        if not models:
            raise UnavailableError("the model is still loading; come back in a moment", 5.0)
        return models[0]

    async def route(
        self, image: bytes, wish: Wish, share: MemoryShare
    ) -> tuple[Routed, DecodedPhoto]:
        """Choose the expert for a photograph.

        Args:
            image: The photograph's file.
            wish: What the caller wants of the choice.
            share: The request's share of the memory, which grows while the image is in work.

        Raises:
            ExpertreeError: For whatever is wrong with the image, the options or the engine.
        """
        with share.grown(await self._num_bytes(image, wish)):
            decoded = await self._decode(image)
            return await self.engine.route(decoded.pixels, wish), decoded

    async def restore(
        self,
        image: bytes,
        options: RequestOptions,
        share: MemoryShare,
        *,
        on_tile: OnTile | None = None,
    ) -> RestoredFile:
        """Restore a photograph; at strength 0 the expert is chosen and does not run.

        Args:
            image: The photograph's file.
            options: What the caller wants of the restoration and of the answer's file.
            share: The request's share of the memory, which grows while the image is in work.
            on_tile: Called after each tile; see `OnTile`.

        Raises:
            ExpertreeError: For whatever is wrong with the image, the options or the engine.
        """
        with share.grown(await self._num_bytes(image, options.wish)):
            decoded = await self._decode(image, options)
            pixels, wish = decoded.pixels, options.wish
            if wish.strength == 0.0:
                restored = untouched(pixels, await self.engine.route(pixels, wish))
            else:
                whole = dataclasses.replace(wish, strength=1.0)
                restored = await self.engine.restore(pixels, whole, on_tile=on_tile)
            return await self._in_thread(lambda: encode(decoded, restored, options))

    def close(self) -> None:
        """Take no more images, and cancel those that wait to be decoded or encoded."""
        for pool in (self._codecs, self._headers):
            pool.shutdown(wait=False, cancel_futures=True)

    def check(self, image: bytes, wish: Wish) -> Header:
        """Return an image's header if the image may be restored; nothing is decoded.

        Raises:
            UnsupportedFormatError: If it is no image that is read here.
            TooLargeError: If it claims more pixels than allowed.
            DamagedImageError: If its header cannot be read.
            OptionError: If `wish` asks for no tiles and it is too large for that.
        """
        header = read_header(image)
        num_pixels = header.width_px * header.height_px
        if num_pixels > self.limits.max_pixels:
            raise TooLargeError(
                f"claims {header.width_px:,} x {header.height_px:,} = {num_pixels:,} pixels, of "
                f"which at most {self.limits.max_pixels:,} are allowed"
            )
        longest_px = max(header.width_px, header.height_px)
        if wish.tile_px == 0 and longest_px > self.limits.max_tile_px:
            raise OptionError(
                f"without tiles (tile=0) an image has at most {self.limits.max_tile_px} pixels on "
                f"a side, and this one {longest_px}"
            )
        return header

    async def checked(self, image: bytes, wish: Wish) -> Header:
        """Return an image's header as `check` does, in a thread that keeps nobody else waiting."""
        return await run_in_thread(self._headers, lambda: self.check(image, wish))

    async def _num_bytes(self, image: bytes, wish: Wish) -> int:
        """Return the bytes that an image in work takes beside its file; raise as `check` does."""
        header = await self.checked(image, wish)
        return BYTES_PER_PIXEL * header.width_px * header.height_px

    async def _decode(self, image: bytes, options: RequestOptions | None = None) -> DecodedPhoto:
        def work() -> DecodedPhoto:
            decoded = decode(image, self.limits.max_pixels)
            if options is not None:
                choose_format(decoded.photo, options)  # an error now, before an expert runs
            return decoded

        return await self._in_thread(work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await run_in_thread(self._codecs, work)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryShortageError(
                "there is no memory for the image; come back later"
            ) from error
