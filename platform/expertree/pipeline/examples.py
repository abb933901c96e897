"""Makes a report's example pictures: validation pictures, degraded and then restored."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from expertree.degradation.captions import caption, caption_of_kinds
from expertree.degradation.parameters import DISTRIBUTIONS, Distribution
from expertree.degradation.photographs import load_photo
from expertree.degradation.recipe import Kind, draw_recipe, mixable
from expertree.degradation.synthesis import degrade
from expertree.evaluation import is_as_is
from expertree.images.arrays import ImageU8
from expertree.images.io import encode_png, to_float, to_u8
from expertree.images.metrics import psnr_rgb
from expertree.pipeline.build import Built
from expertree.pipeline.score import open_expert
from expertree.pipeline.settings import BuildConfig
from expertree.restorer import Restorer
from expertree.routing import Route

EXAMPLE_PX = 256


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Example:
    """A picture to restore: its name in the report, and what is wrong with it."""

    name: str
    picture: str
    tasks: tuple[str, ...]
    caption: str
    distribution: Distribution
    spoiled: ImageU8
    clean: ImageU8


def make_examples(
    config: BuildConfig, built: Built
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Make the examples: crops of validation pictures, degraded, restored by the bundle, clean.

    Photographs are degraded here; pairs are degraded as they came. Each example also has the result
    of the network that the tree is compared with; of several, the one that was trained longest.

    Returns:
        A record for each example, and the pictures that it names, as PNG.
    """
    restorer = Restorer.load(built.bundle.uri)
    longest = max(built.comparisons.items(), key=lambda pair: pair[1].job.num_samples, default=None)
    alone = {} if longest is None else {longest[0]: open_expert(longest[1].result)}
    records: list[dict[str, Any]] = []
    images: dict[str, bytes] = {}
    for one in (*_of_photographs(config, built), *_of_pairs(config, built)):
        restored = restorer.restore(one.spoiled)
        with torch.inference_mode():
            compared = {
                name: to_u8(network(to_float(one.spoiled)[None])[0])
                for name, network in alone.items()
            }
        shown = {"input": one.spoiled, **compared, "routed": restored.image, "clean": one.clean}
        images |= {f"{one.name}-{k}.png": encode_png(v, level=9) for k, v in shown.items()}
        records.append(
            {
                "id": f"{one.picture} ({one.name})",
                "task": " + ".join(one.tasks),
                "caption": one.caption,
                "distribution": one.distribution,
                **{k: f"{one.name}-{k}.png" for k in shown},
                "psnr": {k: psnr_rgb(v, one.clean) for k, v in shown.items() if k != "clean"},
                "route": _route_record(restored.route),
            }
        )
    return records, images


def _of_photographs(config: BuildConfig, built: Built) -> Iterator[_Example]:
    """Yield degraded photographs: each kind in turn, with another photograph each time."""
    for number, (distribution, turn, kind, allowed) in enumerate(_wanted(config)):
        photo, clean = _photo(built, turn + number)
        rng = np.random.default_rng([config.seed, turn, number])
        recipe = draw_recipe(
            rng, tasks=allowed, kind=kind, severity=distribution, ranges=config.degradation.ranges
        )
        yield _Example(
            name=f"{distribution}-{turn:02d}-{'-'.join(recipe.tasks)}",
            picture=photo,
            tasks=recipe.tasks,
            caption=caption(recipe),
            distribution=distribution,
            spoiled=degrade(clean, recipe),
            clean=clean,
        )


def _of_pairs(config: BuildConfig, built: Built) -> Iterator[_Example]:
    """Yield pairs of validation as they came: some of each source, by their contents."""
    for source in built.material.sources:
        pairs = sorted(source.pairs_of("val"), key=lambda pair: pair.lq.sha256)
        for turn, pair in enumerate(pairs[: config.num_examples]):
            yield _Example(
                name=f"{source.label}-{turn:02d}-{'-'.join(pair.tasks)}",
                picture=pair.name,
                tasks=pair.tasks,
                caption=caption_of_kinds(pair.tasks),
                distribution="in",
                spoiled=_centre(load_photo(pair.lq)),
                clean=_centre(load_photo(pair.gt)),
            )


def _wanted(config: BuildConfig) -> Iterator[tuple[Distribution, int, Kind, tuple[str, ...]]]:
    """Yield each example's distribution, its number there, and the kind and tasks to draw from."""
    tasks = config.degradation.tasks
    wanted: list[tuple[Kind, tuple[str, ...]]] = [("single", (task,)) for task in tasks]
    if config.degradation.mixed_fraction > 0:
        wanted.append(("mixed", mixable(tasks)))
    for distribution in DISTRIBUTIONS:
        for turn, (kind, allowed) in enumerate(wanted * config.num_examples):
            yield distribution, turn, kind, allowed


def _photo(built: Built, number: int) -> tuple[str, ImageU8]:
    """Return the name and the centre of a validation photograph; numbers take them in turn."""
    photos = sorted(built.material.photos_of("val"), key=lambda photo: photo.sha256)
    photo = photos[number % len(photos)]
    return photo.name, _centre(load_photo(photo))


def _centre(image_u8: ImageU8) -> ImageU8:
    height, width = image_u8.shape[:2]
    top, left = max(0, (height - EXAMPLE_PX) // 2), max(0, (width - EXAMPLE_PX) // 2)
    return np.ascontiguousarray(image_u8[top : top + EXAMPLE_PX, left : left + EXAMPLE_PX])


def _route_record(route: Route) -> dict[str, Any]:
    return {
        "as_is": is_as_is(route.expert),
        "level": route.level,
        "leaf": route.leaf,
        "node": route.node,
        "confidence": route.confidence,
        "level_probabilities": list(route.level_probabilities),
        "leaf_probabilities": list(route.leaf_probabilities),
    }
