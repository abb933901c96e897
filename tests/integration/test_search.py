"""A search on a small scale: nothing is trained twice, whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.util import list_named_actors

from expertree.config import load
from expertree.errors import ConfigError
from expertree.orchestration.cluster import connect
from expertree.orchestration.search.run import run_search
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.scheduling.dispatcher import NAMESPACE
from expertree.search.estimate import describe_search
from expertree.search.record import Search
from expertree.search.settings import SearchConfig
from killing import kill_one_called

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SPACES = ROOT / "search_spaces"
SMALL = (
    "degradation.patch_px=32",
    "degradation.num_train=280",
    "degradation.num_extractor=140",
    "degradation.num_route=70",
    "degradation.num_val_in=42",
    "degradation.num_val_out=42",
    "degradation.num_shift=0",
    "degradation.tasks=[noise,blur,haze]",
    "extractor.view_px=32",
    "extractor.recipe.num_steps=20",
    "extractor.recipe.crop_px=32",
    "experts.backbone.width=8",
    "experts.recipe.patch_px=32",
    "experts.recipe.checkpoint_every_samples=16",
    "experts.samples_per_expert=64",
    "experts.warm_start=false",
    "hierarchy.method=bisecting",
    "router.num_epochs=2",
    "search.searcher=grid",
    "search.concurrent=4",
    "search.fractions=[0.5,1.0]",
    "search.reduction=1.1",
)
SPACE = {
    "parameters": {
        "hierarchy.groups": {"choice": [[1], [2], [1, 2], [2, 3]]},
        "router.alpha": {"choice": [0.0, 0.1]},
    }
}
DISTINCT, NAIVE = 6, (1 + 2 + 3 + 5) * 2
"""Experts: the root, two groups and three; one of the two may be one of the three."""


def config(folder: Path, *more: str) -> SearchConfig:
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    data: dict[str, Any] = {
        "output": str(folder / "out"),
        "store": str(folder / "store"),
        "search_space": str(folder / "space.yaml"),
    }
    for entry in (*SMALL, *more):
        key, _, value = entry.partition("=")
        *sections, last = key.split(".")
        place = data
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = yaml.safe_load(value)
    return load(SearchConfig, data)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with connect(ClusterConfig(num_cores=1)):
        yield


@pytest.fixture(scope="module")
def searched(
    cluster: None,  # noqa: ARG001 - it is connected to
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Search]:
    """A search whose registry is killed in the middle, and then one of its trials."""
    folder = tmp_path_factory.mktemp("search")
    killed: list[str] = []

    def kill(record: Search) -> None:
        if not killed and any(expert["samples"] for expert in record["experts"]):
            names = [own["name"] for own in list_named_actors(all_namespaces=True)]
            killed.extend(name for name in names if name.startswith("registry-"))
            ray.kill(ray.get_actor(killed[0], namespace=NAMESPACE), no_restart=False)
        elif len(killed) == 1 and any(trial["reached"] for trial in record["trials"]):
            killed.extend(["a trial"] if kill_one_called("ray::ImplicitFunc") else [])

    record = run_search(config(folder), SPACES, kill)
    assert len(killed) == 2
    return folder, record


def test_every_expert_is_trained_once_for_all_trials(searched: tuple[Path, Search]) -> None:
    _, record = searched
    assert [trial["status"] for trial in record["trials"]] == ["completed"] * 8
    cost = record["cost"]
    assert DISTINCT - 1 <= cost["shared_trainings"] <= DISTINCT
    assert NAIVE - 2 <= cost["naive_trainings"] <= NAIVE
    assert cost["duplicates"] == 0
    assert all(expert["samples"] == expert["num_samples"] for expert in record["experts"])


def test_trees_without_a_root_are_judged_without_it(searched: tuple[Path, Search]) -> None:
    _, record = searched
    by_shape = {trial["shape"]: trial for trial in record["trials"]}
    root = by_shape["{1}"]["experts"][0]
    assert root not in by_shape["{2, 3}"]["experts"]
    assert root in by_shape["{1, 2}"]["experts"]
    assert not by_shape["{2, 3}"]["tree"][0]["served"]
    for trial in record["trials"]:
        assert len(trial["reached"]) == 2
        at = trial["reached"][-1]
        assert at["best_level_in"] >= at["objectives"]["psnr_in"] - 1e-6


def test_the_same_command_again_finds_everything(searched: tuple[Path, Search]) -> None:
    folder, record = searched
    again = run_search(config(folder), SPACES)
    assert again["num_starts"] == record["num_starts"] + 1
    assert [t["objectives"] for t in again["trials"]] == [t["objectives"] for t in record["trials"]]
    assert again["cost"] == record["cost"]
    assert "trials have ended" in describe_search(config(folder), SPACES)


def test_another_search_does_not_go_into_the_same_folder(searched: tuple[Path, Search]) -> None:
    folder, _ = searched
    with pytest.raises(ConfigError, match=r"holds another search.*give another output"):
        run_search(config(folder, "experts.samples_per_expert=72"), SPACES)


@pytest.mark.usefixtures("cluster")
def test_an_expert_that_cannot_be_trained_fails_its_trials_alone_and_says_why(
    tmp_path: Path,
) -> None:
    space = {
        "parameters": {
            "hierarchy.groups": {"choice": [[1], [1, 2]]},
            "experts.recipe.learning_rate": {"choice": [1e-3, 1e18]},
        }
    }
    own = config(tmp_path, "search.fractions=[1.0]", "experts.recipe.grad_clip=0.0")
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    record = run_search(own, SPACES)
    status = {
        (trial["shape"], trial["overrides"]["experts.recipe.learning_rate"]): trial
        for trial in record["trials"]
    }
    assert status["{1}", 1e-3]["status"] == status["{1, 2}", 1e-3]["status"] == "completed"
    assert status["{1}", 1e18]["status"] == status["{1, 2}", 1e18]["status"] == "failed"
    assert "learning_rate" in str(status["{1}", 1e18]["reason"])
    kept = {expert["key"] for expert in record["experts"] if expert["samples"]}
    assert set(status["{1, 2}", 1e-3]["experts"]) <= kept


@pytest.mark.usefixtures("cluster")
def test_a_spent_budget_stops_the_search_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    whole = ("search.fractions=[1.0]", f"store={tmp_path}/store")
    one = config(tmp_path, *whole, f"output={tmp_path}/one")
    (tmp_path / "space.yaml").write_text(
        yaml.safe_dump({"parameters": {"hierarchy.groups": {"choice": [[1]]}}})
    )
    hours = run_search(one, SPACES)["cost"]["shared_hours"]
    little = f"search.budget_hours={1.5 * hours}"
    stopped = run_search(config(tmp_path, *whole, little), SPACES)
    assert stopped["status"] == "stopped"
    reasons = [trial["reason"] for trial in stopped["trials"] if trial["status"] == "stopped"]
    assert reasons
    assert all("hours is spent" in str(reason) for reason in reasons)
    done = run_search(config(tmp_path, *whole, "search.budget_hours=10"), SPACES)
    assert done["status"] == "done"
    assert {trial["status"] for trial in done["trials"]} == {"completed"}
    assert done["cost"]["duplicates"] == 0
    with pytest.raises(ConfigError, match=r"budget_hours=1e-09 is less than the root alone"):
        run_search(config(tmp_path, *whole, "search.budget_hours=1.0e-9"), SPACES)


def test_a_killed_driver_costs_no_training_and_changes_no_result(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    command = [
        sys.executable,
        "jobs/search.py",
        f"output={tmp_path}/out",
        f"store={tmp_path}/store",
        f"search_space={tmp_path}/space.yaml",
        "cluster.num_cores=1",
        *SMALL,
    ]

    def record() -> Any:
        path = tmp_path / "out" / "search.json"
        return json.loads(path.read_text()) if path.exists() else {"experts": [], "trials": []}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True)

    job = start()
    while not any(expert["samples"] for expert in record()["experts"]):
        assert job.poll() is None
        time.sleep(0.2)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    before = record()
    assert start().wait(timeout=600) == 0
    after = record()
    assert after["num_starts"] == 2
    assert after["cost"]["duplicates"] == 0
    assert DISTINCT - 1 <= after["cost"]["shared_trainings"] <= DISTINCT
    done = {t["number"]: t for t in before["trials"] if t["status"] == "completed"}
    assert all(after["trials"][n]["reached"] == t["reached"] for n, t in done.items())
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    assert best["hierarchy"]["method"] == "bisecting"
