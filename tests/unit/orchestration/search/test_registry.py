"""The registry without Ray: its dispatcher is the real one, its lanes and tasks are coroutines."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from expertree.errors import TransientStorageError
from expertree.orchestration.search import tasks
from expertree.orchestration.search.registry import ActorDiedError, RayError, Registry
from expertree.scheduling.dispatcher import Dispatcher, LaneIdentity, TrainingStatus
from expertree.scheduling.tasks import TrainingTask
from expertree.search.trial_plan import ExpertNeed, Milestone, TrialPlan, TrialResult
from expertree.storage import Storage

FRACTIONS = (0.5, 1.0)
SECONDS_AN_EXPERT = 3600.0


class Remote:
    """An object whose methods are called as those of an actor."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        class Method:
            @staticmethod
            def remote(*arguments: Any) -> Any:
                return asyncio.ensure_future(method(*arguments))

        return Method()


class World:
    """A store, a dispatcher, lanes that only take notes, and trials whose trees are given."""

    def __init__(self, folder: Path) -> None:
        self.store = Storage.open(folder / "store")
        self.output = Storage.open(folder / "out")
        self.dispatcher = Dispatcher([], lease_s=30.0, max_attempts=1)
        self.trained: Counter[str] = Counter()
        self.judged: list[float] = []
        self.planning = self.most_planning = 0
        self.broken: set[str] = set()
        self.pause_s = 0.0

    def registry(self, **changes: Any) -> Registry:
        settings: dict[str, Any] = {
            "output": self.output,
            "fractions": FRACTIONS,
            "reduction": 1.01,
            "budget_hours": None,
            "devices_per_lane": 1.0,
            "begin_s": 0.0,
        }
        return Registry(b"", Remote(self.dispatcher), **(settings | changes))

    async def lane(self, name: str) -> None:
        tenant = LaneIdentity(lane=name, incarnation=name, node="here")
        while True:
            task = await self.dispatcher.lease(tenant)
            if task is None:
                return
            await asyncio.sleep(self.pause_s)
            if task.key.partition("@")[0] in self.broken:
                await self.dispatcher.fail(tenant, task.key, "the loss is NaN", retry=False)
                continue
            for path in task.work:
                Storage.open(path).commit({})
            if "scored" not in task.key:
                self.trained[task.key] += 1
                key, _, samples = task.key.partition("@")
                seconds = SECONDS_AN_EXPERT * int(samples) / 100
                note = {"key": key, "samples": int(samples), "seconds": seconds}
                self.output.sub("pieces").write_json(f"{key}-{samples}.json", note)
            await self.dispatcher.finish(tenant, task.key)

    async def plan(self, _: object, overrides: Any) -> TrialPlan:
        self.planning += 1
        self.most_planning = max(self.most_planning, self.planning)
        await asyncio.sleep(0.01)
        self.planning -= 1
        groups = overrides["hierarchy.groups"]
        keys = [f"{count}-{place}" for count in groups for place in range(count)]
        needs = tuple(self.need(n, key) for n, key in enumerate(keys))
        return TrialPlan(tree=(), needs=needs, measured={"tree.silhouette.1": 0.5})

    def need(self, node: int, key: str) -> ExpertNeed:
        stops = []
        for fraction in FRACTIONS:
            num_samples = round(100 * fraction)
            result = self.store.sub("expert" if fraction == 1.0 else "snapshot", key)
            column = self.store.sub("score", f"{key}@{num_samples}")
            name = f"{key}@{num_samples}"
            below = [self.store.sub("snapshot", key).uri, result.uri]
            stops.append(
                Milestone(
                    key=name,
                    num_samples=num_samples,
                    result=result,
                    train=TrainingTask(key=name, label=key, cost=1.0, work=below),
                    score=TrainingTask(
                        key=f"{name} scored", label=key, cost=0.0, work=[column.uri]
                    ),
                    columns={"route": column},
                )
            )
        return ExpertNeed(
            key=key, label=key, node=node, served=True, parent=None, stops=tuple(stops)
        )

    async def judge(self, _: object, overrides: Any, experts: Any, num_samples: Any) -> TrialResult:
        assert num_samples == dict.fromkeys(dict(experts), 100)
        value = float(overrides.get("value", 20.0))
        self.judged.append(value)
        return TrialResult(
            psnr_in=value,
            psnr_out=value,
            best_level_in=value,
            best_level_out=value,
            gpu_hours=float(len(experts)),
            measured={"routed.noise.1": 1.0},
        )

    async def trial(self, registry: Registry, number: int, overrides: Any) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for rung in range(len(FRACTIONS)):
            answer = await registry.reach(number, overrides, rung)
            if answer["status"] != "running":
                break
        return answer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    own = World(tmp_path)
    for name in ("plan", "judge"):
        target = type("Task", (), {name: staticmethod(getattr(own, name))})
        monkeypatch.setattr(tasks, name, getattr(Remote(target), name))
    monkeypatch.setattr("expertree.orchestration.search.registry.POLL_S", 0.01)
    monkeypatch.setattr("expertree.scheduling.dispatcher.POLL_S", 0.01)
    return own


