"""Control that starts again serves on what it served, whatever else has happened meanwhile."""

import asyncio

import pytest

from expertree.serving import updates as module
from expertree.serving.updates import ReleaseUpdater, Served, State
from releases import Deployer, release, until

BETWEEN_LOOKS_S = 0.01


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_EVERY_S", BETWEEN_LOOKS_S)


def test_after_a_restart_the_newest_release_goes_on_and_older_ones_drain() -> None:
    async def scenario() -> None:
        deployer = Deployer("app-one", "app-two")
        updates = ReleaseUpdater(deployer)
        await updates.adopt()
        assert updates.status().serving == "two"
        status = await updates.update("bad")
        assert status.serving == "two"
        await updates.drain()
        assert deployer.up == ["app-two"]

    asyncio.run(scenario())


@pytest.mark.parametrize(("named", "serving"), [("one", "two"), ("three", "three")])
def test_a_restart_brings_no_bundle_back_that_an_update_has_replaced(
    named: str, serving: str
) -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        assert (await updates.configure("one")).serving == "one"
        assert (await updates.update("two")).serving == "two"
        assert (await updates.configure("one")).serving == "two"  # given again, as it is
        await updates.drain()
        again = ReleaseUpdater(deployer)
        await again.adopt()
        status = await again.configure(named)
        assert (status.serving, status.requested, status.problem) == (serving, serving, None)
        assert (await again.configure("four")).serving == "four"
        assert (await again.configure("one")).serving == "one"  # another one in between

    asyncio.run(scenario())


@pytest.mark.parametrize("state", ["up", "changing"])
def test_a_restart_serves_on_what_has_lost_a_replica_with_control(state: State) -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.configure("one")
        await updates.update("two")
        deployer.up.append("app-three")  # an update to it ended with control
        deployer.unlike_up = {"app-two": state, "app-three": "changing"}
        again = ReleaseUpdater(deployer)
        await again.adopt()
        status = await again.configure("one")
        assert (status.serving, status.problem) == ("two", None)
        await again.drain()
        assert deployer.up == ["app-two"]
        assert deployer.log == ["+app-one", "+app-two", "-app-one", "-app-three"]

    asyncio.run(scenario())


def test_a_restart_goes_on_with_an_update_of_the_configuration_that_it_cut_short() -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.configure("one")
        deployer.up.append("app-two")
        deployer.unlike_up = {"app-two": "changing"}
        again = ReleaseUpdater(deployer)
        await again.adopt()
        assert again.status().serving == "one"
        assert (await again.configure("two")).serving == "two"
        await again.drain()
        assert deployer.up == ["app-two"]

    asyncio.run(scenario())


def test_a_restart_undoes_no_way_back_to_a_bundle_that_still_drains() -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.configure("one")
        updates.check_in("g1", sends_to="app-one", in_use=frozenset({"app-one"}))
        updating = asyncio.create_task(updates.configure("two"))
        await until(lambda: updates.current == release("app-two"))
        updates.check_in("g1", sends_to="app-two", in_use=frozenset({"app-one"}))
        await updating
        updating = asyncio.create_task(updates.update("one"))
        await until(lambda: updates.current == release("app-one"))
        updates.check_in("g1", sends_to="app-one", in_use=frozenset({"app-one"}))
        assert (await updating).serving == "one"
        again = ReleaseUpdater(deployer)
        await again.adopt()
        assert (await again.configure("two")).serving == "one"

    asyncio.run(scenario())


def test_what_gateways_may_send_to_stays_until_they_have_said_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        deployer = Deployer("app-one")
        deployer.unlike_up = {"app-one": "changing"}
        deployer.kept = Served(release=release("app-gone"), configured="gone")
        updates = ReleaseUpdater(deployer)
        await updates.adopt()
        assert (updates.status().serving, deployer.kept) == (None, None)
        await updates.drain()
        assert deployer.up == ["app-one"]
        updates.check_in("g1", sends_to="app-one", in_use=frozenset())
        async with asyncio.timeout(10):
            assert (await updates.configure("bad")).problem is not None
        await updates.drain()
        assert deployer.up == ["app-one"]
        monkeypatch.setattr(module, "SILENT_S", 0.0)
        monkeypatch.setattr(updates, "_gateways_known_s", 0.0)
        await updates.drain()
        assert deployer.up == []

    asyncio.run(scenario())


@pytest.mark.parametrize(("asked", "serving"), [("one", "one"), ("two", "two")])
def test_other_settings_with_the_same_bundle_put_up_anew_what_is_served(
    asked: str, serving: str
) -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.configure("one")
        await updates.update(asked)
        await updates.drain()
        deployer.shape = "-4"
        again = ReleaseUpdater(deployer)
        await again.adopt()
        for _ in range(2):
            status = await again.configure("one")
            assert (status.serving, status.problem) == (serving, None)
            await again.drain()
            assert deployer.up == [f"app-{serving}-4"]
        assert deployer.log[-2:] == [f"+app-{serving}-4", f"-app-{serving}"]

    asyncio.run(scenario())


def test_other_settings_that_cannot_work_leave_what_is_served() -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.configure("one")
        deployer.shape, deployer.num_short = "-4", 1
        again = ReleaseUpdater(deployer)
        await again.adopt()
        status = await again.configure("one")
        assert (status.serving, status.requested) == ("one", "one")
        assert status.problem == "its replicas did not start: no machine was found"
        assert deployer.up == ["app-one"]

    asyncio.run(scenario())
