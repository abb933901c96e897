"""W&B online, and runs that are sent later, against a stand-in for its server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "tests" / "unit" / "search" / "example_search.json"

SEARCH = """
import json, sys
from pathlib import Path
from expertree.search.followed import TrackedSearch, sweep_identity
from expertree.tracking import TrackingConfig, open_sweep
record = json.loads(Path(sys.argv[1]).read_text())
keep = {"completed": None, "failed": None}
for trial in record["trials"]:
    if trial["status"] in keep and keep[trial["status"]] is None:
        keep[trial["status"]] = trial
record["trials"] = [trial for trial in keep.values() if trial]
config = TrackingConfig(backend="wandb", mode=sys.argv[3])
identity = sweep_identity(record, {"tree.levels": {"values": [1, 2]}})
tracked = TrackedSearch(open_sweep(config, identity, Path(sys.argv[2])))
tracked.close(record)
print(json.dumps({"identity": identity.search, "trials": record["trials"]}))
"""


@pytest.fixture
def wandb_env(wandb_server: Any) -> dict[str, str]:
    # wandb reads its surroundings once in a process: so it gets one of its own.
    return os.environ | {"WANDB_BASE_URL": wandb_server.url, "WANDB_API_KEY": "0" * 40}


def run(*command: str, env: dict[str, str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=env, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_search_online_is_a_sweep_with_a_run_for_each_trial(
    wandb_server: Any, wandb_env: dict[str, str], tmp_path: Path
) -> None:
    told = json.loads(
        run("-c", SEARCH, str(EXAMPLE), str(tmp_path), "online", env=wandb_env).splitlines()[-1]
    )
    (sweep,) = wandb_server.called("UpsertSweep")
    assert "method: custom" in sweep["config"]
    assert "type: local" in sweep["config"]
    for trial in told["trials"]:
        name = f"{told['identity']}-{trial['number']:04d}"
        calls = [call for call in wandb_server.called("UpsertBucket") if call["name"] == name]
        assert calls[0]["sweep"] == "sweep1"
        assert calls[0]["groupName"] == told["identity"]
        config = json.loads(calls[0]["config"])
        assert config["tree.shape"]["value"] == trial["shape"]
        psnr = [line["psnr.in"] for line in wandb_server.history(name) if "psnr.in" in line]
        assert psnr == [reached["objectives"]["psnr_in"] for reached in trial["reached"]]
        ends = [r["exitcode"] for r in wandb_server.streamed[name] if "exitcode" in r]
        assert ends[-1] == (1 if trial["status"] == "failed" else 0)


def test_a_search_offline_becomes_a_sweep_when_it_is_sent(
    wandb_server: Any, wandb_env: dict[str, str], tmp_path: Path
) -> None:
    told = json.loads(
        run("-c", SEARCH, str(EXAMPLE), str(tmp_path), "offline", env=wandb_env).splitlines()[-1]
    )
    assert wandb_server.calls == []
    files = sorted(map(str, tmp_path.glob("trial-*/wandb/offline-run-*")))
    assert len(files) == len(told["trials"])
    # W&B logs into a folder `wandb` of wherever it is called.
    run("-m", "wandb", "sync", *files, env=wandb_env, cwd=tmp_path)
    names = [f"{told['identity']}-{trial['number']:04d}" for trial in told["trials"]]
    assert {call["name"] for call in wandb_server.called("UpsertBucket")} == set(names)
    for name in names:
        assert wandb_server.history(name)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    job = str(ROOT / "jobs" / "dashboard.py")
    said = run(job, f"search={tmp_path}", env=wandb_env, cwd=elsewhere)
    assert list(elsewhere.iterdir()) == []
    (sweep,) = wandb_server.called("UpsertSweep")
    assert json.loads(sweep["priorRunsFilters"]) == {"$or": [{"name": name} for name in names]}
    (view,) = wandb_server.called("UpsertView2")
    assert (view["entityName"], view["projectName"]) == ("lab", "expertree")
    assert "parallel" in view["spec"].lower()
    assert "sweeps/sweep1" in said
    # The sweep is remembered, and a second time makes no other.
    assert json.loads((tmp_path / "sweep.json").read_text())["sweep"] == "sweep1"
