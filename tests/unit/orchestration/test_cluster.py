"""What is said where Ray cannot be started."""

import contextlib
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from expertree.cli import serve as verb
from expertree.config import load
from expertree.errors import ConfigError, ResourceError
from expertree.orchestration import cluster
from expertree.orchestration.cluster import (
    check_resources,
    connect,
    num_lanes,
    own_sigterm,
    token_settings,
)
from expertree.orchestration.lane import resources_of
from expertree.pipeline.cluster_config import ClusterConfig
from expertree.serving.deployments import ServeConfig


def test_a_ray_that_does_not_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise Exception("\nThe last 20 lines of dashboard.log:\nand then\n20 lines")  # noqa: TRY002

    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", init)
    with (
        pytest.raises(ResourceError, match=r"^no connection to a:1: The last.*dashboard.log:$"),
        connect(ClusterConfig(address="a:1")),
    ):
        pass


def test_a_private_cluster_has_a_dashboard_if_its_lanes_need_one_or_somebody_asks() -> None:
    assert not ClusterConfig().starts_dashboard
    assert ClusterConfig(workers_per_lane=2).starts_dashboard
    assert ClusterConfig(dashboard=True).starts_dashboard
    assert not ClusterConfig(workers_per_lane=2, dashboard=False).starts_dashboard


def test_a_programs_own_handler_of_sigterm_outlives_the_one_that_ray_sets() -> None:
    def own(*_: object) -> None:
        """What the program does on SIGTERM."""

    before = signal.getsignal(signal.SIGTERM)
    try:
        for handler, expected in ((own, own), (signal.SIG_DFL, signal.SIG_IGN)):
            signal.signal(signal.SIGTERM, handler)
            with own_sigterm():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray sets one
            assert signal.getsignal(signal.SIGTERM) == expected
    finally:
        signal.signal(signal.SIGTERM, before)


def with_gpus(gpus_per_lane: float, **settings: int) -> ClusterConfig:
    return ClusterConfig(use_gpu=True, gpus_per_lane=gpus_per_lane, **settings)


