"""What a search does beside its trials, and what it says of their end."""

from types import SimpleNamespace
from typing import Any

import pytest

from expertree.orchestration import lanes
from expertree.orchestration.search.writing import Upkeep
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.scheduling.dispatcher import TrainingStatus, status_of
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage


class BreakingLanes:
    """Lanes that all end by an error, a dispatcher that counts, and a registry that listens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_started = self.num_done = 0
        self.given_up: list[str] = []
        monkeypatch.setattr(lanes, "fit_lane", SimpleNamespace(options=lambda **_: self))
        monkeypatch.setattr(lanes, "nodes_that_stay", dict)
        monkeypatch.setattr(lanes, "num_lanes", lambda _: 1)
        monkeypatch.setattr(lanes.ray, "wait", lambda refs, **_: (refs, []))
        monkeypatch.setattr(lanes.ray, "get", self.get)
        dispatcher = SimpleNamespace(status=SimpleNamespace(remote=self.status))
        self.pool = lanes.LanePool(dispatcher, ClusterConfig(max_attempts=3), Storage("nowhere"))
        self.registry = SimpleNamespace(
            state=SimpleNamespace(remote=lambda: {"trials": [], "experts": []}),
            give_up=SimpleNamespace(remote=self.given_up.append),
        )

    def status(self) -> TrainingStatus:
        schedule = Schedule(TrainingTask(key=str(n), label="", cost=1.0) for n in range(5))
        for n in range(self.num_done):
            schedule.finish("lane-0", str(n), 0.0)
        return status_of(schedule)

    def remote(self, *_: object) -> object:
        self.num_started += 1
        return object()

    def get(self, ref: Any, **_: Any) -> Any:
        if type(ref) is object:
            raise lanes.RayError("no module named torch")
        return ref


def test_a_search_forgives_broken_lanes_whenever_a_task_was_done_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = BreakingLanes(monkeypatch)
    upkeep = Upkeep(world.registry, world.pool, SimpleNamespace(write=lambda *_: None))
    for num_done in range(5):
        world.num_done = num_done
        upkeep.look()
        upkeep.look()
    assert world.num_started == 10
    assert not world.given_up


def test_without_a_lane_trials_that_ask_later_fail_too(monkeypatch: pytest.MonkeyPatch) -> None:
    world = BreakingLanes(monkeypatch)
    upkeep = Upkeep(world.registry, world.pool, SimpleNamespace(write=lambda *_: None))
    for _ in range(6):
        upkeep.look()
    assert world.num_started == 3
    assert world.given_up == ["no lane is left to train on: no module named torch"] * 3
