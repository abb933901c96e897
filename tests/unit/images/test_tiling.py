"""Tiled restoration against the whole image at once."""

import asyncio
from collections.abc import Awaitable, Generator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from expertree.experts.backbones import build_backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.images.tiling import (
    Canvas,
    Place,
    blend_tiles,
    plan_tiles,
    restore_tiled,
    run_at_once,
    span_weights,
)
from networks import NETWORK_ATOL

LOCAL_ATOL = 1e-6
"""Blending equal float32 values of [0, 1] in two tiles rounds by a few units in the last place."""


def blur(image: Tensor, radius_px: int) -> Tensor:
    """A local operator: mean over a square, the border replicated."""
    padded = functional.pad(image, (radius_px,) * 4, mode="replicate")
    return functional.avg_pool2d(padded, 2 * radius_px + 1, stride=1)


def photo_like(height_px: int, width_px: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 9, 11, generator=generator)
    return functional.interpolate(coarse, (height_px, width_px), mode="bicubic").clamp(0, 1)


@given(
    height_px=st.integers(1, 700),
    width_px=st.integers(1, 700),
    tile_px=st.integers(64, 256),
    overlap_px=st.sampled_from([0, 8, 16, 31, 32]),
    multiple=st.sampled_from([1, 4, 8, 16]),
)
@settings(max_examples=100)
def test_plan_covers_the_image_with_aligned_tiles_of_at_most_the_given_size(
    height_px: int, width_px: int, tile_px: int, overlap_px: int, multiple: int
) -> None:
    plan = plan_tiles(
        height_px, width_px, tile_px=tile_px, overlap_px=overlap_px, multiple=multiple
    )
    for spans, size_px in ((plan.rows, height_px), (plan.columns, width_px)):
        assert spans[0].start == 0
        assert spans[-1].stop == size_px
        for before, after in pairwise(spans):
            assert before.start < after.start
            assert before.stop - after.start == plan.overlap_px >= overlap_px
        for span in spans:
            assert span.start % multiple == 0
            assert 0 < span.stop - span.start <= tile_px