@pytest.mark.parametrize(
    ("config", "gpus", "cpus", "expected"),
    [
        (with_gpus(1), 2, 16, 2),
        (with_gpus(2), 5, 16, 2),
        (with_gpus(1, workers_per_lane=2), 5, 16, 2),
        (with_gpus(0.25), 2, 16, 8),
        (with_gpus(0.1), 1, 64, 10),
        (with_gpus(0.3333), 2, 64, 6),
        # A lane's part lies on one GPU: 0.4 of two of them are four, not five.
        (with_gpus(0.4), 2, 64, 4),
        (with_gpus(0.75), 3, 64, 3),
        # A core's CPUs are left for the tasks beside lanes, as a search has them.
        (with_gpus(0.25, cpus_per_lane=2), 2, 8, 3),
        (with_gpus(0.25), 1, 4, 2),
        (with_gpus(0.25), 1, 2, 1),
        (with_gpus(0.25), 0, 8, 1),
        (with_gpus(0.25, num_lanes=3), 2, 16, 3),
    ],
)
def test_lanes_fit_into_gpus_and_none_spans_two(
    monkeypatch: pytest.MonkeyPatch, config: ClusterConfig, gpus: int, cpus: int, expected: int
) -> None:
    monkeypatch.setattr(cluster, "resources", lambda: {"GPU": float(gpus), "CPU": float(cpus)})
    assert num_lanes(config) == expected


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What another terminal must set to have the token of this one."""
    file = tmp_path / "a b" / "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    return f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH='{file}'"


def test_the_settings_for_another_terminal_name_the_token_and_do_not_show_it(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert token_settings() == token
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert token_settings() == "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=..."
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert token_settings() == ""


def test_a_cluster_that_does_not_let_in_is_answered_with_the_token(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at address: 127.0.0.1:6379.\nLong")

    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster.ray, "init", refuse)
    with pytest.raises(ResourceError) as refused, connect(ClusterConfig(address="127.0.0.1:6379")):
        pass
    said = str(refused.value)
    assert "Failed to connect to Ray cluster" in said
    assert "Long" not in said
    assert said.endswith(f"must be its own (here: {token})")


def test_the_line_for_another_bundle_can_be_typed_as_it_is(
    token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def serving(_: ServeConfig) -> contextlib.AbstractContextManager[object]:
        running = SimpleNamespace(url="http://127.0.0.1:8000", address="127.0.0.1:6379")
        return contextlib.nullcontext(running)

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "serving", serving)
    monkeypatch.setattr(verb.threading, "Event", lambda: SimpleNamespace(wait=interrupt))
    monkeypatch.setattr(verb.signal, "signal", lambda *_: None)
    assert verb.main(["bundle=photo-1"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line == (
        f"another one: {token} expertree serve bundle=... update=true address=127.0.0.1:6379"
    )


ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "CLUSTERS.md").read_text()


@pytest.mark.parametrize("file", ["cluster.yaml", "docs/CLUSTERS.md"])
def test_the_recipe_for_gpus_that_start_on_demand_starts_all_of_them(file: str) -> None:
    settings = re.findall(r"\bcluster\.(\w+)=(\w+)", (ROOT / file).read_text())
    given = {key: yaml.safe_load(value) for key, value in settings}
    names = ("use_gpu", "gpus_may_come", "num_lanes")
    config = load(ClusterConfig, {name: given[name] for name in names})
    nodes = yaml.safe_load((ROOT / "cluster.yaml").read_text())["available_node_types"]
    assert config.use_gpu
    assert config.gpus_may_come
    assert config.num_lanes == nodes["train"]["max_workers"]


def test_nodes_have_the_package_for_what_runs_without_a_job() -> None:
    """Serve's applications bring none; the wheel is made where its folder is mounted from."""
    text = (ROOT / "cluster.yaml").read_text()
    config = yaml.safe_load(text)
    (made,) = re.findall(r"pip wheel .*--wheel-dir (\S+) \.\n", text)
    (mounted,) = [remote for remote, local in config["file_mounts"].items() if local == made]
    lock, wheel = config["setup_commands"]
    assert "--require-hashes" in lock
    assert wheel.endswith(f"--find-links ~/{Path(mounted).name} expertree")
    jobs = re.findall(r"ray job submit .*?-- python (jobs/\w+\.py)", GUIDE, flags=re.DOTALL)
    assert jobs == ["jobs/build_tree.py", "jobs/restore.py"]
    assert all((ROOT / job).is_file() for job in jobs)
    assert "serve deploy serve/production.yaml" in GUIDE


@pytest.mark.parametrize("use_gpu", [True, False])
def test_nodes_that_start_for_lanes_that_wait_need_lanes_that_wait(use_gpu: bool) -> None:
    with pytest.raises(ConfigError, match=r"gpus_may_come=true .* set num_lanes to the most"):
        load(ClusterConfig, {"use_gpu": use_gpu, "gpus_may_come": True})
    load(ClusterConfig, {"use_gpu": use_gpu, "gpus_may_come": True, "num_lanes": 4})


def test_a_lane_asks_ray_for_its_fraction_of_a_gpu() -> None:
    assert resources_of(with_gpus(0.25, cpus_per_lane=2)) == {"CPU": 2.0, "GPU": 0.25}
    assert resources_of(ClusterConfig(gpus_per_lane=0.25)) == {"CPU": 1.0}


def test_a_cluster_without_gpus_has_no_room_for_a_fraction_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "resources", lambda: {"CPU": 8.0})
    with pytest.raises(ResourceError, match=r"needs 0\.25 GPU for a lane, but the cluster has 0;"):
        check_resources(with_gpus(0.25))


@pytest.mark.parametrize("gpus", [0.0, -0.5, 0.00005, 1.5, float("nan"), float("inf")])
def test_a_part_of_a_gpu_that_ray_could_not_give_is_refused(gpus: float) -> None:
    with pytest.raises(ValueError, match="gpus_per_lane must be a fraction of 1"):
        ClusterConfig(gpus_per_lane=gpus)


def test_workers_of_one_lane_do_not_share_a_gpu() -> None:
    with pytest.raises(ValueError, match="workers_per_lane=2 give gpus_per_lane=1, got"):
        ClusterConfig(gpus_per_lane=0.5, workers_per_lane=2)
    assert ClusterConfig(gpus_per_lane=2, workers_per_lane=2, use_gpu=True).devices_per_lane == 4
    assert with_gpus(0.25).devices_per_lane == 0.25
