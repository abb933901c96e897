"""The runner of this process: units in order, trainings after what they start from."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from expertree.errors import ArtefactError, ConfigError, TrainingError
from expertree.orchestration.runner import RayRunner, runner_of
from expertree.pipeline import runner
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.pipeline.dry_run import lanes_of
from expertree.pipeline.runner import LocalRunner
from expertree.pipeline.settings import ExpertsConfig
from expertree.scheduling.budget import Budget
from expertree.scheduling.dispatcher import TrainingStatus
from expertree.scheduling.states import State
from expertree.scheduling.tasks import TrainingTask
from expertree.search.settings import SearchConfig
from expertree.storage import Storage
from expertree.training.workers import Workers


@dataclasses.dataclass
class Noted:
    """Work that writes its name down and reports progress once."""

    name: str
    into: list[str]
    fails: list[Exception] = dataclasses.field(default_factory=list)

    def run(self, on_progress: Callable[[Mapping[str, Any]], None], workers: Workers) -> None:
        assert (workers.rank, workers.count) == (0, 1)
        self.into.append(self.name)
        on_progress({"samples": 1, "num_samples": 2})
        if self.fails:
            raise self.fails.pop(0)


def task(
    name: str, into: list[str], *fails: Exception, after: tuple[str, ...] = ()
) -> TrainingTask:
    work = Noted(name, into, list(fails))
    return TrainingTask(key=name, label=f"expert {name}", cost=1.0, work=work, after=after)


def train(
    tasks: list[TrainingTask], tmp_path: Path, **options: Any
) -> tuple[TrainingStatus, list[TrainingStatus]]:
    seen: list[TrainingStatus] = []
    runner = LocalRunner(ClusterConfig(runner="local", max_attempts=2))
    last = runner.train(tasks, directory=Storage.open(tmp_path), on_status=seen.append, **options)
    return last, seen


def test_units_run_in_order_and_say_what_they_wrote(tmp_path: Path) -> None:
    directory, told = Storage.open(tmp_path), []

    class Unit:
        def __init__(self, sign: int) -> None:
            self.sign = sign

        def __call__(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
            return {str(self.sign * item["number"]): {"sha256": "a", "num_bytes": 1}}

    items = [
        {"number": 1, "directory": directory},
        {"number": 2, "directory": directory, "size": 9},
    ]
    files = LocalRunner().for_each(Unit, items, lambda *at: told.append(at), arguments=(-1,))
    assert list(files[directory]) == ["-1", "-2"]
    assert told == [(1, 10), (10, 10)]


def test_what_is_shared_is_the_value_itself() -> None:
    value = {"a": 1}
    assert LocalRunner().share(value).get() is value


def test_units_that_set_threads_leave_the_process_as_it_was() -> None:
    before = torch.get_num_threads()
    LocalRunner().for_each(lambda _: torch.set_num_threads(before + 1), [{}], lambda *_: None)
    assert torch.get_num_threads() == before


def test_trainings_wait_for_what_they_start_from(tmp_path: Path) -> None:
    order: list[str] = []
    tasks = [task("leaf", order, after=("root",)), task("root", order)]
    last, seen = train(tasks, tmp_path)
    assert order == ["root", "leaf"]
    assert last.finished
    assert {status.state for status in last.tasks} == {State.DONE}
    assert seen[-1] == last


def test_an_error_of_ours_fails_the_training_and_its_heirs_and_not_the_others(
    tmp_path: Path,
) -> None:
    order: list[str] = []
    tasks = [
        task("root", order, ArtefactError("the file is damaged")),
        task("leaf", order, after=("root",)),
        task("other", order),
    ]
    with pytest.raises(TrainingError, match=r"expert root, expert leaf; .*the file is damaged"):
        train(tasks, tmp_path)
    assert sorted(order) == ["other", "root"]


def test_a_training_over_budget_is_refused_before_it_begins(tmp_path: Path) -> None:
    order: list[str] = []
    budget = Budget(device_hours=1e-6, devices_per_lane=1, rates={"slow": 1.0})
    dear = dataclasses.replace(task("a", order), cost=100.0, kind="slow")
    with pytest.raises(TrainingError, match="max_device_hours=1e-06 is not enough"):
        train([dear], tmp_path, budget=budget)
    assert order == []


def test_a_training_that_turns_out_to_be_over_budget_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, order = [0.0], []
    monkeypatch.setattr(runner.time, "time", lambda: now_s[0])

    class Slow:
        """Takes ten seconds for each of its hundred samples."""

        def run(self, on_progress: Callable[[Mapping[str, Any]], None], _: Workers) -> None:
            for samples in range(1, 101):
                now_s[0] += 10.0
                on_progress({"samples": samples, "num_samples": 100})
            order.append("root")

    root = TrainingTask(key="root", label="root", cost=100.0, kind="slow", work=Slow())
    child = dataclasses.replace(task("child", order, after=("root",)), kind="slow")
    budget = Budget(device_hours=300 / 3600, devices_per_lane=1, rates={})
    with pytest.raises(TrainingError, match=r"root, expert child; root: .*max_device_hours=0.08"):
        train([root, child], tmp_path, budget=budget)
    assert order == []
    assert now_s[0] < 100.0


def test_a_configuration_chooses_its_runner() -> None:
    assert isinstance(runner_of(ClusterConfig(runner="local")), LocalRunner)
    assert isinstance(runner_of(ClusterConfig()), RayRunner)
    with pytest.raises(ValueError, match="runner=local is this process alone"):
        ClusterConfig(runner="local", workers_per_lane=2)


def test_a_plan_for_this_process_has_one_lane_and_a_search_is_refused() -> None:
    local = ClusterConfig(runner="local", num_lanes=4)
    assert lanes_of(local) == 1
    with pytest.raises(ConfigError, match=r"cluster.runner is local; set it to ray"):
        SearchConfig(cluster=local, experts=ExpertsConfig(samples_per_expert=8))
