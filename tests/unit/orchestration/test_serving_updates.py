"""Updates: a bad bundle changes nothing, an old one goes when nobody needs it."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from expertree.errors import ArtefactError
from expertree.orchestration import serving_updates
from expertree.orchestration.serving_engine import Release
from expertree.orchestration.serving_updates import Updates

BETWEEN_LOOKS_S = 0.01


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_updates, "_SECONDS_BETWEEN_LOOKS", BETWEEN_LOOKS_S)


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
    )


class Stage:
    """Puts up whatever is not called bad."""

    def __init__(self, *up: str) -> None:
        self.up = list(up)
        self.log: list[str] = []

    async def name(self, bundle: str) -> str:
        if bundle == "missing":
            raise ArtefactError("there is no such bundle")
        return f"app-{bundle}"

    async def put_up(self, app: str, bundle: str) -> Release:
        self.log.append(f"+{app}")
        await asyncio.sleep(0)
        if bundle == "bad":
            raise ArtefactError("expert 3 gives no image")
        self.up.append(app)
        return release(app)

    async def find(self) -> tuple[Release, ...]:
        return tuple(release(app) for app in self.up)

    async def take_down(self, app: str) -> None:
        self.log.append(f"-{app}")
        self.up = [other for other in self.up if other != app]


def test_the_old_bundle_goes_when_no_gateway_has_a_request_on_it() -> None:
    async def scenario() -> None:
        stage = Stage()
        updates = Updates(stage)
        await updates.update("one")
        updates.check_in("g1", seen="app-one", in_use=frozenset({"app-one"}))
        updates.check_in("g2", seen="app-one", in_use=frozenset())
        updating = asyncio.create_task(updates.update("two"))
        await until(lambda: "app-two" in stage.up)
        await updates.drain()  # g1 does not know of the new one yet
        assert stage.up == ["app-one", "app-two"]
        current = updates.check_in("g1", seen="app-one", in_use=frozenset({"app-one"}))
        assert current == release("app-two")
        updates.check_in("g1", seen="app-two", in_use=frozenset({"app-one", "app-two"}))
        await asyncio.sleep(2 * BETWEEN_LOOKS_S)
        assert not updating.done()  # g2 sends new requests to the old one
        updates.check_in("g2", seen="app-two", in_use=frozenset())
        status = await updating
        assert (status.serving, status.draining, status.problem) == ("two", ("app-one",), None)
        await updates.drain()
        assert stage.up == ["app-one", "app-two"]
        updates.check_in("g1", seen="app-two", in_use=frozenset({"app-two"}))
        await updates.drain()
        assert stage.up == ["app-two"]
        assert updates.status().draining == ()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("bundle", "problem"), [("missing", "no such bundle"), ("bad", "expert 3 gives no image")]
)
def test_a_bad_bundle_leaves_the_old_one_serving_and_says_why(bundle: str, problem: str) -> None:
    async def scenario() -> None:
        stage = Stage()
        updates = Updates(stage)
        await updates.update("one")
        status = await updates.update(bundle)
        assert (status.serving, status.wanted, status.draining) == ("one", bundle, ())
        assert status.problem is not None
        assert problem in status.problem
        assert stage.up == ["app-one"]
        assert "-app-one" not in stage.log

    asyncio.run(scenario())


def test_the_same_bundle_again_is_not_put_up_again() -> None:
    async def scenario() -> None:
        stage = Stage()
        updates = Updates(stage)
        await updates.update("one")
        assert (await updates.update("one")).problem is None
        assert stage.log == ["+app-one"]

    asyncio.run(scenario())


def test_of_updates_that_wait_for_one_only_the_last_is_put_up() -> None:
    async def scenario() -> None:
        stage = Stage()
        updates = Updates(stage)
        asked = [asyncio.create_task(updates.update(name)) for name in ("one", "two", "three")]
        await asyncio.gather(*asked)
        assert updates.status().serving == "three"
        assert stage.log == ["+app-one", "+app-three"]

    asyncio.run(scenario())


def test_after_a_restart_the_newest_release_goes_on_and_older_ones_drain() -> None:
    async def scenario() -> None:
        stage = Stage("app-one", "app-two")
        updates = Updates(stage)
        await updates.adopt()
        assert updates.status().serving == "two"
        status = await updates.update("bad")
        assert status.serving == "two"
        await updates.drain()
        assert stage.up == ["app-two"]

    asyncio.run(scenario())


def test_a_gateway_that_is_silent_for_long_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        stage = Stage()
        updates = Updates(stage)
        await updates.update("one")
        updates.check_in("dead", seen="app-one", in_use=frozenset({"app-one"}))
        updating = asyncio.create_task(updates.update("two"))
        await until(lambda: "app-two" in stage.up)
        await updates.drain()
        assert "app-one" in stage.up
        monkeypatch.setattr(serving_updates, "SILENT_S", 0.0)
        assert (await updating).serving == "two"
        await updates.drain()
        assert stage.up == ["app-two"]

    asyncio.run(scenario())
