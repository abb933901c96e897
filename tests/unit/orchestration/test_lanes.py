"""What a lane does with a task and tells the dispatcher, without Ray between them."""

import asyncio
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from expertree import faults
from expertree.errors import PausedError, TrainingError, TransientStorageError
from expertree.orchestration import lane, lanes
from expertree.orchestration.cluster import roomiest
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.scheduling.dispatcher import Dispatcher, LaneIdentity, Order, TrainingStatus
from expertree.scheduling.states import State
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage
from expertree.training.workers import ALONE, Workers

NODE = "0a" * 28
"""An id as Ray's are."""


class Direct:
    """A dispatcher whose methods answer at once, called as an actor's are."""

    def __init__(self, *tasks: TrainingTask, max_attempts: int = 2) -> None:
        self.dispatcher = Dispatcher(tasks, 30.0, max_attempts, None)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.dispatcher, name)
        return SimpleNamespace(remote=lambda *a, **k: asyncio.run(method(*a, **k)))


class Work:
    """Work that reports once, and ends as it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def run(self, on_progress: Callable[[dict[str, int]], None], _: Workers) -> None:
        on_progress({"samples": 4})
        if self.error is not None:
            raise self.error


class Long(Work):
    """Work that reports for ten seconds, unless it is stopped."""

    def run(self, on_progress: Callable[[dict[str, int]], None], _: Workers) -> None:
        for number in range(1000):
            on_progress({"samples": number})
            time.sleep(0.01)


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane.ray, "get", lambda answer, **_: answer)
    monkeypatch.setattr(lane, "HEARTBEAT_S", 0.0)
    monkeypatch.setattr(lane, "is_leaving", lambda: False)


def task(work: Work, key: str = "a") -> TrainingTask:
    (packed,) = lane.pack([TrainingTask(key=key, label=key, cost=8.0, work=work)])
    return packed


def tenant(lane: str = "lane-0", incarnation: str = "first") -> LaneIdentity:
    return LaneIdentity(lane=lane, incarnation=incarnation, node="n")


def run(direct: Any, who: LaneIdentity) -> bool:
    given = direct.lease.remote(who)
    return lane.run_task(who, direct, given, ALONE)


def status_now(direct: Any) -> TrainingStatus:
    found: TrainingStatus = direct.status.remote()
    return found


def test_a_task_that_is_done_is_handed_in() -> None:
    direct = Direct(task(Work()))
    assert run(direct, tenant())
    assert status_now(direct).finished
    assert [a.outcome for a in status_now(direct).history] == ["done"]


class Writes(Work):
    """Work that stores its result, as all work does."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.result = Storage.open(folder)

    def run(self, on_progress: Callable[[dict[str, int]], None], workers: Workers) -> None:
        super().run(on_progress, workers)
        self.result.write_bytes("expert.safetensors", b"weights")


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (errno.EIO, State.QUEUED),
        (errno.ESTALE, State.QUEUED),
        (errno.ENOSPC, State.FAILED),
        (errno.EACCES, State.FAILED),
    ],
)
def test_a_disk_that_hiccups_is_tried_again_and_one_that_is_full_is_not(
    number: int, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(faults, "PATIENCE", faults.Patience(for_s=0.0))
    direct = Direct(task(Writes(tmp_path)))
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", broken)
        assert run(direct, tenant())
    (status,) = status_now(direct).tasks
    assert status.state is state
    assert f"cannot be written: [Errno {number}] {os.strerror(number)}" in str(status.error)


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (RuntimeError("an illegal memory access"), State.QUEUED, "RuntimeError: an illegal memory"),
        (TransientStorageError("x cannot be read: 503"), State.QUEUED, "x cannot be read: 503"),
        (TrainingError("the loss is NaN"), State.FAILED, "the loss is NaN"),
    ],
)
def test_an_error_stays_with_its_task(error: Exception, state: State, said: str) -> None:
    direct = Direct(task(Work(error)))
    assert run(direct, tenant())
    (status,) = status_now(direct).tasks
    assert status.state is state
    assert str(status.error).startswith(said)


def test_a_lane_whose_node_goes_away_gives_its_task_back_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane, "is_leaving", lambda: True)
    direct = Direct(task(Long()), max_attempts=1)
    assert not run(direct, tenant())
    assert [a.outcome for a in status_now(direct).history] == ["moved"]
    assert direct.lease.remote(tenant("lane-1")).key == "a"


def test_a_slow_lane_gives_back_what_an_idle_one_ends_sooner_and_goes_on_with_another() -> None:
    direct = Direct(task(Long()))
    direct.dispatcher._schedule.is_wanted = lambda *_: True
    begin = time.monotonic()
    assert run(direct, tenant())
    assert time.monotonic() - begin < 5  # `Long` takes ten
    assert [a.outcome for a in status_now(direct).history] == ["moved"]
    assert status_now(direct).tasks[0].state is State.QUEUED


