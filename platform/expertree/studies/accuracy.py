"""Study of how well an extractor trained from scratch tells the 18 degrees apart, by view.

It makes the paper's table I. Whole photographs are degraded, each by one degradation of one degree,
and the extractor names the caption that is nearest to what a view shows of them.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from expertree.config import to_dict
from expertree.degradation.captions import caption
from expertree.degradation.photographs import Photo, list_photographs, load_photo
from expertree.degradation.recipe import Recipe, draw_recipe
from expertree.degradation.registry import REGISTRY
from expertree.degradation.synthesis import degrade
from expertree.embedding import (
    ExtractorConfig,
    ExtractorRecipe,
    load_extractor,
    train_extractor,
)
from expertree.embedding.views import VIEWS
from expertree.errors import ConfigError
from expertree.images.arrays import ImageU8
from expertree.images.io import to_float
from expertree.studies.tables import Rows, Table
from expertree.training import OnProgress

VERSION = 1
"""Raise it when the same settings would give other rows."""

TASKS = ("rain", "haze", "noise", "motion_blur", "low_light", "snow", "jpeg")
"""The degradations of the paper's table I, in its order; its blur is motion blur."""

DEGREES: tuple[tuple[str, str], ...] = tuple(
    (task, f"{degree} {REGISTRY[task].noun}") for task in TASKS for degree in REGISTRY[task].degrees
)
"""Degradation and caption of each degree, in that order."""

PAPER: Mapping[str, Sequence[float]] = {
    "resize": (
        *(0.84, 0.73, 0.86, 0.73, 0.75, 1.00, 0.12, 0.30, 0.81),
        *(0.74, 0.92, 0.94, 0.70, 0.73, 0.66, 0.86, 0.36, 0.58),
    ),
    "centre_crop": (
        *(0.96, 0.92, 1.00, 0.89, 0.93, 0.93, 0.92, 0.96, 0.93),
        *(0.87, 0.96, 0.93, 0.85, 0.80, 0.83, 0.83, 0.90, 1.00),
    ),
    "full": (
        *(0.93, 0.93, 0.96, 0.94, 0.93, 0.96, 0.91, 0.93, 0.95),
        *(0.90, 0.91, 0.96, 0.92, 0.86, 0.93, 0.89, 0.96, 1.00),
    ),
}
"""The paper's accuracies by view, for each of `DEGREES`."""

PAPER_MEAN: Mapping[str, float] = {"resize": 0.72, "centre_crop": 0.91, "full": 0.93}
"""The paper's mean accuracy by view, as the paper gives it."""

_WINDOW_PX = 384
"""Side of the window that is cut from a training photograph and degraded: nearly all of a usual
one, so that haze is as deep as on the photographs of validation."""

_REGIONS = 2
"""Regions cut from each degraded window."""

_MOST_CONFUSED = 8
_SECONDS_BETWEEN_LINES = 60.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyConfig:
    """The extractor to train, and the photographs to train and measure on."""

    train: str | None = None
    """Folder of the photographs to train on."""

    validate: str | None = None
    """Folder of the photographs to measure on."""

    num_regions: int = 24000
    """Number of degraded regions to train on, drawn when first needed and kept in memory: 111 KB
    each."""

    region_px: int = 192
    """Side of a region; training crops from it."""

    num_draws: int = 2
    """Times that each photograph of validation is degraded by each degree."""

    views: tuple[str, ...] = tuple(PAPER)
    """Views to measure; values of `extractor.view`."""

    extractor: ExtractorConfig = ExtractorConfig(
        view="centre_crop",
        view_px=224,
        recipe=ExtractorRecipe(num_steps=10000, crop_px=96, last_crop_px=160, precision="bfloat16"),
    )
    """The extractor to train."""

    seed: int = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        """Raise ConfigError if there are no views, or one does not exist."""
        if not self.views:
            raise ConfigError(f"views: name at least one of {', '.join(PAPER)}")
        unknown = [view for view in self.views if view not in PAPER]
        if unknown:
            raise ConfigError(f"views: {unknown[0]!r} is none of {', '.join(PAPER)}")


