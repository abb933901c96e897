"""What puts releases up for tests of updates, without Serve."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

from expertree.errors import ArtefactError, ResourceError
from expertree.serving.remote import Release
from expertree.serving.updates import Served, State


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0)


def release(app: str) -> Release:
    return Release(
        app=app,
        bundle=app.removeprefix("app-"),
        model=cast("Any", None),
        view="full",
        view_px=8,
        pools={},
        multiples_px={},
        multiplexed=frozenset(),
        looks_at_all=False,
    )


class Deployer:
    """Puts up whatever is not called bad; all that it does takes a while, as on Serve."""

    def __init__(self, *up: str) -> None:
        self.up = list(up)
        self.unlike_up: dict[str, State] = {}
        self.kept: Served | None = None
        self.shape = ""
        self.log: list[str] = []
        self.num_short = 0
        self.is_slow: set[str] = set()
        self.may_go = asyncio.Event()
        self.may_go.set()

    async def name(self, bundle: str) -> str:
        if bundle == "missing":
            raise ArtefactError("there is no such bundle")
        return f"app-{bundle}{self.shape}"

    def fits(self, app: str) -> bool:
        return app.endswith(self.shape)

    async def deploy(self, app: str, bundle: str) -> Release:
        self.log.append(f"+{app}")
        await asyncio.sleep(0)
        if bundle == "bad":
            raise ArtefactError("expert 3 gives no image")
        if self.num_short > 0:
            self.num_short -= 1
            raise ResourceError("its replicas did not start: no machine was found")
        if bundle == "odd":
            raise KeyError(bundle)
        if app not in self.up:
            self.up.append(app)
        return dataclasses.replace(release(app), bundle=bundle)

    async def states(self) -> Mapping[str, State]:
        return {app: self.unlike_up.get(app, "up") for app in self.up}

    async def describe(self, app: str) -> Release:
        return release(app)

    async def note(self, served: Served | None) -> None:
        self.kept = served

    async def noted(self) -> Served | None:
        return self.kept

    async def remove(self, app: str) -> None:
        self.log.append(f"-{app}")
        await self.may_go.wait()
        if app in self.is_slow:
            raise TimeoutError("some applications were not deleted after 60 s")
        self.up = [other for other in self.up if other != app]
