"""Finds which pictures show one scene, and gives each scene to one part of a build.

Ten hazy pictures of one room are one scene: were they divided by file, routers and validation would
meet what experts were trained on.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from expertree.degradation.photographs import Split, split_scenes
from expertree.errors import ConfigError
from expertree.images.arrays import ImageU8

_THUMBNAIL_PX = 24
_AT_ONCE = 512
_LEAST_CONTRAST = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What the pictures of one source show.

    Attributes:
        label: Name of the source.
        part: Part that all of it is for; None if its scenes are divided.
        keys: What each picture shows, at least one key each; pictures that share a key, whatever
            their sources, show one scene.
    """

    label: str
    part: Split | None
    keys: Sequence[Sequence[str]]


def divide(
    sources: Sequence[Shown], *, val_fraction: float, route_fraction: float, seed: int
) -> list[list[Split]]:
    """Give each scene to one part.

    Sources for one part come first; then the scenes of each other source that have no part yet are
    divided. A source for `route` or `val` stands in place of that share of the others.

    Args:
        sources: What the pictures of each source show.
        val_fraction: Share of a source's scenes kept for validation.
        route_fraction: Share of them held back for routers.
        seed: Seed of the division, which depends on the keys but on no order.

    Returns:
        The part of each picture of each source.

    Raises:
        ConfigError: If two sources for different parts show the same scene.
        PhotoError: If a source has too few scenes.
    """
    given = {source.part for source in sources}
    scene_of = _join(key for source in sources for key in source.keys)
    parts: dict[str, Split] = {}
    owner: dict[str, Shown] = {}
    for source in (one for one in sources if one.part is not None):
        for scene in _scenes(source, scene_of):
            before = owner.setdefault(scene, source)
            if before.part != source.part:
                raise ConfigError(
                    f"data.sources: {before.label} is for {before.part} and {source.label} for "
                    f"{source.part}, but they show the same scene ({scene}); leave one out"
                )
            parts[scene] = before.part or "train"
    for source in (one for one in sources if one.part is None):
        left = [scene for scene in _scenes(source, scene_of) if scene not in parts]
        if left:
            parts |= split_scenes(
                left,
                val_fraction=0.0 if "val" in given else val_fraction,
                route_fraction=0.0 if "route" in given else route_fraction,
                seed=seed,
                what=source.label if len(sources) == 1 else f"{source.label}, scenes",
            )
    return [[parts[scene_of[keys[0]]] for keys in source.keys] for source in sources]


def near_copies(images: Iterable[ImageU8], *, alike: float) -> list[tuple[int, int]]:
    """Return which of some pictures are near copies of each other, in pairs of their places.

    Args:
        images: Pictures of any sizes, uint8 RGB; each is looked at once.
        alike: Least correlation of grey thumbnails of 24 x 24 pixels.
    """
    signatures = np.array([_signature(image) for image in images], dtype=np.float32)
    found: list[tuple[int, int]] = []
    for start in range(0, len(signatures), _AT_ONCE):
        near = signatures[start : start + _AT_ONCE] @ signatures.T >= alike
        for row, column in np.argwhere(near).tolist():
            if start + row < column:
                found.append((start + row, column))
    return found


def _signature(image_u8: ImageU8) -> np.ndarray[Any, np.dtype[np.float32]]:
    grey = cv2.cvtColor(np.ascontiguousarray(image_u8), cv2.COLOR_RGB2GRAY).astype(np.float32)
    size = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).ravel()
    centred = small - small.mean()
    return np.asarray(centred / max(float(np.linalg.norm(centred)), _LEAST_CONTRAST), np.float32)


def _scenes(source: Shown, scene_of: Mapping[str, str]) -> list[str]:
    return sorted({scene_of[keys[0]] for keys in source.keys})


def _join(pictures: Iterable[Sequence[str]]) -> dict[str, str]:
    """Return the scene of each key: the first, in order, of all keys that are joined with it."""
    above: dict[str, str] = {}

    def first_of(key: str) -> str:
        above.setdefault(key, key)
        while above[key] != key:
            above[key] = above[above[key]]
            key = above[key]
        return key

    for keys in pictures:
        for other in keys:
            one, two = sorted((first_of(keys[0]), first_of(other)))
            above[two] = one
    return {key: first_of(key) for key in above}
