"""What a search does beside its trials, and what it says of their end."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from expertree.cli import search as verb
from expertree.config import load
from expertree.errors import TrainingError
from expertree.events import read_events
from expertree.orchestration import lanes
from expertree.orchestration.search import run
from expertree.orchestration.search.writing import Upkeep
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.scheduling.dispatcher import TrainingStatus, status_of
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.tasks import TrainingTask
from expertree.search.record import Trial
from expertree.search.settings import SearchConfig
from expertree.search.space import SPACES
from expertree.search.state import SearchState
from expertree.storage import Storage

EXAMPLE = json.loads(
    (Path(__file__).parents[2] / "search" / "example_search.json").read_text(encoding="utf-8")
)


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


def trial(number: int, status: Any, reason: str | None = None) -> Trial:
    """A trial of the example, but for how it ended and what it was trained for."""
    (example, *_) = [own for own in EXAMPLE["trials"] if own["status"] == "completed"]
    found: Trial = {**example, "number": number, "status": status, "reason": reason, "experts": []}
    return found if status == "completed" else {**found, "objectives": None, "reached": []}


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A search whose trials are given, and the titles of what it then builds."""
    settings = {"searcher": "random", "build_best": True}
    config = load(
        SearchConfig,
        {
            "store": str(tmp_path / "store"),
            "output": str(tmp_path / "out"),
            "experts": {"samples_per_expert": 64},
            "search": settings,
        },
    )
    built: list[str] = []
    monkeypatch.setattr(run, "prepare", lambda _: None)
    monkeypatch.setattr(run, "run_build", lambda build: built.append(build.title))

    def start(trials: list[Trial], end: Callable[[], None] = lambda: None) -> Any:
        def with_trials(_: Any, __: Any, ___: Any, state: SearchState, *_____: Any, **______: Any):
            for one in trials:
                state.save(one)
            end()

        monkeypatch.setattr(run, "_search", with_trials)
        return run.run_search(config, SPACES)

    return SimpleNamespace(start=start, built=built, config=config, folder=tmp_path / "out")


def kinds(folder: Path) -> list[str]:
    return [event["event"] for event in read_events(folder / "events.jsonl")]


def test_a_search_without_a_completed_trial_has_failed_and_says_why(search: Any) -> None:
    failed = [trial(0, "failed", "the disk is full"), trial(1, "failed", "other")]
    with pytest.raises(TrainingError, match=r"2 of 2 failed; trial 0, .*: the disk is full;"):
        search.start(failed)
    assert kinds(search.folder)[-1] == "search_failed"
    assert Storage.open(search.folder).read_json("search.json")["trials"][0]["status"] == "failed"
    assert not search.built
    search.start([trial(0, "completed"), trial(1, "failed", "other")])
    assert kinds(search.folder)[-1] == "search_done"
    assert len(search.built) == 1


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_search_that_is_interrupted_is_recorded_so_and_builds_nothing(search: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        search.start([trial(0, "completed"), trial(1, "running")], interrupt)
    assert kinds(search.folder)[-1] == "search_failed"
    assert Storage.open(search.folder).read_json("search.json")["status"] == "interrupted"
    assert (search.folder / "best.yaml").exists()
    assert not search.built


def test_the_verb_returns_the_code_of_an_interruption(
    search: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb, "run_search", lambda *_: interrupt())
    places = [f"store={search.config.store}", f"output={search.config.output}"]
    assert verb.main(places) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_ray_tune_leaves_an_interruption_to_the_search(
    search: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a handler of its own, `fit` would return as if all had been done."""
    monkeypatch.delenv("TUNE_DISABLE_SIGINT_HANDLER", raising=False)
    handled, ended = [], []

    def fit() -> None:
        handled.append(os.environ.get("TUNE_DISABLE_SIGINT_HANDLER"))
        interrupt()

    monkeypatch.setattr(run, "open_lanes", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(run, "num_lanes", lambda _: 1)
    monkeypatch.setattr(run, "_start_registry", lambda *_, **__: "registry")
    monkeypatch.setattr(run, "Upkeep", lambda *_: SimpleNamespace(look=lambda: None))
    monkeypatch.setattr(run.tune, "Tuner", lambda *_, **__: SimpleNamespace(fit=fit))
    monkeypatch.setattr(run.ray, "kill", ended.append)
    space = run.open_space("granularity", SPACES)
    with pytest.raises(KeyboardInterrupt):
        run._run_trials(search.config, space, None, [], None, SimpleNamespace(begin_s=0.0))
    assert (handled, ended) == (["1"], ["registry"])
