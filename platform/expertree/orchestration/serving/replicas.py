"""The deployments of a release: routers, and experts in pools. Each bundle has its own."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar, cast

import torch
from ray import serve
from ray.serve.handle import DeploymentHandle
from torch import nn

from expertree.errors import ArtefactError, ExpertreeError
from expertree.orchestration.cluster import num_cpus_here
from expertree.orchestration.serving.metrics import SIZES, Counter, Histogram
from expertree.restorer import Restorer
from expertree.restorer.engines import EngineName
from expertree.serving.cores import SharedCores, shared_cores
from expertree.serving.deployments import (
    PoolConfig,
    Replicas,
    ServingConfig,
    likeliest_first,
    place_experts,
)
from expertree.serving.describe import describe_model
from expertree.serving.grouped import GroupedQueue
from expertree.serving.held import HeldExperts
from expertree.serving.remote import Release
from expertree.serving.replica_work import (
    Group,
    Judge,
    Judged,
    RouteRequest,
    Tile,
    TileResult,
    TileWorker,
    is_device_lost,
)
from expertree.threads import torch_threads

ROUTER = "router"
"""Name of the routers' deployment; that of a pool is `POOL` followed by the pool's name."""

POOL = "pool-"

T = TypeVar("T")

_logger = logging.getLogger("ray.serve")

_Piece: TypeAlias = tuple[Tile, nn.Module | None]
"""A tile, and the network of its expert where the restorer does not hold it."""


@serve.deployment(name=ROUTER)
class RouterReplica:
    """Chooses experts for images, in batches, in a thread of its own."""

    def __init__(
        self, bundle: str, digest: str, config: ServingConfig, *_pools: DeploymentHandle[Any]
    ) -> None:
        """Open the bundle, check all of it, and load the encoder of sentences, if it has one.

        Args:
            bundle: Directory or URI of the bundle.
            digest: Digest of the bundle that the release was made for.
            config: Configuration of the application.
            _pools: Handles that make the pools part of the release's application; not called.

        Raises:
            ArtefactError: If the bundle is damaged, or another one by now.
            ConfigError: If sentences cannot be read here.
        """
        router = config.router
        self._bundle, self._config = bundle, config
        self._restorer = _load(bundle, digest, device=router.device)
        self._model = describe_model(self._restorer.bundle)
        self._judge = Judge(self._restorer, self._model.digest)
        self._thread = one_thread(router)
        self._thread.submit(self._judge.test).result()
        batched: Any = self._batched  # the decorator's methods are not in its annotation
        batched.set_max_batch_size(router.max_batch_size)
        batched.set_batch_wait_timeout_s(router.batch_wait_s)
        self._batch_size = Histogram(
            "expertree_router_batch_size", "Images that were judged together.", buckets=SIZES
        )

    async def judge(self, request: RouteRequest) -> Judged | ExpertreeError:
        """Choose the expert for an image, and find what it is told of it."""
        answer: Judged | ExpertreeError = await self._batched(request)
        return answer

    @serve.batch
    async def _batched(self, requests: list[RouteRequest]) -> list[Judged | ExpertreeError]:
        self._batch_size.add(len(requests))
        device = self._restorer.device
        return await _on_device(device, self._thread, self._judge.judge, requests)

    def describe(self) -> Release:
        """Return what this application serves, for those who send requests to it."""
        bundle, extractor = self._restorer.bundle, self._restorer.bundle.extractor.config
        placed = place_experts(bundle.tree, self._config.pools)
        return Release(
            app=serve.get_replica_context().app_name,
            bundle=self._bundle,
            model=self._model,
            view=extractor.view,
            view_px=extractor.view_px,
            pools={node: POOL + name for node, name in placed.items()},
            multiples_px={entry.node: entry.multiple_px for entry in bundle.manifest.experts},
            multiplexed=frozenset(
                POOL + pool.name for pool in self._config.pools if pool.max_experts is not None
            ),
            looks_at_all=bool(bundle.seen - {"embedding"}),
        )


@serve.deployment
class ExpertReplica:
    """Runs the experts of a pool on tiles, grouped by expert and size, in a thread of its own."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, bundle: str, digest: str, config: ServingConfig, pool: PoolConfig
    ) -> None:
        """Open the bundle, check all of it, and try the experts on an image.

        Of a pool with `max_experts` these are as many, the likeliest, and they stay until others
        are asked for. Experts that are adapters share one network, so that a replica holds the root
        twice, however many there are.

        Raises:
            ArtefactError: If the bundle is damaged or another one by now, or an expert does not
                restore a test image.
        """
        restorer = _load(bundle, digest, device=pool.device, engine=pool.engine)
        placed = place_experts(restorer.bundle.tree, config.pools)
        experts = likeliest_first(
            restorer.bundle.tree, [node for node, name in placed.items() if name == pool.name]
        )
        self._restorer = restorer
        self._worker, self._threads = TileWorker(restorer), pool.threads
        self._cores = _cores_of(pool)
        self._thread = one_thread(pool)
        self._queue = GroupedQueue[Group, _Piece, TileResult](self._run, pool.batch_size)
        self._queue_s = Histogram(
            "expertree_tile_queue_seconds",
            "Time that a tile waited in a replica, for its expert to be read too.",
            "expert",
        )
        self._network_s = Histogram(
            "expertree_tile_network_seconds",
            "Time that a group of tiles took in the network.",
            "expert",
        )
        self._shortages = Counter(
            "expertree_memory_retries", "Times that memory ran out and less was tried."
        )
        self._held: HeldExperts[nn.Module] | None = None
        if pool.max_experts is None:
            for node in experts:
                await _in_thread(self._thread, self._worker.test, node)
        else:
            self._held = self._hold(pool.max_experts, one_thread(pool))
            for node in experts[: pool.max_experts]:
                async with self._held.use(node):
                    pass

    async def restore(self, tile: Tile) -> TileResult:
        """Run an expert on a tile; meanwhile experts are read for others."""
        asked = time.perf_counter()
        if self._held is None:
            done = await self._queue.submit(tile.group, (tile, None))
        else:
            async with self._held.use(tile.expert) as network:
                done = await self._queue.submit(tile.group, (tile, network))
        waited_s = max(0.0, time.perf_counter() - asked - done.seconds)
        self._queue_s.add(waited_s, tile.expert)
        return done

    async def _run(self, group: Group, pieces: Sequence[_Piece]) -> Sequence[TileResult]:
        expert, network = group[0], pieces[0][1]
        tiles = [tile for tile, _ in pieces]
        shortages = self._worker.num_memory_retries
        device = self._restorer.device
        done = await _on_device(device, self._thread, self._compute, tiles, network)
        self._network_s.add(done[0].seconds, expert)
        if self._worker.num_memory_retries > shortages:
            self._shortages.add(self._worker.num_memory_retries - shortages)
        return done

    def _compute(self, tiles: Sequence[Tile], network: nn.Module | None) -> list[TileResult]:
        if self._cores is None:
            return self._worker.run(tiles, network)
        with self._cores.taken(self._threads) as count, torch_threads(count):
            return self._worker.run(tiles, network)

    def _hold(self, max_experts: int, thread: ThreadPoolExecutor) -> HeldExperts[nn.Module]:
        """Hold experts that are read in a thread, in a cache of Serve's: its routers know them."""
        loads = Counter(
            "expertree_expert_loads",
            "Experts read by replicas that hold some at a time, at their start or on request.",
            "expert",
        )
        evictions = Counter(
            "expertree_expert_evictions", "Experts that were given up for another.", "expert"
        )

        async def load(model_id: str) -> nn.Module:
            device = self._restorer.device
            network = await _on_device(device, thread, self._read, int(model_id))
            loads.add(1, model_id)
            return network

        cached: Callable[[str], Awaitable[nn.Module]] = serve.multiplexed(
            max_num_models_per_replica=max_experts
        )(load)
        return HeldExperts[nn.Module](
            lambda node: cached(str(node)),
            max_experts,
            on_eviction=lambda node: evictions.add(1, node),
        )

    def _read(self, node: int) -> nn.Module:
        network = self._restorer.read_expert(node)
        self._worker.test(node, network)
        return network


