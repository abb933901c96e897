"""The engine of the gateways, which sends images and tiles to replicas; independent of Ray.

A request belongs to one release from its first step to its last, so that an update in between never
has one bundle's routers choose among another's experts.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from expertree.embedding.views import visible_part
from expertree.errors import (
    MemoryShortageError,
    OptionError,
    OverloadError,
    UnavailableError,
)
from expertree.images.tiling import Canvas, TilePlan
from expertree.restorer.tiles import plans_to_try
from expertree.routing import TilePx, Wish
from expertree.serving.deployments import GatewayConfig
from expertree.serving.engine import (
    Model,
    OnTile,
    Pixels,
    Restored,
    Routed,
    untouched,
)
from expertree.serving.replica_work import RouteRequest, Tile, TileDone, to_pixels

T = TypeVar("T")

MAX_LOSSES = 3
"""Times that a piece of work is lost with its replica before the request is given up."""

PAUSE_S = 0.05
"""Seconds before a piece of work that was lost or refused is offered again."""


class LostError(Exception):
    """A replica went away with a piece of work; another one can do it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """One bundle on replicas of its own.

    Attributes:
        app: Name of its application.
        bundle: Directory or URI that it was read from.
        model: Description of the model.
        view: View that its extractor has of an image; a name in `views.VIEWS`.
        view_px: Side of that view.
        pools: Deployment that holds each expert, by node.
        multiples_px: Multiple of the sides on which each expert works, by node.
        multiplexed: Deployments whose replicas hold some of their experts only.
    """

    app: str
    bundle: str
    model: Model
    view: str
    view_px: int
    pools: Mapping[int, str]
    multiples_px: Mapping[int, int]
    multiplexed: frozenset[str]


class Backend(Protocol):
    """Calls to the replicas of a release.

    Both raise `LostError` where a replica went away, `OverloadError` where too many wait.
    """

    async def judge(self, release: Release, question: RouteRequest) -> Routed | OptionError:
        """Choose the expert for an image."""
        ...

    async def restore(self, release: Release, tile: Tile) -> TileDone:
        """Run an expert on a tile."""
        ...


