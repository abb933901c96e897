"""The whole build on a small scale: complete, repeatable, resumable, on one node and on two."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluated import check_patch_by_patch
from expertree import Restorer
from expertree.cli.main import main
from expertree.evaluation import METHODS
from expertree.events import read_events
from expertree.routing import Wish

ROOT = Path(__file__).parents[2]
SMALL = (
    "degradation.patch_px=64",
    "degradation.num_train=280",
    "degradation.num_extractor=280",
    "degradation.num_route=70",
    "degradation.num_val_in=42",
    "degradation.num_val_out=42",
    "degradation.num_shift=0",
    "degradation.tasks=[noise,blur,haze]",
    "extractor.view_px=64",
    "extractor.recipe.num_steps=24",
    "extractor.recipe.crop_px=48",
    "hierarchy.groups=[1,2,3]",
    "experts.backbone.width=8",
    "experts.recipe.patch_px=32",
    "experts.recipe.checkpoint_every_samples=20",
    "experts.num_samples=[80,40,40]",
    "num_examples=1",
)
EXPERTS = 5  # the root, two groups, and the two leaves of the group that was cut again
COMPARISONS = 2


@dataclasses.dataclass(frozen=True)
class Job:
    """One build in a folder."""

    folder: Path

    @property
    def settings(self) -> list[str]:
        return [f"output={self.folder}/out", f"store={self.folder}/store", *SMALL]

    @property
    def command(self) -> list[str]:
        return [sys.executable, "jobs/build_tree.py", *self.settings]

    def build_here(self, *more: str) -> int:
        """The same command in this process, which has imported everything already."""
        return main(["build", *self.settings, *more])

    def run(self, *more: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *more],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in read_events(self.folder / "out" / "events.jsonl") if e["event"] == kind]

    def hashes(self) -> dict[str, str]:
        manifest = json.loads((self.folder / "out" / "bundle" / "manifest.json").read_text())
        return {name: entry["sha256"] for name, entry in manifest["files"].items()}


@pytest.fixture(scope="module")
def built(local_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """An undisturbed build, submitted to a cluster with dashboard and token."""
    job = Job(tmp_path_factory.mktemp("build"))
    done = local_cluster.submit("python", *job.command[1:], timeout_s=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report" in done.stdout
    return job


pytestmark = [pytest.mark.ray, pytest.mark.timeout(1500)]


def test_the_report_has_what_the_readme_promises(built: Job) -> None:
    report = json.loads((built.folder / "out" / "report.json").read_text())
    for distribution in ("in", "out"):
        row = report["summary"]["psnr_rgb"][distribution]
        assert list(row) == list(METHODS)
        assert row["best_level"] <= row["best"]
        assert max(row["input"], row["routed"], row["random_expert"]) <= row["best"]
        over = max(("input", "one_network_tree"), key=row.get)
        assert report["summary"]["gain_over"][distribution] == over
        assert report["summary"]["gain_db"][distribution] == row["routed"] - row[over]
    assert set(report["classical"]) == {"noise", "blur", "haze"}
    assert {t["kind"] for t in report["tables"]} == {"single", "mixed"}
    assert len(report["experts"]) == EXPERTS + COMPARISONS
    html = (built.folder / "out" / "report.html").read_text()
    assert 'src="http' not in html


@pytest.mark.parametrize("split", ["val_in", "val_out"])
def test_the_bundle_restores_each_patch_as_the_evaluation_said(built: Job, split: str) -> None:
    check_patch_by_patch(built.folder / "out", split)


def test_every_path_saw_as_many_samples_as_one_network_and_the_tree_as_the_other(
    built: Job,
) -> None:
    report = json.loads((built.folder / "out" / "report.json").read_text())
    samples = {
        e["comparison"] if e["index"] is None else e["index"]: e["num_samples"]
        for e in report["experts"]
    }
    restorer = Restorer.load(built.folder / "out" / "bundle")
    tree = restorer.tree
    for leaf in range(tree.num_leaves):
        path = {tree.expert_of(node) for node in tree.path(leaf)}
        assert sum(samples[node] for node in path) == samples["one_network"]
    assert sum(samples[node] for node in tree.experts()) == samples["one_network_tree"]


def test_a_second_build_finds_everything_and_needs_no_cluster(built: Job) -> None:
    before, starts = built.hashes(), len(built.events("cluster_starting"))
    begin = time.time()
    assert built.build_here() == 0
    assert time.time() - begin < 120
    assert len(built.events("cluster_starting")) == starts
    assert all(e["cached"] for e in built.events("stage_done")[-11:])
    assert built.hashes() == before


def test_another_router_trains_no_expert_again(built: Job) -> None:
    """What a cluster made is found by a build in one process, too."""
    trained = len(built.events("expert_started"))
    other = ("router.alpha=0.5", f"output={built.folder}/other", "cluster.runner=local")
    assert built.build_here(*other) == 0
    events = read_events(built.folder / "other" / "events.jsonl")
    assert not [e for e in events if e["event"] == "expert_started"]
    made = {e["stage"] for e in events if e["event"] == "stage_done" and not e["cached"]}
    assert made == {"router", "bundle", "evaluate"}
    assert trained == EXPERTS + COMPARISONS


@pytest.mark.slow
def test_adapters_are_trained_on_the_stored_root_and_restore_through_the_bundle(
    built: Job,
) -> None:
    done = built.run("experts.adapter.rank=4", f"output={built.folder}/adapters")
    assert done.returncode == 0, done.stdout + done.stderr
    events = read_events(built.folder / "adapters" / "events.jsonl")
    # The root and one network on a path's samples are those of the build without adapters; the
    # other network saw as many samples as all experts, which adapters have more of.
    assert len({e["key"] for e in events if e["event"] == "expert_started"}) == EXPERTS
    report = json.loads((built.folder / "adapters" / "report.json").read_text())
    starts = {e["label"]: e["start"] for e in report["experts"]}
    compared = (METHODS[name].name for name in ("one_network", "one_network_tree"))
    assert {starts.pop(label) for label in ("root", *compared)} == {"random weights"}
    assert set(starts.values()) == {"the root's weights, as an adapter of rank 4"}
    restorer = Restorer.load(built.folder / "adapters" / "bundle")
    stored = restorer.bundle.directory.list_files("expert.safetensors")
    assert stored == ["experts/000/expert.safetensors"]
    image = np.random.default_rng(0).integers(0, 256, (45, 71, 3), dtype=np.uint8)
    experts = restorer.tree.experts()
    restored = {
        node: restorer.restore(image, Wish(expert=node)).image.tobytes() for node in experts
    }
    assert len(set(restored.values())) == EXPERTS


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("num_kills", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_build_that_is_killed_again_and_again_ends_with_the_same_bundle(
    built: Job, tmp_path: Path, num_kills: int
) -> None:
    job = Job(tmp_path)
    rng = random.Random(7)
    for _ in range(num_kills):
        process = subprocess.Popen(
            job.command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(4, 16))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = job.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert job.hashes() == built.hashes()
    finished = [e["key"] for e in job.events("expert_ended") if e["outcome"] == "done"]
    assert len(finished) == len(set(finished))


@pytest.mark.slow
def test_a_grown_tree_keeps_the_old_experts_and_trains_new_leaves_alone(
    built: Job, tmp_path: Path
) -> None:
    # The tiny extractor sees little, so limits are wide: who grows is not the question here.
    new = (
        *("degradation.tasks=[low_light,jpeg,rain]", "degradation.num_train=160"),
        *("degradation.mixed_fraction=0", "degradation.chooser_mixed_fraction=0"),
        "grow.limits={quantile: 0.5, min_samples: 16, max_moved: 0.5}",
    )
    job = Job(tmp_path)
    grow = (f"store={built.folder}/store", f"grow.build={built.folder}/out", *new)
    done = job.run(*grow)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    nodes, added = dict(report["grown"]["nodes"]), [n for n, _ in report["grown"]["beside"]]
    assert added
    weights = "experts/{:03d}/expert.safetensors".format
    before, after = built.hashes(), job.hashes()
    kept = {nodes[node] for node in nodes if weights(node) in before}
    assert {name for name in after if name.endswith("expert.safetensors")} == {
        weights(node) for node in (*kept, *added)
    }
    for node, now in nodes.items():
        assert before.get(weights(node)) == after.get(weights(now))
    trained = {e["label"] for e in job.events("expert_started")}
    assert len(trained) == len(added)
    assert job.run(*grow).returncode == 0
    assert all(e["cached"] for e in job.events("stage_done")[-11:])
    assert job.hashes() == after


@pytest.mark.slow
def test_two_nodes_train_experts_and_one_may_be_lost(
    built: Job, local_cluster: Any, tmp_path: Path
) -> None:
    # The same patches, from the same store; a root and comparisons that train long enough for the
    # second lane to start before the first one has trained both.
    job = Job(tmp_path)
    node = local_cluster.add_node(num_cpus=2)
    process = subprocess.Popen(
        [*job.command, f"store={built.folder}/store", "experts.num_samples=[4800,400,400]"],
        cwd=ROOT,
        env=local_cluster.environment | {"RAY_ADDRESS": local_cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        nodes: set[str] = set()
        while process.poll() is None and len(nodes) < 2:
            if (tmp_path / "out" / "events.jsonl").exists():
                nodes = {e["node"] for e in job.events("expert_started")}
            time.sleep(0.2)
        node.kill()
        output, _ = process.communicate(timeout=600)
    finally:
        process.kill()
        node.kill()
    assert process.returncode == 0, output
    assert len(nodes) == 2
    finished = [e["key"] for e in job.events("expert_ended") if e["outcome"] == "done"]
    assert len(finished) == len(set(finished)) == EXPERTS + COMPARISONS
