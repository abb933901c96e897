"""The engine of the gateways, which sends images and tiles to replicas; independent of Ray.

A request belongs to one release from its first step to its last, so that an update in between never
has one bundle's routers choose among another's experts.
"""

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from expertree.embedding.views import visible_part
from expertree.errors import (
    ExpertreeError,
    MemoryShortageError,
    OptionError,
    OverloadError,
    UnavailableError,
)
from expertree.experts.choices import shares_of
from expertree.experts.conditions import WINDOW, window_of
from expertree.images.tiling import Canvas, OnTile, Place, TilePlan, blend_tiles
from expertree.restorer.tiles import plans_to_try, restore_in_tiles
from expertree.routing import TilePx, Wish
from expertree.serving.deployments import GatewayConfig
from expertree.serving.engine import (
    Model,
    Pixels,
    RestoredPixels,
    Routed,
    to_pixels,
    to_tensor,
    untouched,
)
from expertree.serving.replica_work import Judged, RouteRequest, Telling, Tile, TileResult

T = TypeVar("T")

MAX_LOSSES = 3
"""Times that a piece of work is lost with its replica before the request is given up."""

RETRY_PAUSE_S = 0.05
"""Seconds before a piece of work that was lost or refused is offered again."""


class ReplicaLostError(Exception):
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
        looks_at_all: Whether experts are told of more of an image than its view shows.
    """

    app: str
    bundle: str
    model: Model
    view: str
    view_px: int
    pools: Mapping[int, str]
    multiples_px: Mapping[int, int]
    multiplexed: frozenset[str]
    looks_at_all: bool


class Backend(Protocol):
    """Calls to the replicas of a release.

    Both raise `ReplicaLostError` where a replica went away, `OverloadError` where too many wait.
    """

    async def judge(self, release: Release, request: RouteRequest) -> Judged | ExpertreeError:
        """Choose the expert for an image, and find what it is told of it; see `Judge.judge`."""
        ...

    async def restore(self, release: Release, tile: Tile) -> TileResult:
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

    @property
    def tiles_at_once(self) -> int:
        """Tiles of an image that are sent to replicas at a time."""
        return self._config.tiles_at_once

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
            return (await self._judge(release, pixels, wish, tells=False)).routed

    async def restore(
        self, pixels: Pixels, wish: Wish, *, on_tile: OnTile | None = None
    ) -> RestoredPixels:
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

    async def _judge(self, release: Release, pixels: Pixels, wish: Wish, *, tells: bool) -> Judged:
        begin = time.perf_counter()
        part = visible_part(pixels, release.view, release.view_px)
        request = RouteRequest(
            part=np.ascontiguousarray(part),
            wish=wish,
            tells=tells,
            whole=np.ascontiguousarray(pixels) if tells and release.looks_at_all else None,
        )
        answer = await self._retry(lambda: self._backend.judge(release, request), patient=False)
        if isinstance(answer, ExpertreeError):
            raise answer
        route_s = answer.routed.seconds["route"]
        queue_s = time.perf_counter() - begin - route_s
        seconds = {"queue": queue_s, "route": route_s}
        return dataclasses.replace(
            answer, routed=dataclasses.replace(answer.routed, seconds=seconds)
        )

    async def _restore(
        self, release: Release, pixels: Pixels, wish: Wish, on_tile: OnTile | None
    ) -> RestoredPixels:
        judged = await self._judge(release, pixels, wish, tells=True)
        routed = judged.routed
        if routed.expert is None:
            return untouched(pixels, routed)
        begin = time.perf_counter()
        plans = _plans(pixels, wish.tile_px, release.multiples_px[routed.expert])
        work = _ImageOnReplicas(
            self,
            release=release,
            expert=routed.expert,
            pixels=pixels,
            told=judged.told,
            on_tile=on_tile,
        )
        tiled = await restore_in_tiles(plans, work.restore)
        restored = await asyncio.to_thread(to_pixels, tiled.image[0], pixels.dtype)
        elapsed_s = time.perf_counter() - begin
        # Of tiles that run at the same time counts what was waited for.
        restore_s = min(work.network_s, elapsed_s)
        queue_s = routed.seconds["queue"] + elapsed_s - restore_s
        return RestoredPixels(
            pixels=restored,
            route=routed,
            num_tiles=tiled.num_tiles,
            num_retries=tiled.num_retries,
            seconds={**routed.seconds, "queue": queue_s, "restore": restore_s},
            layers=shares_of(work.chosen),
        )

    async def restore_tile(
        self, release: Release, tile: Tile, *, patient: bool
    ) -> tuple[np.ndarray[Any, Any], TileResult]:
        """Have an expert restore a tile; another replica takes over what one has lost.

        Args:
            release: The release whose expert it is.
            tile: The tile.
            patient: Whether to wait where too many wait already.

        Returns:
            Its restored pixels, and the whole result.

        Raises:
            MemoryShortageError: If memory does not suffice for the tile.
            OverloadError: If too many wait, and this is not patient.
            UnavailableError: If it was lost with its replica again and again.
        """
        done = await self._retry(lambda: self._backend.restore(release, tile), patient=patient)
        if done.pixels is None:
            raise MemoryShortageError(
                "there is not enough memory for the image; let tiles be chosen (tile=auto), send "
                "less of it, or come back later",
                self._config.retry_after_s,
            )
        return done.pixels, done

    async def _retry(self, call: Callable[[], Awaitable[T]], *, patient: bool) -> T:
        """Call again where a replica was lost; where too many wait, only if patient."""
        num_losses = 0
        while True:
            try:
                return await call()
            except ReplicaLostError as error:
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
            await asyncio.sleep(RETRY_PAUSE_S)


class _ImageOnReplicas:
    """An image whose tiles go through an expert on replicas, several at a time.

    Attributes:
        network_s: Seconds that the tiles of the last plan took in networks, all together.
        chosen: What layers with experts of their own chose for each of them.
    """

    def __init__(
        self,
        engine: ReleaseEngine,
        *,
        release: Release,
        expert: int,
        pixels: Pixels,
        told: Telling,
        on_tile: OnTile | None,
    ) -> None:
        self._engine, self._release = engine, release
        self._expert, self._pixels, self._on_tile = expert, pixels, on_tile
        self._told = told
        self._num_done = 0
        self.network_s = 0.0
        self.chosen: list[Tensor] = []

    async def restore(self, plan: TilePlan) -> Tensor:
        """Restore the image by a plan, for `restore_in_tiles`."""

        def tell(num_done: int, num_tiles: int) -> None:
            self._num_done = num_done
            if self._on_tile is not None:
                self._on_tile(num_done, num_tiles)

        self._num_done, self.network_s, self.chosen = 0, 0.0, []
        canvas = Canvas((1, 3, *self._pixels.shape[:2]), plan)
        tiles = _begun_ahead(functools.partial(self._tile, plan), plan, self._engine.tiles_at_once)
        return await blend_tiles(tiles, canvas, on_tile=tell, call=asyncio.to_thread)

    async def _tile(self, plan: TilePlan, place: Place) -> Tensor:
        rows, columns = plan.extent(place)
        part = np.ascontiguousarray(self._pixels[rows, columns])
        told = self._told
        if told:
            told = {**told, WINDOW: window_of(rows, columns, *self._pixels.shape[:2]).numpy()}
        tile = Tile(expert=self._expert, pixels=part, whole=plan.num_tiles == 1, told=told)
        # Once a tile is done, the others wait for their turn and are not refused.
        pixels, done = await self._engine.restore_tile(
            self._release, tile, patient=self._num_done > 0
        )
        self.network_s += done.seconds
        if done.chosen is not None:
            self.chosen.append(torch.from_numpy(done.chosen.copy()))
        return await asyncio.to_thread(_to_batch, pixels, whole=tile.whole)


def _begun_ahead(
    begin: Callable[[Place], Coroutine[Any, Any, Tensor]], plan: TilePlan, num_at_once: int
) -> Generator[Awaitable[Tensor], None, None]:
    """Give the tiles of a plan in its order, each begun before it is asked for.

    So many are in work at a time; when this is closed, those that are left are cancelled.
    """
    begun: deque[asyncio.Task[Tensor]] = deque()
    places = plan.tiles()
    try:
        while True:
            for place in itertools.islice(places, num_at_once - len(begun)):
                begun.append(asyncio.create_task(begin(place)))
                begun[-1].add_done_callback(_retrieve_error)
            if not begun:
                return
            yield begun.popleft()
    finally:
        for task in begun:
            task.cancel()


def _plans(pixels: Pixels, tile_px: TilePx, multiple_px: int) -> tuple[TilePlan, ...]:
    height_px, width_px = pixels.shape[:2]
    try:
        return plans_to_try(height_px, width_px, tile_px=tile_px, multiple_px=multiple_px)
    except ValueError as error:
        raise OptionError(str(error)) from error


def _retrieve_error(task: asyncio.Task[Tensor]) -> None:
    """Retrieve a task's error, since asyncio would complain of one that nobody retrieves."""
    if not task.cancelled():
        task.exception()


def _to_batch(pixels: np.ndarray[Any, Any], *, whole: bool) -> Float[Tensor, "1 3 h w"]:
    """Return a tile from a replica as a tensor; it is copied, as its memory is read-only."""
    return (to_tensor(pixels) if whole else torch.from_numpy(pixels.copy()))[None]
