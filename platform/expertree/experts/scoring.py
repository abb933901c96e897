"""Score an expert, patch by patch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from expertree.experts.patches import PairedPatches
from expertree.images.arrays import ImageU8
from expertree.images.metrics import psnr_rgb, psnr_y, ssim
from expertree.memory import keep_freed_memory

Scores: TypeAlias = dict[str, np.ndarray[Any, np.dtype[np.float64]]]

Restoration: TypeAlias = Callable[[ImageU8, tuple[str, ...]], ImageU8]
"""Function of a degraded image and its degradations to a restored one, uint8 HWC RGB."""

_READ_AT_ONCE = 64
"""Pairs that are held in memory at once where no network batches them."""

_METRICS = {"psnr_rgb": psnr_rgb, "psnr_y": psnr_y, "ssim": ssim}


def score_expert(network: nn.Module, patches: PairedPatches, *, batch_size: int = 8) -> Scores:
    """Restore every patch and compare it with the clean one, both as 8-bit images.

    Args:
        network: An expert, on any device.
        patches: N patches.
        batch_size: Patches restored at once.

    Returns:
        `l1` (images in [0, 1]), `psnr_rgb`, `psnr_y` (dB) and `ssim`, each float64 `[N]` in the
        order of the patches.
    """
    keep_freed_memory()
    rows = [
        _compare(restored, clean)
        for start in range(0, len(patches), batch_size)
        for restored, clean in _restored(
            network, patches, range(start, min(start + batch_size, len(patches)))
        )
    ]
    return _columns(rows)


def psnr_of(network: nn.Module, patches: PairedPatches, rows: Sequence[int]) -> list[float]:
    """Restore some patches, one at a time, and return the PSNR of each as an 8-bit image, in dB."""
    pairs = [pair for row in rows for pair in _restored(network, patches, (row,))]
    return [psnr_rgb(restored, clean) for restored, clean in pairs]


def score_inputs(patches: PairedPatches) -> Scores:
    """Score the degraded patches as they are, as `score_expert` does."""
    return score_restoration(lambda image_u8, _: image_u8, patches)


def score_restoration(restore: Restoration, patches: PairedPatches) -> Scores:
    """Score a function of an image and its degradations in order, as `score_expert` does."""
    return _columns(
        [
            _compare(restore(degraded, patches.tasks[start + place]), clean)
            for start in range(0, len(patches), _READ_AT_ONCE)
            for place, (degraded, clean) in enumerate(
                _pairs(patches, range(start, min(start + _READ_AT_ONCE, len(patches))))
            )
        ]
    )


def _pairs(patches: PairedPatches, indices: Sequence[int]) -> Iterator[tuple[ImageU8, ImageU8]]:
    return zip(patches.images("lq", indices), patches.images("gt", indices), strict=True)


def _restored(
    network: nn.Module, patches: PairedPatches, indices: Sequence[int]
) -> list[tuple[ImageU8, ImageU8]]:
    device = next(network.parameters()).device
    with torch.inference_mode():
        restored = network(patches.lq(indices).to(device).float().div_(255.0))
        pixels = restored.clamp_(0.0, 1.0).mul_(255.0).round_().byte().permute(0, 2, 3, 1)
    images = pixels.contiguous().cpu().numpy()
    return list(zip(images, patches.images("gt", indices), strict=True))


def _compare(restored: ImageU8, clean: ImageU8) -> dict[str, float]:
    l1 = float(np.abs(restored.astype(np.int16) - clean).mean()) / 255.0
    return {"l1": l1} | {name: metric(restored, clean) for name, metric in _METRICS.items()}


def _columns(rows: list[dict[str, float]]) -> Scores:
    names = ("l1", *_METRICS)
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}
