"""Settings of an application of Ray Serve, with their defaults.

Serve itself silently drops keys of its autoscaling that it does not know. Here they pass
`expertree.config.load`, which names the nearest right one.
"""

import dataclasses
from collections.abc import Iterable

from expertree.errors import ConfigError
from expertree.hierarchy import Tree
from expertree.restorer import find_bundle, open_bundle
from expertree.restorer.engines import EngineName
from expertree.restorer.shipped import SHIPPED
from expertree.serving.settings import HttpConfig


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Replicas:
    """Number of replicas of a deployment, and the resources and requests that each takes.

    Attributes:
        min_replicas: Replicas that stay when there is nothing to do; 0 lets the last one stop.
        max_replicas: Replicas at most.
        num_cpus: CPUs that each reserves; a node runs as many replicas as it has CPUs for.
        num_gpus: GPUs that each reserves; with any, networks run there.
        num_threads: Threads of torch in each; null takes one for each whole CPU.
        target_ongoing_requests: Requests in work or waiting per replica, above which a replica is
            added.
        max_ongoing_requests: Requests that a replica is given at once.
        max_queued_requests: Requests that may wait in each caller until a replica takes them; the
            next one is refused.
        upscale_delay_s: How long there must be too many requests before replicas are added.
        downscale_delay_s: How long there must be too few before replicas are taken away.
        idle_delay_s: How long there must be none before the last replica stops.
        drain_s: How long a replica that stops may go on with what it has begun; with less than
            `http.limits.deadline_s`, requests that are in time may be cut off.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    num_threads: int | None = None
    target_ongoing_requests: float = 2.0
    max_ongoing_requests: int = 8
    max_queued_requests: int = 64
    upscale_delay_s: float = 3.0
    downscale_delay_s: float = 120.0
    idle_delay_s: float = 300.0
    drain_s: float = 120.0

    def __post_init__(self) -> None:
        """Raise ValueError for contradictory counts, negative resources, or no requests."""
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise ValueError(
                f"replicas must be 0 <= min_replicas <= max_replicas and at least 1 at most, got "
                f"min_replicas={self.min_replicas}, max_replicas={self.max_replicas}"
            )
        for name in ("num_cpus", "num_gpus", "upscale_delay_s", "downscale_delay_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("target_ongoing_requests", "max_ongoing_requests", "max_queued_requests"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.num_threads is not None and self.num_threads < 1:
            raise ValueError(f"num_threads must be at least 1 or null, got {self.num_threads}")

    @property
    def threads(self) -> int:
        """Threads of torch in each replica."""
        return self.num_threads or max(1, int(self.num_cpus))

    @property
    def device(self) -> str:
        """Device that networks run on: `cuda` with any GPU, else `cpu`."""
        return "cuda" if self.num_gpus else "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GatewayConfig(Replicas):
    """Replicas that speak HTTP: they decode, call the other replicas, blend tiles and encode."""

    num_cpus: float = 0.5
    """CPUs that each reserves; little of them is used while experts work."""

    max_ongoing_requests: int = 256
    """Requests that a gateway is given at once; more than experts take, so that excess requests are
    refused here in the contract's form, and not by Serve's proxy in plain text."""

    tiles_at_once: int = 4
    """Tiles of one image in work at a time, so that it leaves room for other images."""

    retry_after_s: float = 1.0
    """Seconds after which a refused caller is told to try again."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RouterReplicas(Replicas):
    """Replicas that hold the extractor and the routers."""

    num_cpus: float = 0.5
    """CPUs that each reserves; routing takes a twentieth of a restoration's time."""

    max_ongoing_requests: int = 64
    max_batch_size: int = 8
    """Most images that are routed together."""

    batch_wait_s: float = 0.002
    """Seconds that the first image of a batch waits for others."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PoolConfig(Replicas):
    """Replicas that hold some of the experts."""

    name: str = "experts"
    """Name of the pool, in metrics and logs."""

    below: tuple[int, ...] = ()
    """Nodes of the tree whose experts it holds, and those of all nodes below them. Empty for the
    experts that no other pool holds."""

    max_experts: int | None = None
    """Experts that a replica keeps in memory: the likeliest at its start, then the most recently
    used. A request goes to a replica that has its expert; one that nobody has is read beside the
    work on others. Null loads all of them at the start. Meant for experts that are seldom used."""

    batch_size: int = 1
    """Tiles of one expert and size that go through the network together. On a CPU more than one
    gains nothing, and single tiles are the same to the bit as `Restorer` gives; a GPU wants 4 or
    more."""

    engine: EngineName = "torch"
    """What the experts compute by: `openvino` and `auto` are for CPUs, and need the extra of that
    name on every node (docs/RESTORE.md)."""

    lends_cores: bool = True
    """Whether a replica on a CPU also computes on cores of its node that belong to the pool, up to
    the threads of `max_replicas`, while nobody uses them: a lone image is done on all of them. For
    torch alone: OpenVINO's graphs are made for a number of threads."""

    def __post_init__(self) -> None:
        """Raise ValueError as `Replicas` does, or for a size below 1 or a malformed name."""
        super(PoolConfig, self).__post_init__()  # slots make another class: no bare super()
        for name in ("batch_size", "max_experts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not self.name.replace("-", "").isalnum():
            raise ValueError(f"a pool's name is letters, digits and dashes, got {self.name!r}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServingConfig:
    """Settings of a whole application."""

    bundle: str = SHIPPED
    """The bundle to begin with: a directory or a URI that every node sees, or the name of the model
    that comes with the package."""

    http: HttpConfig = HttpConfig()
    """The HTTP side. In a file for `serve deploy`, its host must say what `http_options` says."""

    gateway: GatewayConfig = GatewayConfig()
    """Replicas that speak HTTP."""

    router: RouterReplicas = RouterReplicas()
    """Replicas that choose the expert for each image."""

    pools: tuple[PoolConfig, ...] = (PoolConfig(),)
    """Pools of replicas that hold the experts."""

    def __post_init__(self) -> None:
        """Raise ValueError unless pools have distinct names and exactly one has no `below`."""
        names = [pool.name for pool in self.pools]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"pools need names of their own, got {names}")
        if sum(not pool.below for pool in self.pools) != 1:
            raise ValueError(
                "exactly one pool must have no nodes under `below`: it holds the experts that no "
                "other pool does"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig(ServingConfig):
    """An application, and where `expertree serve` serves it."""

    address: str | None = None
    """A running cluster to serve on; null starts one of our own, or takes RAY_ADDRESS's."""

    num_cores: int | None = None
    """Cores of a cluster of our own; null takes all."""

    update: bool = False
    """Whether to switch what is already served on the cluster at `address` to `bundle`."""

    @property
    def application(self) -> ServingConfig:
        """Settings of the application, without those of the cluster."""
        names = [field.name for field in dataclasses.fields(ServingConfig)]
        return ServingConfig(**{name: getattr(self, name) for name in names})


def check_bundle(bundle: str, pools: tuple[PoolConfig, ...]) -> str:
    """Read all of a bundle, before anything is started for it, and return its digest.

    Raises:
        ArtefactError: If it is no bundle, or damaged; names the file.
        ConfigError: If the pools do not fit its tree.
    """
    opened = open_bundle(find_bundle(bundle))
    place_experts(opened.tree, pools)
    return opened.manifest.digest


def place_experts(tree: Tree, pools: tuple[PoolConfig, ...]) -> dict[int, str]:
    """Assign each expert of the tree to a pool.

    A node named by several pools, or below several named nodes, belongs to the nearest of them.

    Returns:
        The pool's name for each expert, by node.

    Raises:
        ConfigError: If a pool names a node that the tree does not have, two name the same one, or
            one would hold no expert.
    """
    owners: dict[int, str] = {}
    for pool in pools:
        for node in pool.below:
            if not 0 <= node < len(tree.nodes) or node in owners:
                reason = (
                    "is named twice" if node in owners else f"is not in 0 to {len(tree.nodes) - 1}"
                )
                raise ConfigError(f"pool '{pool.name}': node {node} {reason}")
            owners[node] = pool.name
    (rest,) = (pool.name for pool in pools if not pool.below)
    placed = {expert: _owner(tree, expert, owners) or rest for expert in tree.experts()}
    empty = [pool.name for pool in pools if pool.name not in placed.values()]
    if empty:
        raise ConfigError(f"pool '{empty[0]}' would hold no expert; leave it out")
    return placed


def likeliest_first(tree: Tree, experts: Iterable[int]) -> list[int]:
    """Order experts by how likely an image needs them: by the training samples of their nodes.

    All levels count alike, since only images tell how sure the routers will be.
    """
    num_samples = dict.fromkeys(tree.experts(), 0)
    for node in tree.nodes:
        num_samples[tree.expert_of(node.index)] += node.num_samples
    return sorted(experts, key=lambda expert: (-num_samples[expert], expert))


def _owner(tree: Tree, node: int, owners: dict[int, str]) -> str | None:
    """The pool named for a node, or else for the nearest one above it."""
    current: int | None = node
    while current is not None:
        if current in owners:
            return owners[current]
        current = tree.nodes[current].parent
    return None
