"""Benchmark of the speed of degrading images against that of training an expert on them."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from expertree.degradation.parameters import DISTRIBUTIONS
from expertree.degradation.parts import PartPlan, make_part, plan_patches
from expertree.degradation.photographs import (
    BUNDLED_SOURCE,
    Photo,
    list_photographs,
    load_photo,
)
from expertree.degradation.recipe import Kind, Recipe, draw_recipe
from expertree.degradation.registry import REGISTRY
from expertree.degradation.synthesis import degrade
from expertree.degradation.table import DegradationConfig
from expertree.experts import ExpertJob, RecipeConfig, read_patches, train_expert
from expertree.experts.backbones import Backbone, backbone_config
from expertree.images.arrays import ImageU8
from expertree.pipeline.tables import write_table
from expertree.storage import Storage

LITE_NAF = backbone_config("litenaf")
"""NAFNet of width 32 in its GoPro layout, 17.11 M parameters: the paper's LiteNAF (table 7)."""

MIXED = "mixed"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DegradeConfig:
    """The images and the training to time."""

    size_px: int = 256
    """Sides of the images of `images_per_s`."""

    num_images: int = 40
    """Images for each degradation and distribution, after an untimed one of each photograph."""

    num_pairs: int = 3
    """Timed pairs of making rows and a training step on them, after one pair to warm up."""

    batch_size: int = 8
    """Samples of a training step, as in the paper."""

    patch_px: int = 128
    """Side of the patches that are made and trained on, as in the paper."""

    backbone: Backbone = LITE_NAF
    """The expert's network."""

    num_rows: int = 112
    """Rows of the patch table, in the default mixture of degradations; made for each pair."""

    num_cores: int = 1
    """Cores for each side: torch's threads when it trains on a CPU, workers that make samples."""

    device: str = "cpu"
    """Device on which the expert trains; with `cuda`, `num_cores` are those that feed it."""


def measure_degradation(config: DegradeConfig) -> dict[str, Any]:
    """Time every degradation alone; then in turns making the table as a worker does, and training.

    The ratio is the median over pairs, so that a slow moment of the machine hits both sides. A
    worker that makes samples runs on one core, and workers share nothing: their rate is one's rate
    times the cores.
    """
    cv2.setNumThreads(1)
    parts = _plan(config)
    photographs = [load_photo(part.photo) for part in parts]
    images_per_s = {
        name: round(_images_per_s(name, config, photographs), 1) for name in (*REGISTRY, MIXED)
    }
    with tempfile.TemporaryDirectory() as folder:
        pairs = [
            _pair(config, parts, photographs, Storage.open(folder).sub(str(number)))
            for number in range(config.num_pairs + 1)
        ][1:]
    return {
        "benchmark": "degrade",
        "images_per_s": images_per_s,
        "size_px": config.size_px,
        "synthesis_over_training": round(statistics.median(a / b for a, b in pairs), 2),
        "samples_made_per_s": round(statistics.median(a for a, _ in pairs), 2),
        "samples_trained_per_s": round(statistics.median(b for _, b in pairs), 3),
        "patch_px": config.patch_px,
        "batch_size": config.batch_size,
        "num_pairs": config.num_pairs,
        "num_cores": config.num_cores,
        "device": config.device,
    }


def _pair(
    config: DegradeConfig,
    parts: Sequence[PartPlan],
    photographs: Sequence[ImageU8],
    table: Storage,
) -> tuple[float, float]:
    """Return the samples per second that are made and written, and that are trained on."""
    names = [f"part-{number:05d}.parquet" for number in range(len(parts))]
    begin = time.perf_counter()
    for name, part, image in zip(names, parts, photographs, strict=True):
        write_table(table, name, make_part(part, image))
    made_per_s = config.num_rows / (time.perf_counter() - begin) * config.num_cores
    job = ExpertJob(
        key="bench",
        backbone=config.backbone,
        recipe=RecipeConfig(
            batch_size=config.batch_size, patch_px=config.patch_px, num_threads=config.num_cores
        ),
        num_samples=config.batch_size,
        seed=0,
    )
    patches = read_patches(table, names)
    trained = train_expert(
        job, patches=patches, directory=table.sub("expert"), device=config.device
    )
    return made_per_s, trained.num_seen / trained.seconds


def _plan(config: DegradeConfig) -> list[PartPlan]:
    patch_set = DegradationConfig(patch_px=config.patch_px, num_train=config.num_rows).patch_sets()[
        "train"
    ]
    side_px = max(config.patch_px, config.size_px)
    photos: list[Photo] = list_photographs(BUNDLED_SOURCE, min_side_px=side_px)[0]
    return plan_patches(patch_set, photos, seed=0)


def _images_per_s(name: str, config: DegradeConfig, photographs: Sequence[ImageU8]) -> float:
    """Return one core's images per second of one degradation or mixtures, by processor time."""
    kind: Kind = "mixed" if name == MIXED else "single"
    tasks = tuple(REGISTRY) if name == MIXED else (name,)
    rng = np.random.default_rng(0)
    size_px = config.size_px
    crops = [np.ascontiguousarray(image[:size_px, :size_px]) for image in photographs]
    recipes = [
        draw_recipe(rng, tasks=tasks, kind=kind, severity=distribution)
        for _ in range(config.num_images)
        for distribution in DISTRIBUTIONS
    ]

    def spoil(chosen: Sequence[Recipe]) -> None:
        for number, recipe in enumerate(chosen):
            degrade(crops[number % len(crops)], recipe)

    spoil(recipes[: len(crops)])
    begin = time.process_time()
    spoil(recipes)
    return len(recipes) / (time.process_time() - begin)
