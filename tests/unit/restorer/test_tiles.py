"""The plans that are tried while memory runs out."""

import pytest

from expertree.images.tiling import plan_tiles
from expertree.restorer.tiles import plans_to_try


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
