"""Evaluate a bundle on a data set under the set's protocol, for `expertree evaluate`."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expertree.datasets import (
    Dataset,
    Degraded,
    in_channels,
    open_dataset,
    score_pairs,
    summarise,
)
from expertree.datasets.protocols import Channels
from expertree.errors import ConfigError
from expertree.images.arrays import ImageU8
from expertree.images.io import to_u8
from expertree.restorer.restorer import Restorer
from expertree.restorer.shipped import SHIPPED
from expertree.routing import AUTOMATIC, Route, Wish
from expertree.storage import Storage

OnImage = Callable[[int, int, str], None]
"""Callback after each image, with its number from 1, the number of images, and its name."""

OnResult = Callable[[dict[str, Any]], None]
"""Callback when all is measured, with the result, before it is written."""

_WITH_SETS = ("classical", "expert", "published", "cluster")
"""Settings that mean nothing for one data set."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """The bundle to evaluate, and the data set or sets to evaluate it on."""

    bundle: str = SHIPPED
    """The bundle: a directory, the URI of one, or the name of that which comes with the package.
    `dataset` and `root` must be given, or else `sets`."""

    sets: str = ""
    """A folder: every known set below it is measured, each under its protocols."""

    dataset: str = ""
    """Name of a data set, see docs/DATASETS.md. Beside `sets`, the one that is measured."""

    root: str = ""
    """The folder that the data set was unpacked to."""

    split: str = ""
    """Split of the data set; the set's usual one when left out."""

    partial: bool = False
    """Whether less than the whole set will do."""

    channels: Channels | None = None
    """`rgb` or `y`, where another convention than the set's usual one is compared with: that
    protocol of the split which has these channels, else its usual one in these channels."""

    device: str = "cpu"
    """Device that the networks run on."""

    output: str | None = None
    """A JSON file, or the URI of one, for the means and each image's scores; with `sets` a folder,
    by default `runs/sets`, for the tables, the page and the scores that a killed run goes on
    behind."""

    classical: bool = True
    """With `sets`, whether classical methods, told the task, are measured too."""

    expert: int | None = None
    """With `sets`, the node of an expert that restores every image; by default routers choose."""

    published: str | None = None
    """With `sets`, a file of published results in place of docs/published.yaml."""

    cluster: str | None = None
    """With `sets`, a Ray cluster to measure on (`auto`, `host:port`, or `local` for one of its
    own)."""


def evaluate_bundle(
    config: EvaluateConfig, on_image: OnImage, on_result: OnResult = lambda _: None
) -> dict[str, Any]:
    """Restore every image of a data set with a bundle; data set and output are checked first.

    Args:
        config: What to measure.
        on_image: Called after each image.
        on_result: Called with what is returned, also where it cannot be written in the end.

    Returns:
        Means as `datasets.summarise` gives them; and under `bundle` the bundle, under `experts` the
        number of images that each expert restored, by its node, under `as_is` the number of images
        left as they are, and under `images` each pair's scores.

    Raises:
        ConfigError: If something must be given or means nothing for one data set, the data set or
            split is unknown, or the output is a folder.
        DatasetError: If the data set is not whole, or has no degraded images.
        ArtefactError: If the bundle is damaged.
        StorageError: If the output cannot be written.
    """
    _check(config)
    dataset = _dataset(config)
    output = _output(config)
    restorer = Restorer.load(config.bundle, device=config.device)
    experts: Counter[int | None] = Counter()

    def restore(image: Degraded) -> ImageU8:
        restored, route = restore_degraded(restorer, image)
        experts[route.expert] += 1
        return restored

    scores = []
    for number, score in enumerate(score_pairs(dataset, restore), start=1):
        scores.append(score)
        on_image(number, len(dataset), score.name)
    result = {
        **summarise(dataset, scores),
        "bundle": config.bundle,
        "experts": {
            str(node): experts[node] for node in restorer.tree.experts() if node in experts
        },
        "as_is": experts[None],
        "images": [dataclasses.asdict(score) for score in scores],
    }
    on_result(result)
    if output is not None:
        output.above().write_bytes(output.name, (json.dumps(result, indent=2) + "\n").encode())
    return result


def restore_degraded(
    restorer: Restorer, image: Degraded, wish: Wish = AUTOMATIC
) -> tuple[ImageU8, Route]:
    """Restore a degraded image of a data set: one of 8 bit, or a float one as it is.

    What noise takes out of [0, 1] is clipped first, since networks are trained on images in [0, 1].

    Returns:
        The restored image, rounded to 8 bit, and the route.
    """
    if image.dtype == np.uint8:
        restoration = restorer.restore(image, wish)
        return restoration.image, restoration.route
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    found = restorer.restore(planes.clamp(0.0, 1.0), wish)
    return to_u8(found.image), found.route


def _check(config: EvaluateConfig) -> None:
    missing = [name for name in ("bundle", "dataset", "root") if not getattr(config, name)]
    if missing:
        raise ConfigError(f"give {' and '.join(f'{name}=...' for name in missing)}")
    usual = EvaluateConfig()
    vain = [name for name in _WITH_SETS if getattr(config, name) != getattr(usual, name)]
    if vain:
        names = " and ".join(f"{name}={getattr(config, name)}" for name in vain)
        raise ConfigError(
            f"without sets, {names} would do nothing; give sets=FOLDER in place of root, or leave "
            f"{'it' if len(vain) == 1 else 'them'} out"
        )


def _output(config: EvaluateConfig) -> Storage | None:
    """Return the file for the result; its folder is made, and tried."""
    if config.output is None:
        return None
    output = Storage.open(config.output)
    if not output.is_remote and Path(output.path()).is_dir():
        raise ConfigError(
            f"output={config.output} is a folder; give a file, such as "
            f"{Path(config.output) / 'scores.json'}"
        )
    output.above().check_writable()
    return output


def _dataset(config: EvaluateConfig) -> Dataset:
    dataset = open_dataset(config.dataset, config.root, config.split, partial=config.partial)
    return dataset if config.channels is None else in_channels(dataset, config.channels)
