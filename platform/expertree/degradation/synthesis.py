"""Degraded images from recipes, the same bits each time."""

import zlib

import numpy as np

from expertree.degradation.physics import from_u8, to_u8
from expertree.degradation.recipe import Recipe
from expertree.degradation.registry import REGISTRY, Maps
from expertree.images.arrays import Field, ImageU8
from expertree.images.io import check_image_u8


def degrade(
    image_u8: ImageU8,
    recipe: Recipe,
    *,
    depth: Field | None = None,
    illumination: Field | None = None,
    snow_mask: Field | None = None,
) -> ImageU8:
    """Spoil a clean image as the recipe says.

    The image is float between the steps and is rounded to 8 bit once, at the end. Each task draws
    from a generator of its own, made from the recipe's seed and the task's name, so the result
    depends on the image, the recipe and the maps alone.

    Args:
        image_u8: The clean image, uint8 `[height, width, 3]`.
        recipe: What to do.
        depth: Real depth for haze, float32 `[height, width]` in [0, 1], 1 the far end; procedural
            when left out.
        illumination: Real illumination for low light, likewise.
        snow_mask: Real flakes for snow, likewise.

    Returns:
        The degraded image, same shape and type.

    Raises:
        ValueError: If the image is not 8-bit RGB, or a map does not fit it.
    """
    check_image_u8(image_u8)
    maps = Maps(
        depth=_checked("depth", depth, image_u8),
        illumination=_checked("illumination", illumination, image_u8),
        snow_mask=_checked("snow_mask", snow_mask, image_u8),
    )
    image = from_u8(image_u8)
    for task in recipe.tasks:
        rng = np.random.default_rng([recipe.seed, zlib.crc32(task.encode())])
        image = REGISTRY[task].apply(image, recipe.parameters[task], rng, maps)
    return to_u8(image)


def _checked(name: str, field: Field | None, image_u8: ImageU8) -> Field | None:
    if field is None:
        return None
    if field.shape != image_u8.shape[:2]:
        raise ValueError(
            f"{name} must have the image's height and width {list(image_u8.shape[:2])}, "
            f"got {list(field.shape)}"
        )
    if not (np.isfinite(field).all() and field.min() >= 0.0 and field.max() <= 1.0):
        raise ValueError(
            f"{name} must lie in [0, 1], got {float(field.min())} to {float(field.max())}"
        )
    return field.astype(np.float32, copy=False)