def test_workers_of_one_lane_do_not_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = lane._Pulse(tenant(), Direct(task(Work())), "a", may_pause=False)
    monkeypatch.setattr(lane.ray, "get", lambda *_, **__: Order.GIVE_BACK)
    pulse.beat()
    pulse.on_progress({"samples": 1})
    assert not pulse.is_wanted


def test_a_pause_of_the_work_itself_is_no_failure_either() -> None:
    direct = Direct(task(Work(PausedError("elsewhere"))), max_attempts=1)
    assert not run(direct, tenant())
    assert status_now(direct).tasks[0].state is State.QUEUED


def lose_and_withdraw(direct: Any, key: str) -> None:
    """The lane that has it was silent too long, and nobody wants the task any more."""
    direct.dispatcher._schedule.expire(float("inf"))
    assert direct.withdraw.remote([key]) == [key]


def test_a_lane_stops_at_a_task_that_was_withdrawn_under_it() -> None:
    direct = Direct(task(Long()))
    given = direct.lease.remote(tenant())
    lose_and_withdraw(direct, "a")
    begin = time.monotonic()
    assert lane.run_task(tenant(), direct, given, ALONE)
    assert time.monotonic() - begin < 5  # `Long` takes ten


@pytest.mark.parametrize(
    "error", [None, OSError("boom"), TrainingError("the loss is NaN"), PausedError("elsewhere")]
)
def test_however_a_withdrawn_task_ends_its_lane_does_not_break(error: Exception | None) -> None:
    direct = Direct(task(Work(error)))
    given = direct.lease.remote(tenant())
    lose_and_withdraw(direct, "a")
    lane.run_task(tenant(), direct, given, ALONE)
    assert status_now(direct).tasks == []


