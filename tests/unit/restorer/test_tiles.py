"""The plans that are tried while memory runs out, and how they are tried."""

import asyncio

import pytest
import torch
from torch import Tensor

from expertree.errors import MemoryShortageError
from expertree.images.tiling import TilePlan, plan_tiles, run_at_once
from expertree.restorer.tiles import Tiled, plans_to_try, restore_in_tiles
from scarce import KINDS, run_out_of_memory


@pytest.mark.parametrize(
    ("longest_px", "sizes_px"),
    [
        (4000, [1024, 512, 256, 128, 64]),
        (1000, [1000, 500, 250, 125]),
        (260, [260, 130, 65]),
        (127, [127]),
        (9, [9]),
    ],
)
def test_automatic_tiles_are_halved_down_to_64_px(longest_px: int, sizes_px: list[int]) -> None:
    expected = tuple(
        plan_tiles(longest_px, 9, tile_px=size_px, overlap_px=32, multiple=8)
        for size_px in sizes_px
    )
    assert plans_to_try(longest_px, 9, tile_px="auto", multiple_px=8) == expected


@pytest.mark.parametrize(("tile_px", "size_px"), [(96, 96), (0, 300)])
def test_a_size_that_was_asked_for_is_the_only_one(tile_px: int, size_px: int) -> None:
    expected = plan_tiles(200, 300, tile_px=size_px, overlap_px=32, multiple=8)
    assert plans_to_try(200, 300, tile_px=tile_px, multiple_px=8) == (expected,)


@pytest.mark.parametrize(("overlap_px", "multiple_px"), [(64, 8), (200, 16), (32, 48)])
def test_automatic_tiles_do_not_become_too_small_for_their_overlap(
    overlap_px: int, multiple_px: int
) -> None:
    plans = plans_to_try(2000, 2000, tile_px="auto", overlap_px=overlap_px, multiple_px=multiple_px)
    assert 1 < len(plans) < 5


def test_tiles_that_are_asked_for_and_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 64 px"):
        plans_to_try(200, 300, tile_px=40, multiple_px=8)


PLANS = plans_to_try(500, 400, tile_px="auto", multiple_px=8)


def by_plans(kind: str, num_failures: int) -> Tiled:
    """Restore where memory runs out with the first so many plans."""

    async def restore(plan: TilePlan) -> Tensor:
        if PLANS.index(plan) < num_failures:
            run_out_of_memory(kind)
        return torch.full((1, 3, 2, 2), float(plan.num_tiles))

    return run_at_once(restore_in_tiles(PLANS, restore))


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_plan_is_tried_while_memory_runs_out(kind: str) -> None:
    for num_failures, plan in enumerate(PLANS):
        tiled = by_plans(kind, num_failures)
        assert (tiled.num_retries, tiled.num_tiles) == (num_failures, plan.num_tiles)
        assert float(tiled.image.max()) == plan.num_tiles
    with pytest.raises((RuntimeError, MemoryError)):
        by_plans(kind, len(PLANS))


def test_a_shortage_that_replicas_report_is_one_too_and_other_errors_are_not() -> None:
    async def first_is_short(plan: TilePlan) -> Tensor:
        await asyncio.sleep(0)
        if plan is PLANS[0]:
            raise MemoryShortageError("too little")
        return torch.zeros(1, 3, 2, 2)

    assert asyncio.run(restore_in_tiles(PLANS, first_is_short)).num_retries == 1
    tried = []

    async def broken(plan: TilePlan) -> Tensor:
        tried.append(plan)
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        run_at_once(restore_in_tiles(PLANS, broken))
    assert tried == [PLANS[0]]
