"""Measure one image of a public set, or make the pictures of one photograph."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from expertree.classical import Method, candidates_for
from expertree.datasets import Degraded, read_degraded, score_pair, to_8_bit
from expertree.images.arrays import ImageU8
from expertree.images.io import encode_png
from expertree.public_sets.plan import Item
from expertree.restorer import Restorer
from expertree.restorer.on_dataset import restore_degraded
from expertree.routing import AUTOMATIC, Route, Wish
from expertree.storage import Storage

ROUTED, TOLD = "routed", "told"
CLASSICAL = "classical: "
"""Beginning of the names of classical methods in scores."""

SIDE_PX = 480
"""Longest side of a picture on the page; larger photographs show their middle at its own size."""

Scored: TypeAlias = dict[str, Any]
"""Plain data of one image: `key`, `dataset`, `split`, `name`, `tasks`, `expert`, `seconds`; and
`scores`, by protocol and method `[PSNR, SSIM]`, or `picture`, a file with before above after."""


def measure_item(restorer: Restorer, item: Item) -> Scored:
    """Restore one image and measure it, or make the pictures of a photograph.

    Raises:
        DatasetError: If its files cannot be read.
        StorageError: If its pictures cannot be written.
    """
    started = time.perf_counter()
    routes: list[Route] = []
    wish = AUTOMATIC if item.expert is None else Wish(expert=item.expert)

    def routed(image: Degraded) -> ImageU8:
        restored, route = restore_degraded(restorer, image, wish)
        routes.append(route)
        return restored

    if item.picture is not None:
        _write_pictures(item.picture, item, routed)
        found: Scored = {"picture": item.picture.name}
    else:
        methods = candidates_for(item.pair.tasks) if item.classical and item.pair.tasks else ()
        restores = {ROUTED: routed, **_told(restorer, item), **_classical(methods)}
        scores = score_pair(item.pair, item.protocols, restores)
        found = {
            "scores": {
                protocol: {name: [one.psnr, one.ssim] for name, one in by_method.items()}
                for protocol, by_method in scores.items()
            }
        }
    return {
        "key": item.key,
        "dataset": item.dataset,
        "split": item.split,
        "name": item.pair.name,
        "tasks": list(item.pair.tasks),
        "expert": routes[0].expert,
        "seconds": round(time.perf_counter() - started, 3),
        **found,
    }


def _told(restorer: Restorer, item: Item) -> Mapping[str, Callable[[Degraded], ImageU8]]:
    """Return the restoration by an expert for what is wrong, where the model knows that name.

    An expert that is given has no other choice: only networks that take sentences are told.
    """
    tasks, outline = item.pair.tasks, restorer.bundle.outline
    if not tasks or not set(tasks) <= set(outline.guide.names):
        return {}
    if item.expert is not None and outline.sentence_encoder is None:
        return {}
    wish = Wish(instruction=tasks)
    return {TOLD: lambda image: restore_degraded(restorer, image, wish)[0]}


def _classical(methods: tuple[Method, ...]) -> Mapping[str, Callable[[Degraded], ImageU8]]:
    def of(method: Method) -> Callable[[Degraded], ImageU8]:
        return lambda image: method.restore(to_8_bit(image))

    return {f"{CLASSICAL}{method.name}": of(method) for method in methods}


def _write_pictures(path: Path, item: Item, routed: Callable[[Degraded], ImageU8]) -> None:
    """Write the middle of a photograph before, and below it after, as one PNG file."""
    before = read_degraded(item.pair)
    after = routed(before)
    height, width = (min(side, SIDE_PX) for side in before.shape[:2])
    top, left = (before.shape[0] - height) // 2, (before.shape[1] - width) // 2
    part = (slice(top, top + height), slice(left, left + width))
    both = np.concatenate([before[part], after[part]])
    Storage.open(path.parent).write_bytes(path.name, encode_png(both, level=6))
