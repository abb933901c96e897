"""Updates: a bad bundle changes nothing, an old one goes when nobody needs it."""

import asyncio

import pytest

from expertree.serving import updates as module
from expertree.serving.updates import ReleaseUpdater
from releases import Deployer, release, until

BETWEEN_LOOKS_S = 0.01


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_EVERY_S", BETWEEN_LOOKS_S)


def test_the_old_bundle_goes_when_no_gateway_has_a_request_on_it() -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.update("one")
        updates.check_in("g1", sends_to="app-one", in_use=frozenset({"app-one"}))
        updates.check_in("g2", sends_to="app-one", in_use=frozenset())
        updating = asyncio.create_task(updates.update("two"))
        await until(lambda: "app-two" in deployer.up)
        await updates.drain()  # g1 does not know of the new one yet
        assert deployer.up == ["app-one", "app-two"]
        current = updates.check_in("g1", sends_to="app-one", in_use=frozenset({"app-one"}))
        assert current == release("app-two")
        updates.check_in("g1", sends_to="app-two", in_use=frozenset({"app-one", "app-two"}))
        await asyncio.sleep(2 * BETWEEN_LOOKS_S)
        assert not updating.done()  # g2 sends new requests to the old one
        updates.check_in("g2", sends_to="app-two", in_use=frozenset())
        status = await updating
        assert (status.serving, status.draining, status.problem) == ("two", ("app-one",), None)
        await updates.drain()
        assert deployer.up == ["app-one", "app-two"]
        updates.check_in("g1", sends_to="app-two", in_use=frozenset({"app-two"}))
        await updates.drain()
        assert deployer.up == ["app-two"]
        assert updates.status().draining == ()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("bundle", "problem"), [("missing", "no such bundle"), ("bad", "expert 3 gives no image")]
)
def test_a_bad_bundle_leaves_the_old_one_serving_and_says_why(bundle: str, problem: str) -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.update("one")
        status = await updates.update(bundle)
        assert (status.serving, status.requested, status.draining) == ("one", bundle, ())
        assert status.problem is not None
        assert problem in status.problem
        assert deployer.up == ["app-one"]
        assert "-app-one" not in deployer.log

    asyncio.run(scenario())


def test_the_same_bundle_again_is_not_put_up_again() -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.update("one")
        assert (await updates.update("one")).problem is None
        assert deployer.log == ["+app-one"]

    asyncio.run(scenario())


