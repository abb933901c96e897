"""The parts of the soak that need no cluster: what happens when, and what is counted."""

import dataclasses
from pathlib import Path

import pytest

from expertree.benchmarks import soak
from expertree.benchmarks.disturbances import Disturbances
from expertree.benchmarks.soak import SoakConfig, Usage, repeated_in
from expertree.pipeline.runner import LocalRunner
from expertree.scheduling.dispatcher import TrainingStatus, status_of
from expertree.scheduling.schedule import Schedule
from expertree.scheduling.tasks import TrainingTask
from expertree.storage import Storage


class Nodes:
    """Nodes that are only names."""

    def __init__(self, count: int) -> None:
        self.all = [f"{number:08d}-and-more" for number in range(count)]
        self.log: list[str] = []

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.all)

    def join(self) -> str:
        self.all.append(f"{len(self.log) + 100:08d}-and-more")
        self.log.append(f"join {self.all[-1][:8]}")
        return self.all[-1]

    def kill(self, name: str) -> None:
        self.all.remove(name)
        self.log.append(f"kill {name[:8]}")

    def drain(self, name: str, *, within_s: float) -> None:
        assert within_s > 0
        self.all.remove(name)
        self.log.append(f"drain {name[:8]}")

    def take_drained(self) -> None:
        self.log.append("take drained")


def running_on(*nodes: str, samples: int = 8) -> TrainingStatus:
    """An expert at work on each node, those on later ones further."""
    keys = [f"e{number}" for number in range(len(nodes))]
    schedule = Schedule([TrainingTask(key=key, label=key, cost=100.0) for key in keys])
    for number, node in enumerate(nodes):
        given = schedule.lease(f"lane-{number}", 0, node[:8])
        assert given is not None
        schedule.heartbeat(f"lane-{number}", given.key, 1, {"samples": samples * (1 + number)})
    return status_of(schedule)


def test_the_node_that_has_come_furthest_is_lost_then_one_joins_and_one_leaves() -> None:
    nodes = Nodes(3)
    disturbances = Disturbances(nodes, keep=nodes.all[0], count=4, every_s=10)
    for second in range(100):
        disturbances.on_status(running_on(*nodes.names), second)
    assert nodes.log == [
        "kill 00000002",
        "take drained",
        "join 00000102",
        "drain 00000102",
        "take drained",
        "join 00000105",
    ]
    assert disturbances.happened == {"kill": 1, "join": 2, "drain": 1}


def test_no_node_goes_that_no_other_could_replace_nor_before_experts_are_trained() -> None:
    nodes = Nodes(2)
    disturbances = Disturbances(nodes, keep=nodes.all[0], count=4, every_s=10)
    for second in range(100):
        disturbances.on_status(running_on(*nodes.names), second)
    assert nodes.log == []
    nodes = Nodes(3)
    idle = Schedule([TrainingTask(key="a", label="a", cost=1.0)])
    for second in range(100):
        Disturbances(nodes, keep=nodes.all[0], count=4, every_s=10).on_status(
            status_of(idle), second
        )
    assert nodes.log == []


def test_a_node_is_lost_once_while_patches_are_made() -> None:
    nodes = Nodes(3)
    disturbances = Disturbances(nodes, keep=nodes.all[0], count=4, every_s=10)
    for number in range(1, 13):
        disturbances.on_done(number, 12)
    assert nodes.log == ["kill 00000002", "join 00000101"]
    Disturbances(nodes, keep=nodes.all[0], count=0, every_s=10).on_done(4, 12)
    assert len(nodes.log) == 2


def test_what_is_trained_again_is_what_comes_after_the_checkpoint_gone_on_from() -> None:
    trace = ["a 0", "a 12", "a 20", "b 12", "b 40", "c 40", "c 60"]
    assert list(repeated_in(trace)) == [8, 0]


def test_time_counts_where_lanes_could_have_worked() -> None:
    usage = Usage()
    tasks = [TrainingTask(key=key, label=key, cost=1.0) for key in "ab"]
    child = TrainingTask(key="c", label="c", cost=1.0, after=("a",))
    schedule = Schedule([*tasks, child])
    schedule.lease("lane-0", 0)

    def look(now_s: float, num_lanes: int) -> None:
        found = status_of(schedule)
        usage.look(dataclasses.replace(found, num_lanes=num_lanes), now_s)

    look(0, 3)
    look(10, 3)  # one of two that could run, as the third waits for its parent
    assert usage.share == pytest.approx(0.5)
    schedule.lease("lane-1", 10)
    look(20, 1)  # both run, though there is one lane by now
    assert usage.share == pytest.approx(30 / 40)
    assert usage.seconds == 20


def test_undisturbed_it_makes_the_same_every_time(tmp_path: Path) -> None:
    first, second = (
        soak._build(LocalRunner(), Storage.open(tmp_path / name), 0.0) for name in ("a", "b")
    )
    assert first == second
    assert len(first) == 12 + 7
    assert len(set(first.values())) == len(first)
    assert not any(soak._repeated(Storage.open(tmp_path / "a")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"minutes": 0}, "minutes must be positive"), ({"num_nodes": 1}, "at least 2 num_nodes")],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoakConfig(**settings)


def test_steps_are_as_long_as_fill_the_minutes() -> None:
    # One round for the root, one for two experts and two for four, on three lanes, of 60 steps.
    assert SoakConfig(minutes=4, num_nodes=3).step_s == pytest.approx(1.0)