class DrawnRegions:
    """Training regions of all degrees in equal numbers, drawn when first asked for.

    Attributes:
        captions: The degree of each region.
    """

    def __init__(
        self, photos: Sequence[ImageU8], *, num_regions: int, region_px: int, seed: int
    ) -> None:
        self._photos, self._side_px, self._seed = photos, region_px, seed
        self._regions = np.empty((num_regions, region_px, region_px, 3), dtype=np.uint8)
        self._is_drawn = np.zeros(num_regions, dtype=np.bool_)
        self.captions = [_degree_at(row // _REGIONS)[1] for row in range(num_regions)]

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self._regions)

    def lq(self, indices: Sequence[int]) -> UInt8[Tensor, "b 3 h w"]:
        """Return the degraded regions at some indices, uint8 BCHW."""
        rows = [int(index) for index in indices]
        for draw in {row // _REGIONS for row in rows if not self._is_drawn[row]}:
            self._make(draw)
        return torch.from_numpy(self._regions[rows]).permute(0, 3, 1, 2)

    def gt(self, indices: Sequence[int]) -> UInt8[Tensor, "b 3 h w"]:
        """Return the clean regions at some indices, uint8 BCHW, cut anew each time."""
        found = []
        for row in indices:
            clean, _, rng = self._window(int(row) // _REGIONS)
            regions = [_cut(clean, self._side_px, rng) for _ in range(_REGIONS)]
            found.append(torch.from_numpy(regions[int(row) % _REGIONS]))
        return torch.stack(found).permute(0, 3, 1, 2)

    def _window(self, draw: int) -> tuple[ImageU8, Recipe, np.random.Generator]:
        """Return a clean window, its recipe, and the generator that places its regions."""
        rng = np.random.default_rng([self._seed, draw])
        photo = self._photos[int(rng.integers(len(self._photos)))]
        window = np.ascontiguousarray(_cut(photo, _WINDOW_PX, rng))
        return window, draw_degree(rng, *_degree_at(draw)), rng

    def _make(self, draw: int) -> None:
        window, recipe, rng = self._window(draw)
        spoiled = degrade(window, recipe)
        for row in range(draw * _REGIONS, min((draw + 1) * _REGIONS, len(self))):
            self._regions[row] = _cut(spoiled, self._side_px, rng)
            self._is_drawn[row] = True


def study_accuracy(config: AccuracyConfig, rows: Rows) -> tuple[Table, ...]:
    """Train an extractor on all degrees, and measure it through each view.

    Raises:
        ConfigError: If the photographs are not given.
        PhotoError: If the photographs cannot be used.
    """
    train = _photographs("train", config.train, config.region_px)
    validate = _photographs("validate", config.validate, 1)
    spec = {
        "study": "accuracy",
        "version": VERSION,
        "config": {**to_dict(config), "train": None, "validate": None, "views": None},
        "photographs": [sorted(photo.sha256 for photo in photos) for photos in (train, validate)],
    }
    trained = rows.row("training", spec, lambda: _train(config, train, rows, spec))

    def measured(view: str) -> dict[str, Any]:
        return rows.row(
            view, {**spec, "view": view}, lambda: _measure(config, validate, rows, spec, view)
        )

    found = {view: measured(view) for view in config.views}
    return _accuracies(found, trained), _confusions(found)


def draw_degree(rng: np.random.Generator, task: str, wanted: str) -> Recipe:
    """Draw a recipe of one degradation at the wanted degree, uniformly within it.

    Args:
        rng: Source of all draws.
        task: The degradation.
        wanted: The caption of its degree.

    Raises:
        ValueError: If the degradation has no such degree.
    """
    degradation = REGISTRY[task]
    if wanted not in [f"{degree} {degradation.noun}" for degree in degradation.degrees]:
        raise ValueError(f"{task} has the degrees {degradation.degrees}, got {wanted!r}")
    while True:
        recipe = draw_recipe(rng, tasks=(task,), kind="single", severity="any")
        if caption(recipe) == wanted:
            return recipe


def _degree_at(draw: int) -> tuple[str, str]:
    return DEGREES[draw % len(DEGREES)]


def _cut(image_u8: ImageU8, side_px: int, rng: np.random.Generator) -> ImageU8:
    """Cut a random square out of an image, or as much of one as the image has."""
    height_px, width_px = (min(side_px, length) for length in image_u8.shape[:2])
    top = int(rng.integers(image_u8.shape[0] - height_px + 1))
    left = int(rng.integers(image_u8.shape[1] - width_px + 1))
    return image_u8[top : top + height_px, left : left + width_px]


def _photographs(name: str, folder: str | None, least_px: int) -> list[Photo]:
    if folder is None:
        raise ConfigError(f"accuracy.{name} is not set; give a folder of clean photographs")
    return list_photographs(folder, min_side_px=least_px)[0]


def _train(
    config: AccuracyConfig, photos: Sequence[Photo], rows: Rows, spec: Mapping[str, Any]
) -> dict[str, Any]:
    regions = DrawnRegions(
        [load_photo(photo) for photo in photos],
        num_regions=config.num_regions,
        region_px=config.region_px,
        seed=config.seed,
    )
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    train_extractor(
        config.extractor,
        regions,
        regions.captions,
        directory=rows.place(spec),
        seed=config.seed,
        on_progress=_spoken(rows.say),
    )
    return {
        "seconds": round(time.perf_counter() - started_s, 1),
        "cpu_seconds": round(time.process_time() - started_cpu_s, 1),
        "num_photographs": len(photos),
    }


def _measure(
    config: AccuracyConfig,
    photos: Sequence[Photo],
    rows: Rows,
    spec: Mapping[str, Any],
    view: str,
) -> dict[str, Any]:
    extractor = load_extractor(rows.place(spec), captions=True)
    if extractor.captions is None:
        raise ValueError("load_extractor gave no text tower")
    names = [name for _, name in DEGREES]
    said: Counter[tuple[str, str]] = Counter()
    with torch.inference_mode():
        texts = extractor.captions(names)
        for number, photo in enumerate(photos):
            clean = load_photo(photo)
            for draw in range(config.num_draws):
                rng = np.random.default_rng([config.seed, 1, number, draw])
                for task, name in DEGREES:
                    image = to_float(degrade(clean, draw_degree(rng, task, name)))[None]
                    shown = VIEWS[view](image, config.extractor.view_px)
                    cosines = F.normalize(extractor.encode(shown), dim=-1) @ texts.T
                    said[name, names[int(cosines.argmax())]] += 1
    shown_each = len(photos) * config.num_draws
    wrong = [(pair, n) for pair, n in said.most_common() if pair[0] != pair[1]][:_MOST_CONFUSED]
    return {
        "accuracy": [said[name, name] / shown_each for name in names],
        "confused": [[true, named, n / shown_each] for (true, named), n in wrong],
        "num_images": shown_each * len(names),
    }


def _accuracies(found: Mapping[str, Mapping[str, Any]], trained: Mapping[str, Any]) -> Table:
    columns = [(view, row["accuracy"]) for view, row in found.items()]
    lines = [
        (name, *(cell for view, own in columns for cell in (own[place], PAPER[view][place])))
        for place, (_, name) in enumerate(DEGREES)
    ]
    means = [cell for view, own in columns for cell in (sum(own) / len(own), PAPER_MEAN[view])]
    num_images = next(iter(found.values()))["num_images"]
    note = (
        f"{num_images} spoiled photographs of validation a view. Trained on "
        f"{trained['num_photographs']} photographs in {trained['seconds'] / 60:.0f} minutes, "
        f"{trained['cpu_seconds'] / 60:.0f} minutes of processor time."
    )
    return Table(
        title="Accuracy of the degree by view, nearest of 18 captions",
        columns=("degree", *(name for view, _ in columns for name in (view, "paper"))),
        rows=(*lines, ("mean", *means)),
        decimals=2,
        notes=(note,),
    )


def _confusions(found: Mapping[str, Mapping[str, Any]]) -> Table:
    return Table(
        title="What is most often taken for what",
        columns=("view", "degree", "named", "share of the degree"),
        rows=tuple(
            (view, true, named, share)
            for view, row in found.items()
            for true, named, share in row["confused"]
        ),
        decimals=2,
    )


def _spoken(say: Callable[[str], None]) -> OnProgress:
    """Return a function that reports the training's progress once a minute."""
    next_s = time.perf_counter() + _SECONDS_BETWEEN_LINES

    def on_progress(report: Mapping[str, Any]) -> None:
        nonlocal next_s
        if time.perf_counter() < next_s:
            return
        next_s = time.perf_counter() + _SECONDS_BETWEEN_LINES
        say(
            f"training: {report['samples']} of {report['num_samples']} samples, loss "
            f"{report['loss']:.3f}, {report['samples_per_s']:.0f} samples/s"
        )

    return on_progress
