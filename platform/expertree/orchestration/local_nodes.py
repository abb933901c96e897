"""A cluster of several nodes on this machine, which come and go as those of a cloud do."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

_SPILLED = "spilled"


class LocalNodes:
    """A head that runs nothing, and nodes beside it, each with an object store of its own.

    Attributes:
        address: Address of the cluster.
    """

    def __init__(self, cluster: Cluster, folder: Path, *, num_cpus: int, store_bytes: int) -> None:
        """Wrap a cluster that has a head only; see `local_nodes`."""
        self.address: str = cluster.address
        self._cluster, self._folder = cluster, folder
        self._num_cpus, self._store_bytes = num_cpus, store_bytes
        self._nodes: dict[str, Any] = {}
        self._left: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the nodes that are neither gone nor announced to go, the oldest first."""
        return tuple(self._nodes)

    def join(self, environment: Mapping[str, str] | None = None) -> str:
        """Add a node and return its id.

        Args:
            environment: Variables of all processes on it, beside those of this one.
        """
        node = self._cluster.add_node(
            num_cpus=self._num_cpus,
            object_store_memory=self._store_bytes,
            env_vars=dict(environment or {}),
        )
        self._nodes[node.node_id] = node
        return str(node.node_id)

    def kill(self, name: str) -> None:
        """End a node at once and unannounced."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def drain(self, name: str, *, within_s: float) -> None:
        """Announce that a node will be taken away, as a spot instance's end is announced.

        Args:
            name: Id of the node.
            within_s: Seconds from now at which it may go at the latest.
        """
        private: Any = ray._raylet  # noqa: SLF001 - as `ray drain-node` does; no public way
        generated: Any = autoscaler_pb2
        client = private.GcsClient(address=self.address)
        reason = generated.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = int(1000 * (time.time() + within_s))
        accepted, why = client.drain_node(name, reason, "a rehearsal", deadline_ms)
        if not accepted:
            raise RuntimeError(f"node {name} cannot be drained: {why}")
        self._left[name] = self._nodes.pop(name)

    def take_drained(self) -> None:
        """Take the nodes away whose end was announced."""
        for node in self._left.values():
            self._cluster.remove_node(node, allow_graceful=False)
        self._left.clear()

    def spilled_bytes(self) -> int:
        """Return the bytes of objects that are on disk now, for want of room in the stores."""
        total = 0
        for path in (self._folder / _SPILLED).rglob("*"):
            with contextlib.suppress(OSError):  # it has been deleted
                total += path.stat().st_size if path.is_file() else 0
        return total


@contextlib.contextmanager
def local_nodes(*, num_cpus: int, store_bytes: int) -> Iterator[LocalNodes]:
    """Give a cluster without nodes yet, for the block.

    Args:
        num_cpus: CPUs that each node says it has.
        store_bytes: Bytes of each node's object store; Ray wants at least 75 MiB.
    """
    before = os.environ.get("RAY_TMPDIR")
    # A short path, as Ray's sockets lie there (107 bytes).
    with tempfile.TemporaryDirectory(prefix="et-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "ray").mkdir()  # the cluster's address is written there before Ray makes it
        (folder / _SPILLED).mkdir()
        os.environ["RAY_TMPDIR"] = name
        try:
            cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 0,
                    "include_dashboard": False,
                    "dashboard_agent_listen_port": 0,
                    "gcs_server_port": 0,
                    "object_store_memory": store_bytes,
                    "object_spilling_directory": str(folder / _SPILLED),
                },
            )
            try:
                yield LocalNodes(cluster, folder, num_cpus=num_cpus, store_bytes=store_bytes)
            finally:
                cluster.shutdown()  # type: ignore[no-untyped-call]
        finally:
            del os.environ["RAY_TMPDIR"]
            if before is not None:
                os.environ["RAY_TMPDIR"] = before