class ReleaseEngine:
    """An `Engine` over the replicas of whichever release is current."""

    def __init__(self, backend: Backend, config: GatewayConfig) -> None:
        """Begin without a release: every request is told to come again.

        Args:
            backend: Calls to replicas.
            config: Settings of the gateway, such as the tiles at once.
        """
        self._backend, self._config = backend, config
        self._current: Release | None = None
        self._in_use: Counter[str] = Counter()

    @property
    def current(self) -> Release | None:
        """The release that new requests go to."""
        return self._current

    def switch(self, release: Release) -> None:
        """Send new requests to another release; those that have begun stay where they are."""
        self._current = release

    def in_use(self) -> tuple[str, ...]:
        """Return the applications of releases that requests are still on."""
        return tuple(sorted(app for app, count in self._in_use.items() if count > 0))

    async def models(self) -> tuple[Model, ...]:
        """Return the model of the current release, if there is one."""
        return (self._current.model,) if self._current is not None else ()

    async def ready(self) -> bool:
        """Return whether there is a current release."""
        return self._current is not None

    async def route(self, pixels: Pixels, wish: Wish) -> Routed:
        """Choose the expert for an image on the current release; see `Engine.route`."""
        with self._pinned() as release:
            return await self._judge(release, pixels, wish)

    async def restore(
        self, pixels: Pixels, wish: Wish, *, on_tile: OnTile | None = None
    ) -> Restored:
        """Restore an image on the current release, tile by tile; see `Engine.restore`."""
        with self._pinned() as release:
            return await self._restore(release, pixels, wish, on_tile)

    @contextlib.contextmanager
    def _pinned(self) -> Iterator[Release]:
        release = self._current
        if release is None:
            raise UnavailableError("the model is still loading; come back in a moment", 5.0)
        self._in_use[release.app] += 1
        try:
            yield release
        finally:
            self._in_use[release.app] -= 1

    async def _judge(self, release: Release, pixels: Pixels, wish: Wish) -> Routed:
        begin = time.perf_counter()
        part = visible_part(pixels, release.view, release.view_px)
        question = RouteRequest(part=np.ascontiguousarray(part), wish=wish)
        answer = await self._retry(lambda: self._backend.judge(release, question), patient=False)
        if isinstance(answer, OptionError):
            raise answer
        route_s = answer.seconds["route"]
        queue_s = time.perf_counter() - begin - route_s
        return dataclasses.replace(answer, seconds={"queue": queue_s, "route": route_s})

    async def _restore(
        self, release: Release, pixels: Pixels, wish: Wish, on_tile: OnTile | None
    ) -> Restored:
        routed = await self._judge(release, pixels, wish)
        if routed.expert is None:
            return untouched(pixels, routed)
        begin = time.perf_counter()
        work = _Image(pixels=pixels, expert=routed.expert, on_tile=on_tile)
        plans = _plans(pixels, wish.tile_px, release.multiples_px[routed.expert])
        for num_retries, plan in enumerate(plans):
            restored, network_s = await self._tiles(release, work, plan)
            if restored is None:
                continue
            elapsed_s = time.perf_counter() - begin
            # Of tiles that run at the same time counts what was waited for.
            restore_s = min(network_s, elapsed_s)
            queue_s = routed.seconds["queue"] + elapsed_s - restore_s
            return Restored(
                pixels=restored,
                route=routed,
                num_tiles=plan.num_tiles,
                num_retries=num_retries,
                seconds={**routed.seconds, "queue": queue_s, "restore": restore_s},
            )
        raise MemoryShortageError(
            "there is not enough memory for the image; let tiles be chosen (tile=auto), send less "
            "of it, or come back later",
            self._config.retry_after_s,
        )

    async def _tiles(
        self, release: Release, work: "_Image", plan: TilePlan
    ) -> tuple[Pixels | None, float]:
        """Return an image restored by a plan, or None if memory ran out, and the networks' time."""
        places = list(plan.tiles())
        if len(places) == 1:
            done = await self._tile(release, work.whole(), patient=False)
            if done.pixels is not None and work.on_tile is not None:
                work.on_tile(1, 1)
            return done.pixels, done.seconds
        canvas = Canvas((1, 3, *work.pixels.shape[:2]), plan)
        network_s = 0.0
        tiles: list[asyncio.Task[TileDone]] = []
        try:
            for num_added, place in enumerate(places):
                while len(tiles) < min(len(places), num_added + self._config.tiles_at_once):
                    tile = work.tile(plan, places[len(tiles)])
                    # Once a tile is done, the others wait for their turn and are not refused.
                    task = asyncio.create_task(self._tile(release, tile, patient=num_added > 0))
                    task.add_done_callback(_look)
                    tiles.append(task)
                done = await tiles[num_added]
                if done.pixels is None:
                    return None, network_s
                network_s += done.seconds
                await asyncio.to_thread(_add, canvas, place, done.pixels)
                if work.on_tile is not None:
                    work.on_tile(num_added + 1, len(places))
        finally:
            for task_left in tiles:
                task_left.cancel()
        dtype = work.pixels.dtype
        return await asyncio.to_thread(to_pixels, canvas.blended[0], dtype), network_s

    async def _tile(self, release: Release, tile: Tile, *, patient: bool) -> TileDone:
        return await self._retry(lambda: self._backend.restore(release, tile), patient=patient)

    async def _retry(self, call: Callable[[], Awaitable[T]], *, patient: bool) -> T:
        """Call again where a replica was lost; where too many wait, only if patient."""
        num_losses = 0
        while True:
            try:
                return await call()
            except LostError as error:
                num_losses += 1
                if num_losses == MAX_LOSSES:
                    raise UnavailableError(
                        "what worked on the image went away, and so did its replacement; come "
                        "back in a moment",
                        self._config.retry_after_s,
                    ) from error
            except UnavailableError:
                raise
            except OverloadError:
                if not patient:
                    raise
            await asyncio.sleep(PAUSE_S)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Image:
    """An image on its way through an expert."""

    pixels: Pixels
    expert: int
    on_tile: OnTile | None

    def whole(self) -> Tile:
        return Tile(expert=self.expert, pixels=self.pixels, whole=True)

    def tile(self, plan: TilePlan, place: tuple[int, int]) -> Tile:
        rows, columns = plan.extent(place)
        part = np.ascontiguousarray(self.pixels[rows, columns])
        return Tile(expert=self.expert, pixels=part, whole=False)


def _plans(pixels: Pixels, tile_px: TilePx, multiple_px: int) -> tuple[TilePlan, ...]:
    height_px, width_px = pixels.shape[:2]
    try:
        return plans_to_try(height_px, width_px, tile_px=tile_px, multiple_px=multiple_px)
    except ValueError as error:
        raise OptionError(str(error)) from error


def _look(task: asyncio.Task[TileDone]) -> None:
    """Look at a task's error, since asyncio would complain of one that nobody looked at."""
    if not task.cancelled():
        task.exception()


def _add(canvas: Canvas, place: tuple[int, int], pixels: np.ndarray[Any, Any]) -> None:
    """Blend a tile from a replica into the canvas; it is copied, as its memory is read-only."""
    restored: Tensor = torch.from_numpy(pixels.copy())
    canvas.add(place, restored[None])