def run(world: World, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        lanes = [asyncio.ensure_future(world.lane(f"lane-{n}")) for n in range(2)]
        try:
            await asyncio.wait_for(body(), timeout=20)
        finally:
            for lane in lanes:
                lane.cancel()

    asyncio.run(main())


def shapes() -> Iterator[dict[str, Any]]:
    for alpha in (0.0, 0.1):
        for groups in ([1], [2], [1, 2], [2, 3]):
            yield {"hierarchy.groups": groups, "router.alpha": alpha}


def test_an_expert_is_trained_once_however_many_trials_wait_for_it(world: World) -> None:
    async def body() -> None:
        registry = world.registry()
        found = await asyncio.gather(
            *(world.trial(registry, n, own) for n, own in enumerate(shapes()))
        )
        assert {answer["status"] for answer in found} == {"completed"}
        state = await registry.state()
        assert sum(len(trial["experts"]) for trial in state["trials"]) == 2 * (1 + 2 + 3 + 5)
        assert {expert["repeated"] for expert in state["experts"]} == {0}

    run(world, body)
    assert len(world.trained) == (1 + 2 + 3) * len(FRACTIONS)
    assert set(world.trained.values()) == {1}
    assert world.most_planning == 1


def test_a_registry_that_takes_over_trains_nothing_again_and_keeps_what_was_reached(
    world: World,
) -> None:
    world.pause_s = 0.05

    async def body() -> None:
        first = world.registry()
        asked = [
            asyncio.ensure_future(world.trial(first, n, own)) for n, own in enumerate(shapes())
        ]
        while not world.judged:
            await asyncio.sleep(0.01)
        for one in asked:
            one.cancel()
        second = world.registry()
        found = await asyncio.gather(
            *(world.trial(second, n, own) for n, own in enumerate(shapes()))
        )
        assert {answer["status"] for answer in found} == {"completed"}

    run(world, body)
    assert set(world.trained.values()) == {1}


def test_an_expert_that_fails_takes_its_trials_with_it_and_no_other(world: World) -> None:
    world.broken = {"3-1"}

    async def body() -> None:
        registry = world.registry()
        found = await asyncio.gather(
            *(world.trial(registry, n, own) for n, own in enumerate(shapes()))
        )
        status = {n: answer["status"] for n, answer in enumerate(found)}
        assert [n for n, own in status.items() if own == "failed"] == [3, 7]
        assert found[3]["reason"] == "3-1 could not be trained: the loss is NaN"
        assert sum(own == "completed" for own in status.values()) == 6

    run(world, body)
    assert not any(key.startswith("3-1@") for key in world.trained)


def test_what_nobody_waits_for_any_more_is_not_begun(world: World) -> None:
    world.broken = {"9-0"}
    world.pause_s = 0.02

    async def body() -> None:
        registry = world.registry()
        answer = await world.trial(registry, 0, {"hierarchy.groups": [9]})
        assert answer["status"] == "failed"
        begun = len(world.trained)
        await asyncio.sleep(0.3)
        assert len(world.trained) <= begun + 2  # each of two lanes ends what it is at

    run(world, body)
    assert len(world.trained) < 9


def test_a_trial_behind_the_best_third_is_stopped_with_its_numbers(world: World) -> None:
    async def body() -> None:
        registry = world.registry(reduction=3.0)
        for number, value in enumerate((22.0, 21.0)):
            answer = await world.trial(registry, number, {"hierarchy.groups": [1], "value": value})
        assert answer["status"] == "stopped"
        assert answer["objectives"]["psnr_in"] == 21.0
        assert "1 of 1 others had reached more than its 21.00 dB" in answer["reason"]

    run(world, body)


def test_a_spent_budget_begins_nothing_more_and_says_so(world: World) -> None:
    world.pause_s = 0.1

    async def body() -> None:
        registry = world.registry(budget_hours=1.2)
        answer = await world.trial(registry, 0, {"hierarchy.groups": [9]})
        assert answer["status"] == "stopped"
        assert answer["is_out_of_budget"]
        assert "budget of 1.2 hours is spent" in answer["reason"]

    run(world, body)
    assert 3 <= len(world.trained) <= 5


def test_a_trial_that_is_started_again_joins_its_own_question(world: World) -> None:
    world.pause_s = 0.05

    async def body() -> None:
        registry = world.registry()
        overrides = {"hierarchy.groups": [2]}
        one, other = await asyncio.gather(
            world.trial(registry, 0, overrides), world.trial(registry, 0, overrides)
        )
        assert one == other
        (trial,) = (await registry.state())["trials"]
        assert [at["rung"] for at in trial["reached"]] == [0, 1]

    run(world, body)
    assert len(world.judged) == len(FRACTIONS)


@pytest.mark.parametrize("is_late", ["the request", "the answer"])
def test_what_is_asked_for_while_it_is_taken_back_is_trained(world: World, is_late: str) -> None:
    world.broken = {"9-8"}  # the first that lanes take
    world.pause_s = 0.1
    arrived, goes_on = asyncio.Event(), asyncio.Event()
    withdraw = world.dispatcher.withdraw

    async def late(keys: Sequence[str]) -> list[str]:
        withdrawn = await withdraw(keys) if is_late == "the answer" else []
        arrived.set()
        await goes_on.wait()
        return withdrawn or await withdraw(keys)

    world.dispatcher.withdraw = late  # type: ignore[method-assign]

    async def body() -> None:
        registry = world.registry()
        failing = asyncio.ensure_future(world.trial(registry, 0, {"hierarchy.groups": [9, 3]}))
        await arrived.wait()
        other = asyncio.ensure_future(world.trial(registry, 1, {"hierarchy.groups": [3]}))
        await asyncio.sleep(0.1)
        goes_on.set()
        assert (await failing)["status"] == "failed"
        assert (await other)["status"] == "completed"

    run(world, body)
    assert {key for key in world.trained if key.startswith("3-")} == {
        f"3-{place}@{samples}" for place in range(3) for samples in (50, 100)
    }
    assert set(world.trained.values()) == {1}


def test_a_slow_listing_of_notes_keeps_no_trial_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_files, longest_s = Storage.list_files, 0.0

    def slowly(storage: Storage, suffix: str = "") -> list[str]:
        if storage.uri.endswith("pieces"):
            time.sleep(0.5)
        return list_files(storage, suffix)

    async def body() -> None:
        nonlocal longest_s
        registry = world.registry(budget_hours=100.0)
        monkeypatch.setattr(Storage, "list_files", slowly)
        trial = asyncio.ensure_future(world.trial(registry, 0, {"hierarchy.groups": [2]}))
        while not trial.done():
            begin = time.monotonic()
            await asyncio.sleep(0.01)
            longest_s = max(longest_s, time.monotonic() - begin)
        assert trial.result()["status"] == "completed"
        await registry.state()

    run(world, body)
    assert longest_s < 0.4


def broken_pictures(world: World, errors: Iterable[Exception]) -> None:
    """Let the dispatcher raise these, one at each poll, before it answers."""
    status, left = world.dispatcher.status, iter(errors)

    async def broken() -> TrainingStatus:
        error = next(left, None)
        if error is not None:
            raise error
        return await status()

    world.dispatcher.status = broken  # type: ignore[method-assign]


def test_a_poll_that_fails_is_said_and_the_next_one_counts(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [
        KeyError("a"),
        TransientStorageError("the notes cannot be listed"),
        RayError(),
    ]
    broken_pictures(world, errors)

    async def body() -> None:
        answer = await world.trial(world.registry(), 0, {"hierarchy.groups": [1]})
        assert answer["status"] == "completed"

    run(world, body)
    assert caplog.text.count("the lanes cannot be followed; trying again") == 1
    assert "KeyError: 'a'" in caplog.text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("a"), "the lanes cannot be followed (KeyError: 'a'); run the same command"),
        (
            ActorDiedError(),
            "the dispatcher of the lanes has died; run the same command",
        ),
    ],
)
def test_trials_do_not_wait_for_lanes_that_nobody_can_hear(
    world: World, error: Exception, reason: str
) -> None:
    broken_pictures(world, itertools.repeat(error))

    async def body() -> None:
        registry = world.registry()
        for number in range(2):  # the second one asks after all others were told
            answer = await world.trial(registry, number, {"hierarchy.groups": [1]})
            assert (answer["status"], answer["reason"]) == ("failed", reason)

    run(world, body)
