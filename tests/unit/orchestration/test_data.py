"""Units of work in the processes of a cluster."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from expertree.orchestration.data import _run_unit, _Unit, built
from expertree.storage import Storage

DATA_TASKS = """
import sys, expertree.orchestration.data, expertree.pipeline.make_patches
print(sorted({"torch", "sklearn", "scipy", "ray.train", "ray.serve"} & set(sys.modules)))
"""


class Counting:
    """A worker that says how many there were before it, and how often it was called."""

    made = 0

    def __init__(self, name: str) -> None:
        self.name, self.calls = f"{name}-{Counting.made}", 0
        Counting.made += 1

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        self.calls += 1
        return {f"{self.name}-{self.calls}-{item['number']}": {"sha256": "a", "num_bytes": 1}}


@pytest.fixture(autouse=True)
def _none_built() -> Iterator[None]:
    built.cache_clear()
    Counting.made = 0
    yield
    built.cache_clear()


def written(row: dict[str, Any]) -> list[str]:
    _, files, _ = json.loads(row["written"])
    return list(files)


def test_a_process_builds_the_worker_of_a_class_once_and_another_in_its_place(
    tmp_path: Path,
) -> None:
    directory = Storage.open(tmp_path)

    def run(number: int, name: str) -> list[str]:
        row = {"item": {"number": number, "directory": directory}}
        return written(_run_unit(row, work=Counting, arguments=(name,)))

    assert [*run(1, "a"), *run(2, "a")] == ["a-0-1-1", "a-0-2-2"]
    assert [*run(3, "b"), *run(4, "a")] == ["b-1-1-3", "a-2-1-4"]
    built.cache_clear()  # as a lane does
    assert run(5, "a") == ["a-3-1-5"]


def test_an_actor_on_a_gpu_does_the_same(tmp_path: Path) -> None:
    actor = _Unit(Counting, ("a",))
    row = {"item": {"number": 1, "directory": Storage.open(tmp_path)}}
    assert [*written(actor(row)), *written(actor(row))] == ["a-0-1-1", "a-0-2-1"]


def test_functions_take_the_item_alone() -> None:
    row = {"item": {"number": 1}}
    assert json.loads(_run_unit(row, work=lambda _: None, arguments=())["written"]) == ["", None, 1]


def test_tasks_that_write_images_load_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DATA_TASKS], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
