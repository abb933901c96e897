"""Ray clusters of the tests: on free ports, in a folder of their own, with a token of their own.

Nothing here stops a process that it did not start: `ray stop` would stop every Ray of the machine.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from killing import marked

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MARK = "EXPERTREE_TEST_NODE"
OBJECT_STORE_BYTES = 256 * 2**20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starting Ray takes a while on a busy machine: longer than the limit of other tests."""
    for item in items:
        if "ray" in item.keywords and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.1)


class Node:
    """One `ray start --block` and all that it started, recognised by a mark in the environment."""

    def __init__(self, *arguments: str, environment: dict[str, str], log: Path) -> None:
        self.mark = secrets.token_hex(8)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [BIN / "ray", "start", "--block", "--disable-usage-stats", *arguments],
                env=environment | {MARK: self.mark},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """Ids of the node's living processes: its daemons, its workers, jobs on it."""
        return marked(MARK, self.mark)

    def kill(self) -> None:
        """End it at once, as a machine that is taken away."""
        while alive := self.processes():
            for pid in alive:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.poll()
            time.sleep(0.05)
        self.process.wait()

    def stop(self) -> None:
        """End it in order; whatever is left after that, at once."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=15)
        self.kill()


class LocalCluster:
    """A cluster of several raylets on this machine, with its dashboard and a token.

    Attributes:
        address: The GCS, "127.0.0.1:port", for RAY_ADDRESS.
        dashboard: The dashboard's URL, for `ray job submit --address`.
        environment: What a driver or a command of Ray needs to reach the cluster.
        folder: The clusters' own temporary folder.
    """

    def __init__(self, folder: Path) -> None:
        port, dashboard_port, self._client_port = free_ports(3)
        self.folder = folder
        self.address = f"127.0.0.1:{port}"
        self.dashboard = f"http://127.0.0.1:{dashboard_port}"
        token = folder / "token"
        # That of this process's own clusters, which a cluster's drivers and nodes read from a file:
        # so a test may connect to it, too.
        token.write_text(os.environ["RAY_AUTH_TOKEN"])
        token.chmod(0o600)
        self.environment = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_TMPDIR": str(folder),
        }
        self.environment.pop("RAY_AUTH_TOKEN", None)
        self._token = token.read_text()
        self.nodes: list[Node] = []

    def start_head(self, *, num_cpus: int) -> Node:
        """Start the head; returns when its dashboard answers."""
        return self._start_node(
            "--head",
            f"--port={self.address.rpartition(':')[2]}",
            f"--dashboard-port={self.dashboard.rpartition(':')[2]}",
            f"--ray-client-server-port={self._client_port}",
            f"--temp-dir={self.folder}",
            num_cpus=num_cpus,
        )

    def add_node(self, *, num_cpus: int, num_gpus: int = 0) -> Node:
        """Start one more node; returns when the cluster counts it as alive."""
        return self._start_node(f"--address={self.address}", num_cpus=num_cpus, num_gpus=num_gpus)

    def num_alive_nodes(self) -> int:
        """Nodes that the cluster counts as alive; 0 while the dashboard does not answer."""
        try:
            answer = self.get("/api/v0/nodes")
        except (urllib.error.URLError, ConnectionError):
            return 0
        return sum(node["state"] == "ALIVE" for node in answer["data"]["result"]["result"])

    def get(self, path: str, *, token: str | None = None) -> Any:
        """The JSON that the dashboard answers, by default with the cluster's token."""
        request = urllib.request.Request(
            self.dashboard + path,
            headers={"Authorization": f"Bearer {self._token if token is None else token}"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def run(self, *command: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment's bin folder against this cluster, from the root."""
        return subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env=self.environment | {"RAY_ADDRESS": self.address},
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def submit(self, *entrypoint: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """`ray job submit` as the README writes it; its output has the job's."""
        return self.run(
            *("ray", "job", "submit", "--address", self.dashboard, "--working-dir", "."),
            *("--runtime-env-json", json.dumps({"py_modules": ["platform/expertree"]})),
            *("--", *entrypoint),
            timeout_s=timeout_s,
        )

    def stop(self) -> None:
        """End every node, the head last."""
        for node in reversed(self.nodes):
            node.stop()

    def _start_node(self, *arguments: str, num_cpus: int, num_gpus: int = 0) -> Node:
        log = self.folder / f"node-{len(self.nodes)}.log"
        node = Node(
            *arguments,
            "--node-ip-address=127.0.0.1",
            "--dashboard-agent-listen-port=0",
            f"--num-cpus={num_cpus}",
            f"--num-gpus={num_gpus}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            environment=self.environment,
            log=log,
        )
        alive_before = self.num_alive_nodes()
        self.nodes.append(node)

        def joined() -> bool:
            if node.process.poll() is not None:
                raise RuntimeError(f"ray start ended:\n{log.read_text()[-4000:]}")
            return self.num_alive_nodes() > alive_before

        wait_until(joined, timeout_s=90, what="the new node joins the cluster")
        return node


@pytest.fixture(scope="session")
def ray_folder() -> Iterator[Path]:
    """A short path, as Ray's sockets need one (107 bytes), removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="et-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def local_cluster(ray_folder: Path) -> Iterator[LocalCluster]:
    """A head of two CPUs with dashboard and token, shared by all tests of a session.

    A test that adds a node kills it again; the head stays.
    """
    cluster = LocalCluster(ray_folder)
    try:
        cluster.start_head(num_cpus=2)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster_in_redis() -> Iterator[LocalCluster]:
    """A head without work, whose cluster's state is in a Redis, and a node of four CPUs."""
    (port,) = free_ports(1)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (
        tempfile.TemporaryDirectory(prefix="et-", ignore_cleanup_errors=True) as folder,
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as redis,
    ):
        cluster = LocalCluster(Path(folder))
        cluster.environment["RAY_REDIS_ADDRESS"] = f"redis://127.0.0.1:{port}"
        try:
            cluster.start_head(num_cpus=0)
            cluster.add_node(num_cpus=4)
            yield cluster
        finally:
            for node in cluster.nodes:
                node.kill()  # in order it takes a quarter of a minute each
            redis.terminate()


@pytest.fixture
def two_nodes() -> Iterator[Cluster]:
    """A head without work and two nodes of two CPUs; this process is connected to it."""
    with connected_to_two_nodes(dashboard=False) as cluster:
        yield cluster


@pytest.fixture
def two_nodes_with_dashboard() -> Iterator[Cluster]:
    """The same with a dashboard: without it Ray Train leaks placement groups."""
    with connected_to_two_nodes(dashboard=True) as cluster:
        yield cluster


@contextmanager
def connected_to_two_nodes(*, dashboard: bool) -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="et-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        (Path(folder) / "ray").mkdir()  # Cluster writes its address there before Ray makes it
        cluster = start_cluster(dashboard=dashboard)
        try:
            ray.init(address=cluster.address)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def start_cluster(*, dashboard: bool) -> Cluster:
    port, dashboard_port = free_ports(2)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "gcs_server_port": port,
            "include_dashboard": dashboard,
            "dashboard_port": dashboard_port,
            "dashboard_agent_listen_port": 0,
            "object_store_memory": OBJECT_STORE_BYTES,
        },
    )
    for _ in range(2):
        cluster.add_node(num_cpus=2, object_store_memory=OBJECT_STORE_BYTES)
    return cluster
