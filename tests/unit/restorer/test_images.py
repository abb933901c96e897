"""What goes into the assembled model comes back: sizes, types, tiles, progress."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from expertree import Restorer
from expertree.images.io import to_float, to_u8
from expertree.restorer import restorer as module
from expertree.restorer.per_tile import restore_per_tile
from expertree.routing import Wish
from networks import NETWORK_ATOL
from photographs import random_u8
from scarce import KINDS, run_out_of_memory


@pytest.mark.parametrize(
    ("height_px", "width_px"), [(1, 1), (1, 40), (2, 3), (17, 5), (63, 64), (129, 95)]
)
def test_any_size_is_restored_to_its_size_and_type(
    restorer: Restorer, height_px: int, width_px: int
) -> None:
    image = random_u8(height_px, width_px)
    before = image.copy()
    restored = restorer.restore(image).image
    assert restored.shape == image.shape
    assert restored.dtype == np.uint8
    assert np.array_equal(image, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("batched", [False, True])
def test_float_tensors_come_back_as_they_went_in(
    restorer: Restorer, dtype: torch.dtype, batched: bool
) -> None:
    image_u8 = random_u8(30, 20)
    image = to_float(image_u8).to(dtype)
    if batched:
        image = image[None]
    before = image.clone()
    restored = restorer.restore(image).image
    assert restored.shape == image.shape
    assert restored.dtype == dtype
    assert 0.0 <= restored.min() <= restored.max() <= 1.0
    assert torch.equal(image, before)
    if dtype == torch.float32:
        plain = restored[0] if batched else restored
        assert np.array_equal(to_u8(plain), restorer.restore(image_u8).image)


def test_a_restored_tensor_may_be_changed_and_differentiated(restorer: Restorer) -> None:
    restored = restorer.restore(torch.rand(3, 16, 16)).image
    restored += 1.0
    weight = torch.ones((), requires_grad=True)
    (weight * restored).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("overlap_px", [16, 32])
def test_tiles_give_the_same_image_as_the_whole(restorer: Restorer, overlap_px: int) -> None:
    image = torch.rand(3, 150, 201, generator=torch.Generator().manual_seed(0))
    whole = restorer.restore(image, Wish(tile_px=0))
    tiled = restorer.restore(image, Wish(tile_px=96), overlap_px=overlap_px)
    assert whole.num_tiles == 1
    assert tiled.num_tiles > 1
    assert tiled.route == whole.route
    torch.testing.assert_close(tiled.image, whole.image, rtol=0, atol=NETWORK_ATOL)


def on_a_small_device(
    restorer: Restorer, largest_px: int, monkeypatch: pytest.MonkeyPatch, kind: str = "gpu"
) -> tuple[Restorer, list[int]]:
    """The same bundle where memory runs out above a size, and the sides that were tried."""
    load_expert, tried = restorer.bundle.load_expert, []

    def limited(node: int) -> torch.nn.Module:
        expert = load_expert(node)

        def check(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            tried.append(max(inputs[0].shape[-2:]))
            if tried[-1] > largest_px:
                run_out_of_memory(kind)

        expert.register_forward_pre_hook(check)
        return expert

    monkeypatch.setattr(module.Bundle, "load_expert", lambda _, node: limited(node))
    return Restorer(restorer.bundle), tried


@pytest.mark.parametrize("kind", KINDS)
def test_automatic_tiles_shrink_while_memory_runs_out(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    restorer = Restorer.load(bundle_path)
    image = torch.rand(3, 200, 260, generator=torch.Generator().manual_seed(0))
    expected = restorer.restore(image, Wish(tile_px=0)).image
    small, tried = on_a_small_device(restorer, 100, monkeypatch, kind)
    restoration = small.restore(image)
    assert tried[0] == 260
    assert restoration.num_retries == 2
    assert max(tried[-restoration.num_tiles :]) <= 100
    torch.testing.assert_close(restoration.image, expected, rtol=0, atol=NETWORK_ATOL)
    with pytest.raises((RuntimeError, MemoryError), match=r"allocate"):
        small.restore(image, Wish(tile_px=128))


def test_memory_that_runs_out_at_512_ends_at_256_with_the_same_image(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer = Restorer.load(bundle_path)
    image = torch.rand(3, 512, 384, generator=torch.Generator().manual_seed(0))
    whole = restorer.restore(image, Wish(tile_px=0)).image
    tiled = restorer.restore(image, Wish(tile_px=256))
    small, tried = on_a_small_device(restorer, 511, monkeypatch)
    restoration = small.restore(image)
    assert tried[0] == 512
    assert max(tried[1:]) <= 256
    assert (restoration.num_retries, restoration.num_tiles) == (1, tiled.num_tiles)
    assert torch.equal(restoration.image, tiled.image)
    torch.testing.assert_close(restoration.image, whole, rtol=0, atol=NETWORK_ATOL)


def test_progress_is_told_by_tile(restorer: Restorer) -> None:
    seen: list[tuple[int, int]] = []
    restoration = restorer.restore(
        random_u8(100, 100), Wish(tile_px=72), on_tile=lambda *counts: seen.append(counts)
    )
    total = restoration.num_tiles
    assert seen == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), dtype=np.uint8), r"uint8 \[height, width, 3\]"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"uint8 \[height, width, 3\]"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"uint8 \[height, width, 3\]"),
        (np.zeros((4, 4, 3), dtype=np.float32), "float32"),
        (torch.zeros(2, 3, 4, 4), "one by one"),
        (torch.zeros(3, 0, 4), "got"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "torch.uint8"),
        (torch.full((3, 4, 4), 255.0), "from 255 to 255"),
        (torch.full((3, 4, 4), float("nan")), "nan"),
    ],
)
def test_what_is_no_image_is_refused(
    restorer: Restorer, image: np.ndarray | Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        restorer.restore(image)
    with pytest.raises(ValueError, match=message):
        restorer.route(image)


def test_tiles_of_their_own_experts_start_where_every_expert_works(bundle_path: Path) -> None:
    bundle = Restorer.load(bundle_path).bundle
    multiples = itertools.cycle((4, 6))
    entries = tuple(
        dataclasses.replace(entry, multiple_px=next(multiples)) for entry in bundle.manifest.experts
    )
    manifest = dataclasses.replace(bundle.manifest, experts=entries)
    restorer = Restorer(dataclasses.replace(bundle, manifest=manifest))
    image = torch.rand(3, 200, 230, generator=torch.Generator().manual_seed(0))
    _, tiles = restore_per_tile(restorer, image, Wish(tile_px=80), overlap_px=8)
    assert len(tiles) > 4
    assert {start % 12 for tile in tiles for start in (tile.top_px, tile.left_px)} == {0}