def test_of_updates_that_wait_for_one_only_the_last_is_put_up() -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        asked = [asyncio.create_task(updates.update(name)) for name in ("one", "two", "three")]
        await asyncio.gather(*asked)
        assert updates.status().serving == "three"
        assert deployer.log == ["+app-one", "+app-three"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("bundle", "num_tries"), [("one", 4), ("bad", 1), ("missing", 0), ("odd", 4)]
)
def test_a_first_bundle_is_tried_again_as_long_as_what_keeps_it_back_may_pass(
    monkeypatch: pytest.MonkeyPatch, bundle: str, num_tries: int
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await pause(0)

    async def scenario() -> None:
        deployer = Deployer()
        deployer.num_short = 3
        updates = ReleaseUpdater(deployer)
        persisting = asyncio.create_task(updates.persist())
        await updates.update(bundle)
        await until(lambda: len(pauses) > 20)
        persisting.cancel()
        assert deployer.log.count(f"+app-{bundle}") == num_tries
        assert updates.status().serving == ("one" if bundle == "one" else None)
        if num_tries == 4:
            longer = [seconds for seconds in pauses if seconds > module.FIRST_PAUSE_S]
            assert longer[:3] == [10.0, 20.0, 40.0]

    pause = asyncio.sleep
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    asyncio.run(scenario())


def test_what_goes_down_slowly_hides_no_reason_and_holds_up_no_other_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        deployer = Deployer()
        deployer.num_short, deployer.is_slow = 1, {"app-one", "app-bad"}
        updates = ReleaseUpdater(deployer)
        persisting = asyncio.create_task(updates.persist())
        status = await updates.update("one")
        assert status.problem == "its replicas did not start: no machine was found"
        assert status.draining == ("app-one",)
        await until(lambda: updates.status().serving == "one")
        persisting.cancel()
        status = await updates.update("bad")
        assert (status.serving, status.problem) == ("one", "expert 3 gives no image")
        await updates.update("two")
        await updates.drain()
        assert updates.status().draining == ("app-bad", "app-one")
        deployer.is_slow = {"app-bad"}
        await updates.drain()
        assert updates.status().draining == ("app-bad",)
        assert deployer.up == ["app-two"]

    monkeypatch.setattr(module, "FIRST_PAUSE_S", BETWEEN_LOOKS_S)
    asyncio.run(scenario())


def test_a_bundle_that_could_not_replace_another_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.update("one")
        deployer.num_short = 1
        persisting = asyncio.create_task(updates.persist())
        assert (await updates.update("two")).serving == "one"
        await asyncio.sleep(20 * BETWEEN_LOOKS_S)
        persisting.cancel()
        assert deployer.log.count("+app-two") == 1

    monkeypatch.setattr(module, "FIRST_PAUSE_S", BETWEEN_LOOKS_S)
    asyncio.run(scenario())


def test_a_gateway_that_is_silent_for_long_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.update("one")
        updates.check_in("dead", sends_to="app-one", in_use=frozenset({"app-one"}))
        updating = asyncio.create_task(updates.update("two"))
        await until(lambda: "app-two" in deployer.up)
        await updates.drain()
        assert "app-one" in deployer.up
        monkeypatch.setattr(module, "SILENT_S", 0.0)
        assert (await updating).serving == "two"
        await updates.drain()
        assert deployer.up == ["app-two"]

    asyncio.run(scenario())


async def with_two_bundles() -> tuple[Deployer, ReleaseUpdater]:
    """Two is served, and one drains; no gateway has a request on it any more."""
    deployer = Deployer()
    updates = ReleaseUpdater(deployer)
    await updates.update("one")
    await updates.update("two")
    return deployer, updates


def test_an_update_back_to_a_bundle_that_is_on_its_way_down_puts_it_up_anew() -> None:
    async def scenario() -> None:
        deployer, updates = await with_two_bundles()
        deployer.may_go.clear()
        draining = asyncio.create_task(updates.drain())
        await until(lambda: deployer.log[-1] == "-app-one")
        updating = asyncio.create_task(updates.update("one"))
        for _ in range(20):
            await asyncio.sleep(0)
        deployer.may_go.set()
        await draining
        assert (await updating).serving == "one"
        assert "app-one" in deployer.up

    asyncio.run(scenario())


def test_a_bundle_that_an_update_came_back_to_while_another_went_down_stays() -> None:
    async def scenario() -> None:
        deployer, updates = await with_two_bundles()
        await updates.update("three")
        deployer.may_go.clear()
        draining = asyncio.create_task(updates.drain())
        await until(lambda: deployer.log[-1] == "-app-one")  # and two is next
        updating = asyncio.create_task(updates.update("two"))
        for _ in range(20):
            await asyncio.sleep(0)
        deployer.may_go.set()
        await draining
        assert (await updating).serving == "two"
        assert "app-two" in deployer.up
        await updates.drain()
        assert deployer.up == ["app-two"]

    asyncio.run(scenario())


def test_a_draining_bundle_that_does_not_come_back_keeps_its_requests() -> None:
    async def scenario() -> None:
        deployer = Deployer("app-bad", "app-two")
        updates = ReleaseUpdater(deployer)
        await updates.adopt()
        updates.check_in("g1", sends_to="app-two", in_use=frozenset({"app-bad"}))
        status = await updates.update("bad")
        assert (status.serving, status.draining) == ("two", ("app-bad",))
        assert deployer.up == ["app-bad", "app-two"]

    asyncio.run(scenario())


def test_a_fault_of_ours_leaves_the_old_bundle_serving_and_says_what_it_was() -> None:
    async def scenario() -> None:
        deployer = Deployer()
        updates = ReleaseUpdater(deployer)
        await updates.update("one")
        status = await updates.update("odd")
        assert (status.serving, status.problem) == ("one", "KeyError: 'odd'")
        assert deployer.log[-1] == "-app-odd"

    asyncio.run(scenario())


def test_gateways_that_came_and_went_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        updates = ReleaseUpdater(Deployer())
        monkeypatch.setattr(module, "SILENT_S", 0.0)
        for number in range(1000):
            updates.check_in(f"g{number}", sends_to=None, in_use=frozenset())
        await updates.update("one")
        assert len(updates._gateways) <= 1

    asyncio.run(scenario())
