"""The gateways' engine: the images of `Restorer`, whoever restores the tiles, in whatever order."""

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from expertree import Restorer
from expertree.errors import (
    MemoryShortageError,
    OptionError,
    OverloadError,
    UnavailableError,
)
from expertree.experts.conditions import Condition
from expertree.routing import AUTOMATIC, Wish
from expertree.serving.engine import Pixels
from expertree.serving.remote import ReleaseEngine, ReplicaLostError
from expertree.serving.replica_work import Judged, RouteRequest, Tile
from photographs import random_u8
from replicas import CONFIG, Replicas, engine_of
from scarce import KINDS, run_out_of_memory


@pytest.fixture(scope="module")
def restorer(bundle_path: Path) -> Restorer:
    return Restorer.load(bundle_path)


@pytest.fixture
def replicas(restorer: Restorer) -> Replicas:
    return Replicas(restorer)


@pytest.mark.parametrize(("height_px", "width_px"), [(1, 1), (1, 70), (40, 50), (129, 95)])
def test_a_whole_image_is_the_restorers_to_the_bit(
    restorer: Restorer, replicas: Replicas, height_px: int, width_px: int
) -> None:
    image = random_u8(height_px, width_px)
    expected = restorer.restore(image)
    restored = asyncio.run(engine_of(replicas, restorer).restore(image, AUTOMATIC))
    assert np.array_equal(restored.pixels, expected.image)
    assert restored.route.expert == expected.route.expert
    assert (restored.num_tiles, restored.num_retries) == (1, 0)
    assert set(restored.seconds) == {"queue", "route", "restore"}


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_tiles_in_any_order_and_side_by_side_give_the_restorers_image_to_the_bit(
    restorer: Restorer, replicas: Replicas, kind: str
) -> None:
    image: Pixels = random_u8(150, 201)
    whole = image
    if kind == "float32":
        image = (image / 255.0).astype(np.float32)
        tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
        expected = restorer.restore(tensor, Wish(tile_px=96)).image.permute(1, 2, 0).numpy()
    else:
        expected = restorer.restore(whole, Wish(tile_px=96)).image
    told: list[tuple[int, int]] = []
    engine = engine_of(replicas, restorer)
    restored = asyncio.run(
        engine.restore(image, Wish(tile_px=96), on_tile=lambda *done: told.append(done))
    )
    assert restored.pixels.dtype == image.dtype
    assert np.array_equal(restored.pixels, expected)
    assert restored.num_tiles > CONFIG.tiles_at_once
    assert replicas.most_at_once == CONFIG.tiles_at_once
    assert told == [(n, restored.num_tiles) for n in range(1, restored.num_tiles + 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_shrink_while_memory_runs_out_and_the_image_stays_the_same(
    restorer: Restorer, replicas: Replicas, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    image = random_u8(260, 200)
    expected = restorer.restore(image, Wish(tile_px=65))
    limit_memory(replicas, monkeypatch, largest_px=70, kind=kind)
    restored = asyncio.run(engine_of(replicas, restorer).restore(image, AUTOMATIC))
    assert restored.num_retries == 2
    assert restored.num_tiles == expected.num_tiles
    assert np.array_equal(restored.pixels, expected.image)


@pytest.mark.parametrize("tile_px", ["auto", 128])
def test_too_little_memory_for_the_smallest_tiles_is_said(
    restorer: Restorer, replicas: Replicas, monkeypatch: pytest.MonkeyPatch, tile_px: str | int
) -> None:
    limit_memory(replicas, monkeypatch, largest_px=8)
    engine = engine_of(replicas, restorer)
    with pytest.raises(MemoryShortageError, match="not enough memory"):
        asyncio.run(engine.restore(random_u8(260, 200), Wish(tile_px=tile_px)))


def limit_memory(
    replicas: Replicas, patch: pytest.MonkeyPatch, *, largest_px: int, kind: str = "gpu"
) -> None:
    through = replicas.worker._through

    def limited(expert: torch.nn.Module, batch: torch.Tensor, told: Condition) -> torch.Tensor:
        if max(batch.shape[-2:]) > largest_px:
            run_out_of_memory(kind)
        return through(expert, batch, told)

    patch.setattr(replicas.worker, "_through", limited)


def test_a_group_that_is_too_large_for_memory_is_done_one_by_one(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, through = replicas.worker, replicas.worker._through
    tiles = [Tile(expert=0, pixels=random_u8(24, 24) // n, whole=True) for n in (1, 2, 3)]
    together = [done.pixels for done in worker.run(tiles)]

    def limited(expert: torch.nn.Module, batch: torch.Tensor, told: Condition) -> torch.Tensor:
        if len(batch) > 1:
            run_out_of_memory("cpu")
        return through(expert, batch, told)

    monkeypatch.setattr(worker, "_through", limited)
    for one, other in zip(worker.run(tiles), together, strict=True):
        assert one.pixels is not None
        assert np.abs(one.pixels.astype(int) - other).max() <= 1
    assert worker.num_memory_retries == 1


def test_questions_of_several_sizes_are_judged_as_each_by_itself(
    restorer: Restorer, replicas: Replicas
) -> None:
    images = [random_u8(64, 64), random_u8(20, 30), random_u8(64, 64) // 4, random_u8(90, 64)]
    wishes = [AUTOMATIC, Wish(level=0), Wish(expert=99), Wish(instruction=("rain",))]
    pairs = zip(images, wishes, strict=True)
    answers = replicas.judging.judge([RouteRequest(part=part, wish=wish) for part, wish in pairs])
    assert isinstance(answers[2], OptionError)
    for place in (0, 1, 3):
        route = restorer.route(
            images[place], Wish(level=wishes[place].level, instruction=wishes[place].instruction)
        )
        answer = answers[place]
        assert isinstance(answer, Judged)
        own = answer.routed
        assert (own.expert, own.leaf, own.level) == (route.expert, route.leaf, route.level)


def test_a_lost_piece_is_done_by_another_replica(restorer: Restorer, replicas: Replicas) -> None:
    image = random_u8(150, 201)

    def lose(_tile: Tile, number: int) -> None:
        if number in {2, 3}:
            raise ReplicaLostError("gone")

    replicas.before = lose
    restored = asyncio.run(engine_of(replicas, restorer).restore(image, Wish(tile_px=96)))
    assert np.array_equal(restored.pixels, restorer.restore(image, Wish(tile_px=96)).image)


def test_a_piece_that_is_lost_again_and_again_ends_the_request(
    restorer: Restorer, replicas: Replicas
) -> None:
    def lose(_tile: Tile, _number: int) -> None:
        raise ReplicaLostError("gone")

    replicas.before = lose
    with pytest.raises(UnavailableError, match="went away") as caught:
        asyncio.run(engine_of(replicas, restorer).restore(random_u8(8, 8), AUTOMATIC))
    assert caught.value.retry_after_s > 0


def test_a_full_queue_refuses_a_new_image_but_not_the_rest_of_one(
    restorer: Restorer, replicas: Replicas
) -> None:
    image = random_u8(150, 201)
    engine = engine_of(replicas, restorer)

    def refuse(_tile: Tile, number: int) -> None:
        if number == 1 or number in {7, 8}:
            raise OverloadError("full")

    replicas.before = refuse
    with pytest.raises(OverloadError, match="full"):
        asyncio.run(engine.restore(image, AUTOMATIC))
    restored = asyncio.run(engine.restore(image, Wish(tile_px=96)))
    assert np.array_equal(restored.pixels, restorer.restore(image, Wish(tile_px=96)).image)


def test_a_caller_who_leaves_stops_the_work_between_tiles(
    restorer: Restorer, replicas: Replicas
) -> None:
    async def scenario() -> None:
        engine = engine_of(replicas, restorer)
        work = asyncio.create_task(engine.restore(random_u8(300, 300), Wish(tile_px=96)))
        while len(replicas.tiles) < 6:
            await asyncio.sleep(0.001)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        begun = len(replicas.tiles)
        await asyncio.sleep(0.1)
        assert len(replicas.tiles) == begun < 16
        assert engine.in_use() == ()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(level=9), "level 9 does not exist"),
        (Wish(instruction=("fog",)), "unknown degradation 'fog'"),
        (Wish(tile_px=40), "tiles must be at least"),
    ],
)
def test_options_that_do_not_exist_are_named(
    restorer: Restorer, replicas: Replicas, wish: Wish, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        asyncio.run(engine_of(replicas, restorer).restore(random_u8(99, 99), wish))


def test_without_a_release_callers_are_told_to_come_again(replicas: Replicas) -> None:
    engine = ReleaseEngine(replicas, CONFIG)
    with pytest.raises(UnavailableError, match="still loading"):
        asyncio.run(engine.restore(random_u8(8, 8), AUTOMATIC))
    assert asyncio.run(engine.models()) == ()
    assert not asyncio.run(engine.ready())


def test_a_request_stays_on_its_release_while_new_ones_go_to_the_next(
    restorer: Restorer, replicas: Replicas
) -> None:
    async def scenario() -> None:
        engine = engine_of(replicas, restorer)
        first = engine.current
        assert first is not None
        work = asyncio.create_task(engine.restore(random_u8(150, 201), Wish(tile_px=96)))
        while not replicas.tiles:
            await asyncio.sleep(0.001)
        engine.switch(dataclasses.replace(first, app="next"))
        assert engine.in_use() == ("app",)
        await work
        assert engine.in_use() == ()
        assert replicas.apps == {"app"}
        await engine.route(random_u8(8, 8), AUTOMATIC)
        assert replicas.apps == {"app", "next"}

    asyncio.run(scenario())


def test_what_is_left_as_it_is_reaches_no_expert(
    careful_bundle_path: Path, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    careful = Restorer.load(careful_bundle_path)
    replicas = Replicas(careful)
    engine = engine_of(replicas, careful)
    spoiled, good = two_kinds
    left = asyncio.run(engine.restore(good, Wish(tile_px=64)))
    assert left.pixels is good
    assert (left.route.expert, left.num_tiles) == (None, 0)
    assert replicas.tiles == []
    insisted = asyncio.run(engine.restore(good, Wish(insist=True)))
    assert np.array_equal(insisted.pixels, careful.restore(good, Wish(insist=True)).image)
    restored = asyncio.run(engine.restore(spoiled, AUTOMATIC))
    assert np.array_equal(restored.pixels, careful.restore(spoiled).image)
    assert len(replicas.tiles) == 2