@given(
    size_px=st.integers(65, 600),
    tile_px=st.integers(64, 200),
    overlap_px=st.sampled_from([0, 8, 17, 32]),
)
@settings(max_examples=50)
def test_weights_are_a_partition_of_unity_and_vanish_at_inner_borders(
    size_px: int, tile_px: int, overlap_px: int
) -> None:
    plan = plan_tiles(size_px, size_px, tile_px=tile_px, overlap_px=overlap_px)
    total = torch.zeros(size_px)
    for span, weight in zip(plan.rows, span_weights(plan.rows, plan.overlap_px), strict=True):
        total[span.start : span.stop] += weight
        dead_px = plan.overlap_px // 4
        assert weight.min() >= 0
        assert span.start == 0 or not weight[:dead_px].any()
        assert span.stop == size_px or not weight[len(weight) - dead_px :].any()
    torch.testing.assert_close(total, torch.ones(size_px), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height_px", "width_px"), [(100, 300), (257, 131), (65, 64), (1, 200)])
@pytest.mark.parametrize("multiple", [1, 8])
def test_tiles_equal_the_whole_for_a_local_operator(
    height_px: int, width_px: int, multiple: int
) -> None:
    image = photo_like(height_px, width_px)
    plan = plan_tiles(height_px, width_px, tile_px=64, overlap_px=24, multiple=multiple)
    tiled = restore_tiled(lambda tile: blur(tile, 6), image, plan)
    torch.testing.assert_close(tiled, blur(image, 6), rtol=0, atol=LOCAL_ATOL)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A NAFNet whose blocks are not the identity that fresh ones are."""
    torch.manual_seed(0)
    network = build_backbone(NAFNetConfig(width=8)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("beta", "gamma")):
                parameter.normal_(std=0.3)
    return network


@pytest.mark.parametrize(("tile_px", "num_tiles"), [(128, 6), (96, 12)])
@torch.inference_mode()
def test_tiles_equal_the_whole_for_a_network_with_global_pooling(
    network: nn.Module, tile_px: int, num_tiles: int
) -> None:
    image = photo_like(191, 255)
    image += 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    plan = plan_tiles(191, 255, tile_px=tile_px, overlap_px=32, multiple=8)
    whole, tiled = network(image), restore_tiled(network, image, plan)
    assert plan.num_tiles == num_tiles
    assert (whole - image).abs().mean() > 0.1
    torch.testing.assert_close(tiled, whole, rtol=0, atol=NETWORK_ATOL)


@torch.inference_mode()
def test_tiles_off_the_grid_of_the_network_would_differ(network: nn.Module) -> None:
    image = photo_like(192, 256)
    plan = plan_tiles(192, 256, tile_px=100, overlap_px=32, multiple=1)
    off_grid = restore_tiled(network, image, plan)
    assert (off_grid - network(image)).abs().max() > 10 * NETWORK_ATOL


def test_one_tile_is_the_operator_itself() -> None:
    image = photo_like(50, 60)
    plan = plan_tiles(50, 60, tile_px=64, overlap_px=32)
    assert torch.equal(restore_tiled(lambda tile: blur(tile, 2), image, plan), blur(image, 2))


def test_no_seam_shows_where_tiles_disagree() -> None:
    # Each tile gets another brightness, as a network with global pooling may give it.
    image = torch.full((1, 3, 40, 400), 0.5)
    plan = plan_tiles(40, 400, tile_px=96, overlap_px=32)
    offsets = iter([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
    tiled = restore_tiled(lambda tile: tile + next(offsets), image, plan)
    largest_jump = tiled.diff(dim=-1).abs().max().item()
    disagreement, fade_px = 0.2, 16
    # A squared sine is pi / 2 times as steep as a straight line between the same ends.
    assert 0 < largest_jump < 1.6 * disagreement / fade_px


def test_equal_tiles_cost_less_than_full_ones() -> None:
    plan = plan_tiles(520, 520, tile_px=512, overlap_px=32)
    area = sum((r.stop - r.start) * (c.stop - c.start) for r in plan.rows for c in plan.columns)
    assert plan.num_tiles == 4
    assert area < 1.2 * 520 * 520


def test_progress_is_told_and_may_stop_the_work() -> None:
    image = photo_like(100, 200)
    plan = plan_tiles(100, 200, tile_px=64, overlap_px=16)
    seen: list[int] = []

    def stop_at_three(num_done: int, num_tiles: int) -> None:
        assert num_tiles == plan.num_tiles
        seen.append(num_done)
        if num_done == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        restore_tiled(lambda tile: tile, image, plan, on_tile=stop_at_three)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(("tile_px", "overlap_px"), [(64, 33), (16, 0), (64, -1)])
def test_a_tile_too_small_for_its_overlap_is_refused(tile_px: int, overlap_px: int) -> None:
    with pytest.raises(ValueError, match=f"tile_px={tile_px}"):
        plan_tiles(500, 500, tile_px=tile_px, overlap_px=overlap_px, multiple=16)


def test_tiles_side_by_side_give_the_same_image_to_the_bit() -> None:
    image, plan = photo_like(150, 201), plan_tiles(150, 201, tile_px=64, overlap_px=16)

    async def side_by_side() -> torch.Tensor:
        async def restored(place: Place) -> torch.Tensor:
            await asyncio.sleep(0.002 * (5 - place[0]))  # the last row is done first
            return image[(..., *plan.extent(place))] * 0.5

        tasks = [asyncio.create_task(restored(place)) for place in plan.tiles()]
        canvas = Canvas(image.shape, plan)
        return await blend_tiles((task for task in tasks), canvas, call=asyncio.to_thread)

    expected = restore_tiled(lambda tile: tile * 0.5, image, plan)
    assert torch.equal(asyncio.run(side_by_side()), expected)


@pytest.mark.parametrize("reason", ["tile", "on_tile", "cancelled"])
def test_whatever_ends_the_loop_closes_the_tiles(reason: str) -> None:
    plan = plan_tiles(100, 200, tile_px=64, overlap_px=16)
    closed, taken = [], []

    async def scenario() -> None:
        async def restored(place: Place) -> torch.Tensor:
            taken.append(place)
            await asyncio.sleep(60 if reason == "cancelled" and len(taken) == 3 else 0)
            if reason == "tile" and len(taken) == 3:
                raise InterruptedError
            return torch.zeros(1, 3, *(len(range(*own.indices(999))) for own in plan.extent(place)))

        def tiles() -> Generator[Awaitable[torch.Tensor], None, None]:
            try:
                for place in plan.tiles():
                    yield restored(place)
            finally:
                closed.append(True)

        def stop(num_done: int, _num_tiles: int) -> None:
            if reason == "on_tile" and num_done == 3:
                raise InterruptedError

        canvas = Canvas((1, 3, 100, 200), plan)
        await asyncio.wait_for(blend_tiles(tiles(), canvas, on_tile=stop), timeout=0.2)

    with pytest.raises((InterruptedError, TimeoutError)):
        asyncio.run(scenario())
    assert closed == [True]
    assert len(taken) == 3 < plan.num_tiles


def test_a_coroutine_that_waits_needs_an_event_loop() -> None:
    async def gives(value: int) -> int:
        return value

    assert run_at_once(gives(3)) == 3
    with pytest.raises(RuntimeError, match="waits"):
        run_at_once(asyncio.sleep(0))
