"""Join pairs whose clean images are near copies into one scene, so that no split divides them."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from expertree.datasets.pairs import Dataset, Pair, read_clean
from expertree.errors import DatasetError
from expertree.images.arrays import ImageU8

ALIKE = 0.93
"""Correlation of two signatures from which on two photographs show one scene."""

_SIDE_PX = 24


def join_near_copies(dataset: Dataset, *, alike: float = ALIKE) -> Dataset:
    """Give pairs whose clean images look alike one scene; reads every clean image.

    Two images look alike if their grey thumbnails of 24 x 24 px, without their mean and contrast,
    correlate: the same view with another exposure, as LOL and RealBlur have many. Scenes that any
    two such images belong to become one.

    Args:
        dataset: A set of pairs.
        alike: Least correlation, in (0, 1].

    Returns:
        The same pairs. A joined scene has the name of its first one, by name.

    Raises:
        DatasetError: If an image cannot be read, or a pair has no clean image.
    """
    pairs = [pair for pair in dataset if pair.gt is not None]
    if len(pairs) < len(dataset):
        raise DatasetError(f"data set {dataset.name}: photographs without clean images")
    first_of: dict[str, Pair] = {}
    for pair in pairs:
        first_of.setdefault(f"{pair.gt}{pair.gt_piece}", pair)
    shown = list(first_of.values())
    signatures = np.stack([_signature(read_clean(pair)) for pair in shown])
    rows, columns = np.nonzero(np.triu(signatures @ signatures.T >= alike, k=1))
    links = ((shown[i].scene, shown[j].scene) for i, j in zip(rows, columns, strict=True))
    name_of = _joined({pair.scene for pair in pairs}, links)
    return dataclasses.replace(
        dataset,
        pairs=tuple(dataclasses.replace(pair, scene=name_of[pair.scene]) for pair in dataset),
    )


def _signature(image_u8: ImageU8) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return a thumbnail as a vector of length 1; an even image has a vector of zeros."""
    grey = cv2.cvtColor(image_u8, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    vector = small.astype(np.float64).ravel()
    vector -= vector.mean()
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _joined(scenes: set[str], links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return for each scene the first of all that it is linked with, directly or not."""
    parent = {scene: scene for scene in scenes}

    def top(scene: str) -> str:
        while parent[scene] != scene:
            scene = parent[scene]
        return scene

    for a, b in links:
        low, high = sorted((top(a), top(b)))
        parent[high] = low
    return {scene: top(scene) for scene in scenes}