def test_a_process_that_was_replaced_is_not_listened_to() -> None:
    direct = Direct(task(Work()))
    old, new = tenant(), tenant(incarnation="second")
    assert direct.lease.remote(old).key == "a"
    assert direct.lease.remote(new).key == "a"
    assert direct.heartbeat.remote(old, "a", {"samples": 1}) is Order.STOP
    direct.release.remote(old, "a")
    direct.fail.remote(old, "a", "boom", retry=False)
    assert direct.heartbeat.remote(new, "a", {"samples": 2}) is Order.GO_ON
    assert status_now(direct).tasks[0].state is State.RUNNING
    # What it has made is what the other one would make.
    direct.finish.remote(old, "a")
    assert status_now(direct).finished


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the lanes that were started."""
    names: list[str] = []
    start = SimpleNamespace(remote=lambda name, *_: names.append(name) or object())
    monkeypatch.setattr(lanes, "fit_lane", SimpleNamespace(options=lambda **_: start))
    monkeypatch.setattr(lanes, "nodes_that_stay", dict)
    return names


def pool() -> lanes.LanePool:
    config = ClusterConfig(max_attempts=3)
    return lanes.LanePool(None, config, Storage.open("nowhere"))


def test_a_lane_that_ended_makes_room_for_one_of_its_name(
    monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    kept = pool()
    kept.wait(0.0)
    kept.start_missing_lanes(2, num_done=0)
    kept.start_missing_lanes(3, num_done=1)
    assert started == ["lane-0", "lane-1", "lane-2"]
    monkeypatch.setattr(lanes.ray, "wait", lambda refs, **_: (refs[:1], refs[1:]))
    kept.wait(0.0)
    kept.start_missing_lanes(3, num_done=1)
    assert started[3:] == ["lane-0"]


def test_lanes_that_break_one_after_the_other_are_not_replaced_for_ever(
    monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    def broken(_: object) -> None:
        raise lanes.RayError("no module named torch")

    monkeypatch.setattr(lanes.ray, "wait", lambda refs, **_: (refs, []))
    monkeypatch.setattr(lanes.ray, "get", broken)
    kept = pool()
    # One is trained after the second has broken: whatever broke the two has passed.
    for num_done in (0, 0, 1, 1, 1):
        kept.start_missing_lanes(1, num_done=num_done)
        kept.wait(0.0)
    with pytest.raises(TrainingError, match="no lane is left to train on: no module named torch"):
        kept.start_missing_lanes(1, num_done=1)
    assert len(started) == 5


def test_a_small_node_starts_one_lane_after_the_other(
    monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    now_s, last_lease_request_s = [1000.0], dict[str, float]()
    monkeypatch.setattr(lanes, "nodes_that_stay", lambda: {NODE: {"CPU": 3.0}})
    monkeypatch.setattr(lanes.time, "time", lambda: now_s[0])
    asked = SimpleNamespace(
        last_lease_request_s=SimpleNamespace(remote=lambda: last_lease_request_s)
    )
    kept = lanes.LanePool(asked, ClusterConfig(), Storage.open("nowhere"))

    def after(seconds: float) -> int:
        now_s[0] += seconds
        kept.start_missing_lanes(3, num_done=0)
        return len(started)

    assert (after(0), after(5)) == (1, 1)
    last_lease_request_s["lane-0"] = 1005.0
    assert (after(1), after(1)) == (2, 2)
    # One that never asks is not waited for; nor does what an older lane of its name asked count.
    last_lease_request_s["lane-1"] = 1005.5
    assert (after(1), after(lanes.STARTING_S)) == (2, 3)


def test_a_large_node_starts_several_lanes_at_a_time(
    monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    monkeypatch.setattr(lanes, "nodes_that_stay", lambda: {NODE: {"CPU": 8.0}})
    nobody = SimpleNamespace(last_lease_request_s=SimpleNamespace(remote=dict))
    kept = lanes.LanePool(nobody, ClusterConfig(), Storage.open("nowhere"))
    kept.start_missing_lanes(6, num_done=0)
    assert len(started) == 4


def test_a_lane_counts_where_it_leases_and_not_where_it_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Any] = []

    def options(*, scheduling_strategy: Any, **_: object) -> Any:
        sent.append(scheduling_strategy)
        return SimpleNamespace(remote=lambda *_: object())

    nodes: dict[str, dict[str, float]] = {}
    monkeypatch.setattr(lanes, "fit_lane", SimpleNamespace(options=options))
    monkeypatch.setattr(lanes, "nodes_that_stay", lambda: nodes)
    direct = Direct(*(task(Work(), key) for key in "abcd"))
    config = ClusterConfig(num_lanes=4, use_gpu=True)
    kept = lanes.LanePool(direct, config, Storage.open("nowhere"))
    kept.start_missing_lanes(2, num_done=0)  # as long as no node is there
    first, second, third = ("0a" * 28, "0b" * 28, "0c" * 28)
    nodes |= {node: {"CPU": 8.0, "GPU": 1.0} for node in (first, second)}
    for name, node in (("lane-0", first), ("lane-1", second)):
        direct.lease.remote(LaneIdentity(lane=name, incarnation="first", node=node[:8]))
    kept.status()
    kept.start_missing_lanes(3, num_done=0)
    assert sent == ["SPREAD"] * 3  # both are busy
    # Lane-0 is lost with its node, and Ray starts it again on the new one.
    del nodes[first]
    nodes[third] = {"CPU": 8.0, "GPU": 2.0}
    direct.lease.remote(LaneIdentity(lane="lane-0", incarnation="second", node=third[:8]))
    kept.status()
    kept.start_missing_lanes(4, num_done=0)
    assert sent[3].node_id == third
    assert sent[3].soft
    assert sent[3]._spill_on_unavailable  # or it might wait for a busy node for ever
    kept.start_missing_lanes(5, num_done=0)
    assert sent[4] == "SPREAD"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"gpus_may_come": True}, [1, 3, 1, 0]),
        ({}, [4, 3, 1, 0]),
        ({"gpus_may_come": True, "num_lanes": 2}, [1, 2, 1, 0]),
        ({"num_lanes": 2}, [2, 2, 1, 0]),
    ],
)
def test_nodes_start_for_lanes_that_have_a_task_alone(
    settings: dict[str, Any], expected: list[int]
) -> None:
    tasks = [
        TrainingTask(key=key, label=key, cost=1.0, after=after)
        for key, after in (("a", ("before",)), ("b", ("a",)), ("c", ("a",)), ("d", ("a",)))
    ]
    direct = Direct(*tasks)
    config = ClusterConfig(**{"use_gpu": True, "num_lanes": 9, **settings})
    kept = lanes.LanePool(direct, config, Storage.open("nowhere"))
    who, found = tenant(), []
    for done in ("", "a", "bc", "d"):
        for key in done:
            direct.finish.remote(who, key)
        found.append(kept.wanted(status_now(direct).tasks))
    assert found == expected
    later = kept.wanted(status_now(direct).tasks, more_may_come=True)
    assert later == (0 if config.gpus_may_come else config.num_lanes)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [([], "b"), (["b"], "a"), (["b", "a"], "b"), (["b", "b", "a", None], None)],
)
def test_a_lane_goes_to_the_node_with_the_most_room(
    taken: list[str | None], expected: str | None
) -> None:
    nodes = {"head": {"CPU": 64.0}, "a": {"CPU": 8.0, "GPU": 1.0}, "b": {"CPU": 5.0, "GPU": 4.0}}
    assert roomiest(nodes, {"CPU": 2.0, "GPU": 1.0}, taken) == expected


def test_a_node_has_room_for_as_many_lanes_as_share_its_gpus() -> None:
    nodes = {"a": {"CPU": 8.0, "GPU": 1.0}, "b": {"CPU": 8.0, "GPU": 2.0}}
    taken: list[str | None] = []
    while (node := roomiest(nodes, {"CPU": 1.0, "GPU": 0.4}, taken)) is not None:
        taken.append(node)
    assert sorted(str(node) for node in taken) == ["a", "a", "b", "b", "b", "b"]
