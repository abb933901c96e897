"""What an endpoint does with a photograph, whichever way it was asked: decode, ask, encode."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from expertree.errors import MemoryShortageError, OptionError, TooLargeError, UnavailableError
from expertree.experts.shortage import is_out_of_memory
from expertree.images.containers import Header, read_header
from expertree.routing import Wish
from expertree.serving.budget import BYTES_PER_PIXEL, Budget, Share
from expertree.serving.engine import Engine, Model, OnTile, Routed, untouched
from expertree.serving.http.options import Wanted
from expertree.serving.photos import Decoded, RestoredFile, decode, encode
from expertree.serving.settings import Limits
from expertree.serving.threads import run_in_thread

T = TypeVar("T")


class Service:
    """An engine that takes files.

    Attributes:
        engine: What routes and restores.
        limits: On images and memory.
        budget: Memory that requests may take.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self.budget = Budget(limits.max_memory_bytes)
        self._codecs = ThreadPoolExecutor(limits.num_codec_threads, thread_name_prefix="codec")

    async def model(self) -> Model:
        """What answers.

        Raises:
            UnavailableError: If nothing does yet.
        """
        models = await self.engine.models()
        if not models:
            raise UnavailableError("the model is still loading; come back in a moment", 5.0)
        return models[0]

    async def route(self, image: bytes, wish: Wish, share: Share) -> tuple[Routed, Decoded]:
        """Choose the expert for a photograph.

        Args:
            image: Its file.
            wish: What the caller wants of the choice.
            share: Of the memory; grows by what the image takes as long as that is in work.

        Raises:
            ExpertreeError: For whatever is wrong with the image, the options or the engine.
        """
        with share.grown(self._num_bytes(image, wish)):
            decoded = await self._decode(image)
            return await self.engine.route(decoded.pixels, wish), decoded

    async def restore(
        self, image: bytes, wanted: Wanted, share: Share, *, on_tile: OnTile | None = None
    ) -> RestoredFile:
        """Restore a photograph; at strength 0 the expert is chosen and does not run.

        Args:
            image: Its file.
            wanted: What the caller wants, and of the answer's file.
            share: Of the memory; grows by what the image takes as long as that is in work.
            on_tile: Told of tiles.

        Raises:
            ExpertreeError: For whatever is wrong with the image, the options or the engine.
        """
        with share.grown(self._num_bytes(image, wanted.wish)):
            decoded = await self._decode(image)
            pixels, wish = decoded.pixels, wanted.wish
            if wish.strength == 0.0:
                restored = untouched(pixels, await self.engine.route(pixels, wish))
            else:
                whole = dataclasses.replace(wish, strength=1.0)
                restored = await self.engine.restore(pixels, whole, on_tile=on_tile)
            return await self._in_thread(lambda: encode(decoded, restored, wanted))

    def close(self) -> None:
        """Take no more."""
        self._codecs.shutdown(wait=False, cancel_futures=True)

    def check(self, image: bytes, wish: Wish) -> Header:
        """Look at what a file claims to be, before anything is decoded.

        Raises:
            UnsupportedFormatError: If it is no image that is read here.
            TooLargeError: If it claims more pixels than allowed.
            DamagedImageError: If its header cannot be read.
            OptionError: If it is too large to be restored without tiles, as it shall be.
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

    def _num_bytes(self, image: bytes, wish: Wish) -> int:
        """What an image takes beside its file while it is in work; refuses it as `check` does."""
        header = self.check(image, wish)
        return BYTES_PER_PIXEL * header.width_px * header.height_px

    async def _decode(self, image: bytes) -> Decoded:
        return await self._in_thread(lambda: decode(image, self.limits.max_pixels))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await run_in_thread(self._codecs, work)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryShortageError(
                "there is no memory for the image; come back later"
            ) from error
