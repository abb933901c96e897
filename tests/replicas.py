"""Replicas in this process, and gateways' engines over them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from expertree import Restorer
from expertree.errors import ExpertreeError
from expertree.serving.deployments import GatewayConfig
from expertree.serving.describe import describe_model
from expertree.serving.remote import Release, ReleaseEngine
from expertree.serving.replica_work import (
    Judge,
    Judged,
    RouteRequest,
    Tile,
    TileResult,
    TileWorker,
)

CONFIG = GatewayConfig()


class Replicas:
    """A backend in this process; the last of tiles that are asked for together is done first."""

    def __init__(self, restorer: Restorer) -> None:
        self.model = describe_model(restorer.bundle)
        self.judging, self.worker = Judge(restorer, self.model.digest), TileWorker(restorer)
        self.tiles: list[Tile] = []
        self.apps: set[str] = set()
        self.most_at_once = self.at_once = 0
        self.before: Callable[[Tile, int], object] = lambda _tile, _number: None

    async def judge(self, release: Release, request: RouteRequest) -> Judged | ExpertreeError:
        self.apps.add(release.app)
        return self.judging.judge([request])[0]

    async def restore(self, release: Release, tile: Tile) -> TileResult:
        self.apps.add(release.app)
        self.tiles.append(tile)
        number = len(self.tiles)
        async with self._counted():
            self.before(tile, number)
            await asyncio.sleep(0.02 / number)
            return self.worker.run([tile])[0]

    @contextlib.asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield
        finally:
            self.at_once -= 1


def engine_of(replicas: Replicas, restorer: Restorer) -> ReleaseEngine:
    bundle = restorer.bundle
    engine = ReleaseEngine(replicas, CONFIG)
    engine.switch(
        Release(
            app="app",
            bundle="bundle",
            model=replicas.model,
            view=bundle.extractor.config.view,
            view_px=bundle.extractor.config.view_px,
            pools={},
            multiples_px={entry.node: entry.multiple_px for entry in bundle.manifest.experts},
            multiplexed=frozenset(),
            looks_at_all=bool(bundle.seen - {"embedding"}),
        )
    )
    return engine
