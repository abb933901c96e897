"""The extractor's training recipe: settings, and pure functions of the step."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from expertree.training import indices_at, rate_share


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExtractorRecipe:
    """Settings of an extractor's training."""

    num_steps: int = 600
    """Training steps, one batch each."""

    batch_size: int = 32
    """Images in a batch."""

    crop_px: int = 96
    """Side of the random crops that are trained on, in pixels; at most the patches' side. Smaller
    is faster, and towers that are trained from scratch average over positions, so that the view may
    be larger."""

    last_crop_px: int | None = None
    """Side of the crops in the last quarter of the steps, in pixels; null keeps `crop_px`. Large
    crops at the end teach what a small one cannot show, such as the density of rain, without the
    cost of large crops all the time."""

    swapped_share: float = 0.5
    """Share of the crops whose red, green and blue change places at random. Degradations rarely
    depend on colour, and a small set of photographs shows few colours."""

    learning_rate: float = 2e-3
    """Highest learning rate of AdamW, reached after the warm-up; a cosine to 0 follows."""

    warmup_fraction: float = 0.1
    """Share of the steps in which the rate rises linearly."""

    weight_decay: float = 0.05
    """Weight decay of AdamW, on matrices and filters only."""

    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Number format of the image tower's multiplications. `bfloat16` is about twice as fast where
    the processor has instructions for it (AMX, or a GPU), and slower where it has none; `auto`
    takes it where it has."""

    checkpoint_every_steps: int = 200
    """Steps between checkpoints: the most that is lost when the training is killed."""

    num_threads: int = 2
    """Threads of torch. Part of the recipe: another number adds in another order, which changes
    rounding."""

    def __post_init__(self) -> None:
        """Raise ValueError for a count below 1, a share out of range, or a rate of 0 or less."""
        counts = ("num_steps", "batch_size", "crop_px", "checkpoint_every_steps", "num_threads")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.last_crop_px is not None and self.last_crop_px < 1:
            raise ValueError(f"last_crop_px must be at least 1, got {self.last_crop_px}")
        if not 0.0 <= self.swapped_share <= 1.0:
            raise ValueError(f"swapped_share must lie in [0, 1], got {self.swapped_share}")
        if not 0.0 <= self.warmup_fraction < 1.0:
            raise ValueError(f"warmup_fraction must lie in [0, 1), got {self.warmup_fraction}")
        if not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


def rate_share_at(recipe: ExtractorRecipe, step: int) -> float:
    """Return one step's share of the learning rate: linear warm-up, then half a cosine to 0."""
    num_warmup = max(1, round(recipe.warmup_fraction * recipe.num_steps))
    return rate_share(step, recipe.num_steps, warmup=num_warmup - 1, hold=1)


def crop_px_at(recipe: ExtractorRecipe, step: int) -> int:
    """Return the side of one step's crops, in pixels."""
    is_last = recipe.last_crop_px is not None and 4 * step >= 3 * recipe.num_steps
    return recipe.last_crop_px if is_last and recipe.last_crop_px else recipe.crop_px


def batch_at(recipe: ExtractorRecipe, step: int, *, num_patches: int, seed: int) -> list[int]:
    """Return the positions of one step's patches, which depend on seed and step alone.

    Each pass over the patches has an order of its own; a batch may cross from one into the next.
    """
    first = step * recipe.batch_size
    positions = range(first, first + recipe.batch_size)
    return indices_at(positions, num_patches=num_patches, seed=seed)


def crops_at(
    images: UInt8[Tensor, "b c h w"], recipe: ExtractorRecipe, step: int, *, seed: int
) -> UInt8[Tensor, "b c crop crop"]:
    """Cut one step's crops, mirrored and recoloured at random by seed and step alone.

    They are mirrored left to right only: haze grows towards the top of a photograph, and rain never
    falls level.

    Raises:
        ValueError: If the images are smaller than the crops.
    """
    height_px, width_px = images.shape[-2:]
    side_px = crop_px_at(recipe, step)
    if min(height_px, width_px) < side_px:
        raise ValueError(
            f"crops are {side_px} px, but the patches are {height_px} x {width_px} px; lower "
            "crop_px and last_crop_px"
        )
    rng = np.random.default_rng([seed, step, 1])
    return torch.stack([_crop(image, side_px, recipe.swapped_share, rng) for image in images])


def _crop(
    image: UInt8[Tensor, "c h w"], side_px: int, swapped_share: float, rng: np.random.Generator
) -> UInt8[Tensor, "c crop crop"]:
    height_px, width_px = image.shape[-2:]
    top = int(rng.integers(height_px - side_px + 1))
    left = int(rng.integers(width_px - side_px + 1))
    crop = image[:, top : top + side_px, left : left + side_px]
    crop = crop.flip(2) if rng.random() < 0.5 else crop
    if swapped_share > 0.0 and rng.random() < swapped_share:
        crop = crop[torch.from_numpy(rng.permutation(len(crop)))]
    return crop


def distinct(captions: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return the different captions, sorted, and the place of each caption among them."""
    found = sorted(set(captions))
    place_of = {caption: place for place, caption in enumerate(found)}
    return found, [place_of[caption] for caption in captions]
