"""A bundle on a GPU restores what it restores on a CPU."""

from pathlib import Path

import pytest
import torch

from expertree import Restorer
from expertree.routing import Wish
from photographs import random_u8

pytestmark = pytest.mark.gpu

DEVICE = "cuda"


@pytest.mark.parametrize("tile_px", [0, 80])
def test_images_differ_by_a_grey_level_at_most(bundle_path: Path, tile_px: int) -> None:
    on_cpu, on_gpu = (Restorer.load(bundle_path, device=device) for device in ("cpu", DEVICE))
    image = random_u8(150, 201)
    for expert in on_cpu.tree.experts():
        wish = Wish(expert=expert, tile_px=tile_px)
        expected = on_cpu.restore(image, wish).image.astype(int)
        assert abs(on_gpu.restore(image, wish).image - expected).max() <= 1


def test_routes_are_the_same(bundle_path: Path) -> None:
    on_cpu, on_gpu = (Restorer.load(bundle_path, device=device) for device in ("cpu", DEVICE))
    for side in (40, 128, 300):
        expected, found = (restorer.route(random_u8(side, side)) for restorer in (on_cpu, on_gpu))
        assert found.expert == expected.expert
        assert found.confidence == pytest.approx(expected.confidence, abs=1e-3)


def test_memory_that_runs_out_makes_tiles_smaller(bundle_path: Path) -> None:
    restorer = Restorer.load(bundle_path, device=DEVICE)
    image = random_u8(3000, 3000)
    whole = restorer.restore(image, Wish(expert=0))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(300 * 2**20 / total)
        small = restorer.restore(image, Wish(expert=0))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert small.num_retries > whole.num_retries
    assert abs(small.image.astype(int) - whole.image).max() <= 2
