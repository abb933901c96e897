"""A replica of a pool that holds some of its experts, without Serve around it."""

import asyncio
import tempfile
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from expertree import Restorer
from expertree.errors import ArtefactError
from expertree.orchestration.serving import replicas
from expertree.routing import Wish
from expertree.serving.deployments import (
    PoolConfig,
    ServingConfig,
    check_bundle,
    likeliest_first,
)
from expertree.serving.replica_work import Tile, is_device_lost

COUNTED: Tally[str] = Tally()


class Sink:
    """A metric that is added up by name and first tag."""

    def __init__(self, name: str, *_: str, **__: Any) -> None:
        self.name = name

    def add(self, value: float, *tags: object) -> None:
        COUNTED[" ".join([self.name, *map(str, tags)])] += int(value >= 0)


def multiplexed(max_num_models_per_replica: int) -> Callable[[Any], Any]:
    """A cache as Serve's, which gives up the least recently used."""

    def decorate(load: Callable[[str], Awaitable[Any]]) -> Callable[[str], Awaitable[Any]]:
        models: OrderedDict[str, Any] = OrderedDict()

        async def cached(model_id: str) -> Any:
            if model_id not in models:
                if len(models) == max_num_models_per_replica:
                    models.popitem(last=False)
                models[model_id] = await load(model_id)
            models.move_to_end(model_id)
            return models[model_id]

        return cached

    return decorate


@pytest.fixture(autouse=True)
def _without_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    COUNTED.clear()
    monkeypatch.setattr(replicas, "Counter", Sink)
    monkeypatch.setattr(replicas, "Histogram", Sink)
    monkeypatch.setattr(replicas.serve, "multiplexed", multiplexed)


async def replica_of(
    bundle: Path,
    max_experts: int | None,
    digest: str | None = None,
    pool: PoolConfig | None = None,
) -> Any:
    cls: Any = replicas.ExpertReplica
    pool = pool or PoolConfig(max_experts=max_experts)
    config = ServingConfig(bundle=str(bundle), pools=(pool,))
    replica = cls.func_or_class.__new__(cls.func_or_class)
    await replica.__init__(str(bundle), digest or check_bundle(str(bundle), (pool,)), config, pool)
    return replica


def loads() -> list[int]:
    names = [name.split() for name in COUNTED if name.startswith("expertree_expert_loads")]
    return [int(expert) for _, expert in names]


def test_it_has_started_when_the_likeliest_experts_have_run_once(bundle_path: Path) -> None:
    restorer = Restorer.load(bundle_path)
    ordered = likeliest_first(restorer.tree, restorer.tree.experts())
    asyncio.run(replica_of(bundle_path, 2))
    assert loads() == ordered[:2]
    assert len(ordered) > 3


def test_whatever_it_holds_each_expert_gives_what_it_gives_in_one_process(
    bundle_path: Path,
) -> None:
    restorer = Restorer.load(bundle_path)
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    experts = restorer.tree.experts()

    async def scenario() -> list[np.ndarray]:
        replica = await replica_of(bundle_path, 2)
        tiles = [Tile(expert=expert, pixels=image, whole=True) for expert in (*experts, *experts)]
        done = await asyncio.gather(*[replica.restore(tile) for tile in tiles])
        return [one.pixels for one in done]

    found = asyncio.run(scenario())
    for expert, pixels in zip((*experts, *experts), found, strict=True):
        assert np.array_equal(pixels, restorer.restore(image, Wish(expert=expert)).image)
    assert set(loads()) == set(experts)
    evictions = sum(
        count for name, count in COUNTED.items() if name.startswith("expertree_expert_evictions")
    )
    num_loads = sum(
        count for name, count in COUNTED.items() if name.startswith("expertree_expert_loads")
    )
    assert evictions == num_loads - 2 > 0


def test_no_replica_starts_for_another_bundle_that_was_put_in_the_place_of_its_own(
    bundle_path: Path,
) -> None:
    config, router = ServingConfig(bundle=str(bundle_path)), replicas.RouterReplica
    said = r"was replaced: its digest is \w{10} and not 0{10}, .* update=true"
    with pytest.raises(ArtefactError, match=said):
        asyncio.run(replica_of(bundle_path, None, digest="0" * 64))
    with pytest.raises(ArtefactError, match=said):
        cast("Any", router).func_or_class(str(bundle_path), "0" * 64, config)


@pytest.mark.parametrize("is_lost", [True, False])
@pytest.mark.parametrize("max_experts", [None, 2])
def test_a_replica_that_has_lost_its_device_ends_and_any_other_goes_on(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, is_lost: bool, max_experts: int | None
) -> None:
    ended: list[bool] = []

    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    async def scenario() -> None:
        replica = await replica_of(bundle_path, max_experts)
        monkeypatch.setattr(replica._worker, "run", broken)
        await replica.restore(tile)

    tile = Tile(expert=0, pixels=np.zeros((8, 8, 3), np.uint8), whole=True)
    monkeypatch.setattr(replicas, "_end_process", lambda: ended.append(True))
    monkeypatch.setattr(replicas, "is_device_lost", lambda _: is_lost)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        asyncio.run(scenario())
    assert ended == [True] * is_lost


@pytest.mark.parametrize(
    ("device", "error", "is_lost"),
    [
        ("cuda", RuntimeError("CUDA error: device-side assert triggered"), True),
        ("cuda", torch.OutOfMemoryError("CUDA out of memory"), False),
        ("cuda", None, False),
        ("cpu", RuntimeError("not asked"), False),
    ],
)
def test_a_device_is_lost_when_nothing_else_runs_on_it_either(
    monkeypatch: pytest.MonkeyPatch, device: str, error: Exception | None, is_lost: bool
) -> None:
    def ones(*_: object, **__: object) -> torch.Tensor:
        if error is not None:
            raise error
        return torch.zeros(1)

    monkeypatch.setattr(torch, "ones", ones)
    assert is_device_lost(torch.device(device)) is is_lost


def test_without_a_limit_all_are_tried_at_the_start_and_none_is_counted(bundle_path: Path) -> None:
    replica = asyncio.run(replica_of(bundle_path, None))
    assert loads() == []
    assert set(replica._restorer._experts) == set(replica._restorer.tree.experts())


def test_a_lone_tile_is_done_on_all_idle_cores_of_the_pool(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(replicas, "num_cpus_here", lambda: 3)
    monkeypatch.setattr(
        replicas.serve, "get_replica_context", lambda: SimpleNamespace(app_name="app")
    )
    image = np.zeros((24, 24, 3), dtype=np.uint8)

    async def threads_with(**settings: Any) -> int:
        replica = await replica_of(bundle_path, None, pool=PoolConfig(**settings))
        seen: list[int] = []
        run = replica._worker.run

        def watched(*arguments: Any) -> Any:
            seen.append(torch.get_num_threads())
            return run(*arguments)

        replica._worker.run = watched
        await replica.restore(Tile(expert=0, pixels=image, whole=True))
        return seen[0]

    assert asyncio.run(threads_with(max_replicas=2)) == 2
    assert asyncio.run(threads_with(max_replicas=8, name="many")) == 3
    assert asyncio.run(threads_with(max_replicas=8, lends_cores=False)) == 1
    assert asyncio.run(threads_with(max_replicas=8, num_cpus=2, name="two")) == 3
    assert asyncio.run(threads_with()) == 1