def _cores_of(pool: PoolConfig) -> SharedCores | None:
    """Return the cores that this application's replicas of a pool may have on this node."""
    wanted = pool.max_replicas * pool.threads
    if not pool.lends_cores or pool.engine != "torch" or pool.num_gpus or wanted <= pool.threads:
        return None
    count = max(pool.threads, min(wanted, num_cpus_here()))
    return shared_cores(f"{serve.get_replica_context().app_name}-{pool.name}", count)


def _load(bundle: str, digest: str, *, device: str, engine: EngineName = "torch") -> Restorer:
    """Open the bundle of a release, and check all of it.

    Raises:
        ArtefactError: If it is damaged, or not the one that the release was made for: replicas of
            two bundles would answer under one name.
    """
    restorer = Restorer.load(bundle, device=device, engine=engine)
    found = restorer.bundle.manifest.digest
    if found != digest:
        raise ArtefactError(
            f"{bundle} was replaced: its digest is {found[:10]} and not {digest[:10]}, for which "
            "this replica starts; serve the new one by update=true"
        )
    return restorer


def build_release(bundle: str, digest: str, config: ServingConfig) -> serve.Application:
    """Return the application of one bundle: its routers, and its experts in their pools.

    Args:
        bundle: Directory or URI of the bundle.
        digest: Digest of the bundle; replicas do not start for another one at its place.
        config: Configuration of the application.
    """
    pools = [
        deployment(ExpertReplica, pool, name=POOL + pool.name).bind(bundle, digest, config, pool)
        for pool in config.pools
    ]
    return deployment(RouterReplica, config.router).bind(bundle, digest, config, *pools)


