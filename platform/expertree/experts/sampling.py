"""Which samples a step sees, and how they are cut and turned.

Everything is a function of the seed and of a sample's position in the sequence of all samples that
the training will see. So a resumed training, or one shared among workers, sees what an undisturbed
one does.
"""

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8

from expertree.degradation.fresh import FreshDegradation
from expertree.degradation.recipe import NO_RECIPE, Recipe
from expertree.experts.batches import Batch
from expertree.experts.patches import PairedPatches
from expertree.images.arrays import ImageU8
from expertree.training.passes import indices_at

_FRESH, _OWN, _SECOND = 0x5EED, 0x0DD5, 0x2C20
"""Tell the seeds of what is degraded anew, those of what a network draws itself, and the bits of
second crops from the bits that place and turn a crop."""

_U64: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]


def draw_batch(
    patches: PairedPatches,
    positions: Sequence[int],
    *,
    patch_px: int,
    augment: bool,
    seed: int,
    fresh: FreshDegradation | None = None,
    second: bool = False,
) -> Batch:
    """Cut, flip and turn the samples at some positions; pairs are treated alike.

    Args:
        patches: To draw from.
        positions: In the sequence of all samples.
        patch_px: Side of the crops.
        augment: Whether to flip and turn.
        seed: Seed of order, places, orientations, and of what is degraded anew.
        fresh: Degrades the clean patches anew; None takes the stored degraded ones, as do pairs,
            which have no recipe. A patch is degraded whole and cut afterwards: blur sees beyond the
            crop's border, haze its depth.
        second: Whether to cut another crop of each degraded patch.

    Raises:
        ValueError: If a patch is smaller than the crop.
    """
    indices = indices_at(positions, num_patches=len(patches), seed=seed)
    bits = _random_bits(positions, seed)
    clean = patches.images("gt", indices)
    if fresh is None:
        degraded = patches.images("lq", indices)
    else:
        degraded = _degrade_anew(patches, indices, clean, _seeds(positions, seed ^ _FRESH), fresh)
    sides = [(degraded, bits), (clean, bits)]
    if second:
        sides.append((degraded, _random_bits(positions, seed ^ _SECOND)))
    crops = np.empty((len(sides), len(indices), patch_px, patch_px, 3), dtype=np.uint8)
    for side, (images, own) in enumerate(sides):
        for n, image in enumerate(images):
            crops[side, n] = cut(image, int(own[n]), patch_px=patch_px, augment=augment)
    lq, gt, *others = torch.from_numpy(crops).permute(0, 1, 4, 2, 3).float().div_(255.0)
    return Batch(
        lq=lq,
        gt=gt,
        tasks=[patches.tasks[index] for index in indices],
        seeds=_seeds(positions, seed ^ _OWN),
        second=others[0] if others else None,
    )


def cut(image: ImageU8, bits: int, *, patch_px: int, augment: bool) -> UInt8[np.ndarray, "p p 3"]:
    """Cut a square at a random place and put it in one of the eight orientations, without copying.

    Args:
        image: uint8 HWC.
        bits: 64 random bits that decide.
        patch_px: Side of the square.
        augment: Whether to flip and turn.

    Raises:
        ValueError: If the image is smaller than the square.
    """
    height, width = image.shape[:2]
    if min(height, width) < patch_px:
        raise ValueError(
            f"a crop of {patch_px} px cannot be cut from a patch of {height} x {width} px; lower "
            "patch_px of the recipe"
        )
    top = (bits >> 3 & 0xFFFFFF) % (height - patch_px + 1)
    left = (bits >> 32 & 0xFFFFFF) % (width - patch_px + 1)
    crop = image[top : top + patch_px, left : left + patch_px]
    if not augment:
        return crop
    crop = crop[::-1] if bits & 1 else crop
    crop = crop[:, ::-1] if bits & 2 else crop
    return crop.transpose(1, 0, 2) if bits & 4 else crop


def _degrade_anew(
    patches: PairedPatches,
    indices: Sequence[int],
    clean: Sequence[ImageU8],
    seeds: Sequence[int],
    fresh: FreshDegradation,
) -> list[ImageU8]:
    """Degrade clean patches anew; those of pairs keep the degradation that they came with."""
    recipes = patches.recipes(indices)
    found = [index for index, text in zip(indices, recipes, strict=True) if text == NO_RECIPE]
    stored = iter(patches.images("lq", found) if found else ())
    return [
        next(stored) if text == NO_RECIPE else fresh(image, _recipe(text), own)
        for image, text, own in zip(clean, recipes, seeds, strict=True)
    ]


@functools.lru_cache(maxsize=4096)
def _recipe(text: str) -> Recipe:
    return Recipe.from_json(text)


def _seeds(positions: Sequence[int], seed: int) -> list[int]:
    """A number in [0, 2^63) for each position."""
    seeds: list[int] = (_random_bits(positions, seed) >> np.uint64(1)).tolist()
    return seeds


def _random_bits(positions: Sequence[int], seed: int) -> _U64:
    """64 bits for each position: SplitMix64 (Steele et al. 2014), one hash for all."""
    start = np.random.default_rng([seed]).integers(1 << 63, dtype=np.uint64)
    z = np.asarray(positions, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
