"""Tiled against whole, for every backbone, with networks that have learned something.

All three look at the whole of their input: NAFNet averages each channel over it, Restormer and
Retinexformer attend over channels by products that run over all pixels. So tiles cannot give the
same bits as the whole; what counts is that nobody can tell.
"""

import dataclasses
import functools

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor, nn

from expertree.experts.backbones import build_backbone
from expertree.images.io import to_float, to_u8
from expertree.images.metrics import psnr_rgb
from expertree.images.tiling import TilePlan, plan_tiles, restore_tiled
from networks import TINY

NETWORKS = {
    name: dataclasses.replace(TINY[name], width=8, **sizes)
    for name, sizes in {
        "nafnet": {},
        "restormer": {},
        "retinexformer": {},
        "promptir": {"prompts": 5, "prompt_widths": (64, 24, 8), "prompt_px": (8, 16, 32)},
        "adair": {},
    }.items()
}

NUM_STEPS, BATCH, CROP_PX, SIGMA = 250, 4, 64, 25 / 255
DIFFERENCE_DB = 0.05
GREY_LEVEL = 1 / 255

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def noisy(clean: Tensor, generator: torch.Generator) -> Tensor:
    return (clean + SIGMA * torch.randn(clean.shape, generator=generator)).clamp(0, 1)


@functools.cache
def trained(name: str) -> nn.Module:
    """A network that takes noise off, after a minute of training."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = build_backbone(NETWORKS[name]).train()
    photographs = [to_float(image) for image in (skimage.data.chelsea(), skimage.data.coffee())]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=NUM_STEPS)
    rng = np.random.default_rng(0)
    for _ in range(NUM_STEPS):
        crops = []
        for _ in range(BATCH):
            photograph = photographs[rng.integers(len(photographs))]
            top, left = (rng.integers(side - CROP_PX) for side in photograph.shape[-2:])
            crops.append(photograph[:, top : top + CROP_PX, left : left + CROP_PX])
        clean = torch.stack(crops)
        loss = (network(noisy(clean, generator)) - clean).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def excess_at_borders(tiled: Tensor, whole: Tensor, plan: TilePlan) -> float:
    """By how much neighbours inside overlaps differ more in the tiled image than in the whole."""
    worst = 0.0
    for axis, spans in ((-2, plan.rows), (-1, plan.columns)):
        excess = tiled.diff(dim=axis).abs() - whole.diff(dim=axis).abs()
        for span in spans[1:]:
            at = excess.narrow(axis, span.start, plan.overlap_px - 1)
            # Along the border: a seam is a line, and single pixels differ in either direction.
            worst = max(worst, float(at.mean(dim=-1 if axis == -2 else -2).abs().max()))
    return worst


@pytest.mark.parametrize("tile_px", [256, 160])
@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_nobody_can_tell_tiles_from_the_whole(name: str, tile_px: int) -> None:
    with torch.inference_mode(mode=False), torch.enable_grad():
        network = trained(name)
    clean_u8 = skimage.data.astronaut()
    image = noisy(to_float(clean_u8), torch.Generator().manual_seed(1))[None]
    plan = plan_tiles(512, 512, tile_px=tile_px, overlap_px=32, multiple=network.multiple_px)
    whole, tiled = network(image), restore_tiled(network, image, plan)
    psnr_whole, psnr_tiled = (psnr_rgb(to_u8(out[0]), clean_u8) for out in (whole, tiled))
    largest = float((tiled - whole).abs().max())
    print(
        f"{name} {tile_px} px: noisy {psnr_rgb(to_u8(image[0]), clean_u8):.2f}, whole "
        f"{psnr_whole:.3f}, tiled {psnr_tiled:.3f} dB, largest difference {255 * largest:.2f} "
        f"levels, excess {255 * excess_at_borders(tiled, whole, plan):.3f} levels"
    )
    assert plan.num_tiles > 4
    assert psnr_whole > psnr_rgb(to_u8(image[0]), clean_u8) + 3
    assert psnr_tiled > psnr_whole - DIFFERENCE_DB
    assert excess_at_borders(tiled, whole, plan) < GREY_LEVEL