def deployment(cls: type, replicas: Replicas, **options: object) -> serve.Deployment:
    """Return a class's deployment with the options of Serve for its replicas.

    Args:
        cls: Class under `serve.deployment`, whose annotation hides that it returns a deployment.
        replicas: How many replicas, and what each takes.
        options: Other options of a deployment.
    """
    decorated = cast("serve.Deployment", cls)
    return decorated.options(**_options(replicas), **cast("dict[str, Any]", options))


def _options(replicas: Replicas) -> dict[str, Any]:
    return {
        "ray_actor_options": {"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus},
        "max_ongoing_requests": replicas.max_ongoing_requests,
        "max_queued_requests": replicas.max_queued_requests,
        "autoscaling_config": {
            "min_replicas": replicas.min_replicas,
            # A new bundle must show that it works before anything is sent to it.
            "initial_replicas": max(1, replicas.min_replicas),
            "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": replicas.target_ongoing_requests,
            "upscale_delay_s": replicas.upscale_delay_s,
            "downscale_delay_s": replicas.downscale_delay_s,
            "downscale_to_zero_delay_s": replicas.idle_delay_s,
        },
        # Serve's own pauses between offers of a request, 25 ms to 500 ms, would leave replicas idle
        # between images.
        "request_router_config": {"initial_backoff_s": 0.005, "max_backoff_s": 0.04},
        # A bundle that cannot be served shows at the first try.
        "max_constructor_retry_count": 1,
        "graceful_shutdown_timeout_s": replicas.drain_s,
        "logging_config": {"enable_access_log": False},
    }


def one_thread(replicas: Replicas) -> ThreadPoolExecutor:
    """Return the thread that networks run in: the event loop must answer health checks."""
    return ThreadPoolExecutor(
        1, "networks", initializer=torch.set_num_threads, initargs=(replicas.threads,)
    )


async def _on_device(
    device: torch.device, thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: object
) -> T:
    """Return what a function returns in a thread; end this process if it has lost the device.

    A replica that fails at once has room for more than all others, and would get most requests
    until Serve finds it unhealthy. Those of one that ends go to another replica.
    """
    try:
        return await _in_thread(thread, work, *arguments)
    except RuntimeError:
        if await _in_thread(thread, is_device_lost, device):
            _logger.exception("nothing runs on %s any more: this replica ends", device)
            _end_process()
        raise


def _end_process() -> None:
    os._exit(1)


async def _in_thread(thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
