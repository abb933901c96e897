"""The Ray cluster that a job runs on: a private one, or a running one that it joins."""

import contextlib
import logging
import os
import shlex
import signal
import threading
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from expertree.errors import ResourceError
from expertree.pipeline.cluster_config import ClusterConfig, num_parts

CPUS_PER_CORE = 2
"""Logical CPUs for each core of a private cluster. Lanes hold theirs while they train or wait, and
the data tasks between need room beside them (Ray Data hangs without it)."""


@contextlib.contextmanager
def connect(config: ClusterConfig) -> Iterator[None]:
    """Connect to a cluster, or start one, for the block; keep a connection that was there before.

    Raises:
        ResourceError: If the cluster cannot be reached or lacks what the config asks for.
    """
    started = not ray.is_initialized()
    if started:
        _start(config)
    try:
        check_resources(config)
        yield
    finally:
        if started:
            ray.shutdown()


def check_resources(config: ClusterConfig) -> None:
    """Raise `ResourceError` unless the connected cluster has room for a lane.

    Without this check the job would wait for ever: Ray keeps a request that nothing can satisfy
    pending.

    Raises:
        ResourceError: If the connected cluster lacks the GPUs or CPUs of even one lane.
    """
    have = resources()
    gpus, cpus = have.get("GPU", 0.0), have.get("CPU", 0.0)
    wanted_gpus = config.gpus_per_lane * config.workers_per_lane
    wanted_cpus = config.cpus_per_lane * config.workers_per_lane
    if config.use_gpu and not config.gpus_may_come and gpus < wanted_gpus:
        raise ResourceError(
            f"cluster.use_gpu=true needs {wanted_gpus:g} GPU for a lane, but the cluster "
            f"has {gpus:g}; set cluster.use_gpu=false, or cluster.gpus_may_come=true if an "
            "autoscaler will add them"
        )
    if not config.gpus_may_come and cpus < wanted_cpus:
        raise ResourceError(
            f"cluster.cpus_per_lane={config.cpus_per_lane} times cluster.workers_per_lane="
            f"{config.workers_per_lane} are {wanted_cpus}, but the cluster has {cpus:g} CPUs"
        )


def resources() -> dict[str, float]:
    """Return the total resources of the connected cluster, by Ray's names."""
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def num_lanes(config: ClusterConfig) -> int:
    """Return how many lanes the connected cluster runs at once, however many tasks there are.

    Lanes never take more than half of the CPUs of a CPU-only cluster, so that data tasks run. Those
    that share GPUs leave the CPUs of a core: a search has tasks beside its lanes.
    """
    if config.num_lanes is not None:
        return config.num_lanes
    have = resources()
    cpus = have.get("CPU", 0.0)
    if not config.use_gpu:
        return max(1, int(cpus // CPUS_PER_CORE // config.cpus_per_lane // config.workers_per_lane))
    on_gpus = num_parts(have.get("GPU", 0.0), config.gpus_per_lane) // config.workers_per_lane
    if config.lanes_per_gpu > 1:
        on_gpus = min(on_gpus, int((cpus - CPUS_PER_CORE) // config.cpus_per_lane))
    return max(1, on_gpus)


def nodes_that_stay() -> dict[str, dict[str, float]]:
    """Return the total resources of each node, by its id, without nodes to be taken away."""
    leaving = _leaving()
    return {
        node["NodeID"]: node["Resources"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["NodeID"] not in leaving
    }


def num_cpus_here() -> int:
    """Return the CPUs that this process's node has for the cluster, and that there really are."""
    own = nodes_that_stay().get(ray.get_runtime_context().get_node_id(), {})
    return min(int(own.get("CPU", 0.0)), os.cpu_count() or 1)


def is_leaving() -> bool:
    """Return whether it was announced that this process's node will be taken away."""
    return ray.get_runtime_context().get_node_id() in _leaving()


def _leaving() -> Container[str]:
    # Ray Train asks like this too; there is no public way.
    leaving: Container[str] = ray._private.state.state.get_draining_nodes()  # noqa: SLF001
    return leaving


def roomiest(
    nodes: Mapping[str, Mapping[str, float]], need: Mapping[str, float], taken: Iterable[str | None]
) -> str | None:
    """Return the node with room for the most further lanes; None if no node has room for one.

    Args:
        nodes: Total resources of each node, by its id.
        need: Resources that a lane takes.
        taken: Nodes of the lanes that exist already.
    """
    used = Counter(taken)
    room = {
        node: min(num_parts(have.get(name, 0.0), own) for name, own in need.items() if own)
        - used[node]
        for node, have in nodes.items()
    }
    best = max(room, key=lambda node: room[node], default=None)
    return best if best is not None and room[best] >= 1 else None


def num_data_workers() -> int:
    """Return how many data workers are worth starting: one for each core."""
    return max(1, int(resources().get("CPU", 1.0) // CPUS_PER_CORE))


def _start(config: ClusterConfig) -> None:
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    quiet: dict[str, Any] = {} if config.verbose else _quiet()
    address = config.address or os.environ.get("RAY_ADDRESS")
    try:
        if address is not None:
            ray.init(address=address, **quiet)
            return
        # Nobody takes nodes away from a cluster of our own: one process less in lanes of several.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # "local" never joins a cluster that happens to run on this machine. Train's cleaner asks
        # the dashboard which placement groups were left behind.
        cores = config.num_cores or os.cpu_count() or 1
        with own_sigterm():
            ray.init(
                address="local",
                num_cpus=cores * CPUS_PER_CORE,
                include_dashboard=config.starts_dashboard,
                **quiet,
            )
    except Exception as error:  # Ray raises this class itself, where its dashboard starts too late
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if address is not None and isinstance(error, ConnectionError | AuthenticationError):
            reason += (
                "; where the cluster has a token, RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH must be "
                f"its own (here: {token_settings() or 'none'})"
            )
        where = address or "a cluster of our own"
        raise ResourceError(f"no connection to {where}: {reason}") from error


def token_settings() -> str:
    """Return what another terminal must set to have this one's token, as a shell takes it.

    The token itself is not shown, only the file that has it; empty where there is no token.
    """
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return ""
    settings = {"RAY_AUTH_MODE": "token"}
    file = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if os.environ.get("RAY_AUTH_TOKEN"):
        settings["RAY_AUTH_TOKEN"] = "..."  # noqa: S105 - what stands in its place
    elif file:
        settings["RAY_AUTH_TOKEN_PATH"] = str(Path(file).expanduser().absolute())
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep this program's handler of SIGTERM, if it has one, where the block sets another.

    Ray's kills the cluster at once, with all that is served there, and ends with code 1.
    """
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and own not in {signal.SIG_DFL, signal.SIG_IGN, None}:
            signal.signal(signal.SIGTERM, own)


def _quiet() -> dict[str, Any]:
    """Keep Ray Data's bars and lines from the terminal; return what `ray.init` takes for the rest.

    Ray Data sets its logger up when it is imported, which undoes what was set before.
    """
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")  # for workers that use it too
    from ray.data import DataContext  # noqa: PLC0415 - a second, and only where there is a cluster

    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return {"log_to_driver": False, "logging_level": "ERROR"}
