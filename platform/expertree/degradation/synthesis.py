"""Making degraded images from recipes, with the same bits each time."""

import dataclasses
import zlib

import numpy as np

from expertree.degradation.physics import from_u8, to_u8
from expertree.degradation.recipe import Recipe
from expertree.degradation.registry import REGISTRY, Maps
from expertree.images.arrays import Field, ImageU8
from expertree.images.io import check_image_u8, jpeg_round_trip

PROCEDURAL_MAPS = Maps()
MAP_NAMES = tuple(field.name for field in dataclasses.fields(Maps))


def degrade(image_u8: ImageU8, recipe: Recipe, maps: Maps = PROCEDURAL_MAPS) -> ImageU8:
    """Degrade a clean image as the recipe says.

    The image is float between the steps and is rounded to 8 bit once, at the end, and then coded as
    JPEG if the recipe says that it was saved so. Each task draws from a generator of its own, made
    from the recipe's seed and the task's name, so the result depends on the image, the recipe and
    the maps alone.

    Args:
        image_u8: The clean image, uint8 `[height, width, 3]`.
        recipe: The degradations and their parameters.
        maps: Real maps of the image's height and width; `cuts.maps_of` reads those that a recipe
            names.

    Returns:
        The degraded image, same shape and type.

    Raises:
        ValueError: If the image is not 8-bit RGB, a map does not fit it, or one that the recipe
            names is left out.
    """
    check_image_u8(image_u8)
    for name in MAP_NAMES:
        _check(name, getattr(maps, name), image_u8, recipe)
    image = from_u8(image_u8)
    for task in recipe.tasks:
        rng = np.random.default_rng([recipe.seed, zlib.crc32(task.encode())])
        image = REGISTRY[task].apply(image, recipe.parameters[task], rng, maps)
    spoiled = to_u8(image)
    if recipe.saved is None:
        return spoiled
    return jpeg_round_trip(spoiled, recipe.saved.quality, subsampling=recipe.saved.subsampling)


def _check(name: str, field: Field | None, image_u8: ImageU8, recipe: Recipe) -> None:
    if field is None:
        if name in recipe.maps:
            raise ValueError(
                f"the recipe was made with {name} from '{recipe.maps[name].file}'; give that map"
            )
        return
    if field.shape != image_u8.shape[:2]:
        raise ValueError(
            f"{name} must have the image's height and width {list(image_u8.shape[:2])}, "
            f"got {list(field.shape)}"
        )
    if not (np.isfinite(field).all() and field.min() >= 0.0 and field.max() <= 1.0):
        raise ValueError(
            f"{name} must lie in [0, 1], got {float(field.min())} to {float(field.max())}"
        )
