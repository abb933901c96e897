"""Benchmark of a training recipe against the paper's: PSNR after some minutes of one core.

Three small tasks on bundled photographs: an expert for noise, one for haze, one network for all
seven degradations. Each recipe's speed is measured first, and it is then given the samples that
fit into the minutes, with its whole schedule: what counts is where a training of that length ends.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch

from expertree.degradation.parts import SCHEMA, make_part, plan_patches
from expertree.degradation.photographs import (
    BUNDLED_SOURCE,
    Photo,
    list_photographs,
    load_photo,
    split_photographs,
)
from expertree.degradation.recipe import Recipe
from expertree.degradation.registry import DEFAULT_TASKS
from expertree.degradation.synthesis import degrade
from expertree.degradation.table import DegradationConfig, PatchSet
from expertree.experts import (
    ExpertJob,
    PairedPatches,
    RecipeConfig,
    load_expert,
    read_patches,
    train_expert,
)
from expertree.experts.backbones import Backbone
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.experts.recipe import PAPER_RECIPE
from expertree.experts.scoring import score_expert, score_inputs
from expertree.images.io import decode_u8, encode_png
from expertree.pipeline.tables import write_table
from expertree.storage import Storage
from expertree.training import LOG

ALL = "all"
"""Name of the task of one network for all degradations."""

SIGMAS = (15, 25, 50)
"""Standard deviations of the noise on which denoisers are compared."""

_TOLERANCE = 0.1
"""Share by which a training may miss its seconds. One that misses by more, because the machine was
slower or faster while its speed was measured, is done again at the speed it had."""

_MOST_ATTEMPTS = 3

_FILE = "patches.parquet"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RecipeBenchConfig:
    """The recipes to compare, and the trainings."""

    recipe: RecipeConfig = RecipeConfig()
    """The recipe under test."""

    against: RecipeConfig = PAPER_RECIPE
    """The recipe that it is compared with."""

    backbone: Backbone = NAFNetConfig()
    """The network of both recipes."""

    minutes: tuple[float, ...] = (2.0, 5.0, 10.0)
    """Minutes of one core; there is a training for each."""

    tasks: tuple[str, ...] = ("noise", "haze", ALL)
    """Degradations that an expert is trained for, or `all`."""

    source: str = BUNDLED_SOURCE
    """Photographs: `bundled`, or a folder."""

    num_train: int = 2100
    """Patches of 128 px to train on, of each task."""

    num_val: int = 140
    """Patches of other photographs to measure on."""

    seed: int = 0
    """Seed of all draws."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """One task's patches.

    Attributes:
        train: Patches to train on.
        val: Patches to measure on, by name.
    """

    train: PairedPatches
    val: Mapping[str, PairedPatches]


def measure_recipe(config: RecipeBenchConfig) -> dict[str, Any]:
    """Train both recipes on each task for each number of minutes; gains are over `against`."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Storage.open(folder)
        rows = []
        for name in config.tasks:
            task = _make_task(config, name, root.sub(name))
            inputs = {one: _mean_psnr(score_inputs(val)) for one, val in task.val.items()}
            for minutes in config.minutes:
                place = root.sub(f"{name}-{minutes}")
                made = {}
                for label, recipe in (("recipe", config.recipe), ("against", config.against)):
                    made[label] = _train(config, recipe, task, minutes * 60, place.sub(label))
                    print(name, minutes, label, made[label], file=sys.stderr)  # noqa: T201 - slow
                ours, theirs = made["recipe"]["psnr"], made["against"]["psnr"]
                gain_db = {one: round(ours[one] - theirs[one], 3) for one in task.val}
                row = {"task": name, "minutes": minutes, "input": inputs}
                rows.append({**row, **made, "gain_db": gain_db})
    return {"benchmark": "recipe", "rows": rows, "recipe": dataclasses.asdict(config.recipe)}


def _train(
    config: RecipeBenchConfig,
    recipe: RecipeConfig,
    task: _Task,
    seconds: float,
    directory: Storage,
) -> dict[str, Any]:
    """Train by a recipe for some seconds, and measure its PSNR."""

    def job(num_samples: int) -> ExpertJob:
        return ExpertJob(
            key="bench",
            backbone=config.backbone,
            recipe=recipe,
            num_samples=num_samples,
            seed=config.seed,
        )

    # The first steps are slower, so that a short run would promise too little.
    warm = directory.sub("warm")
    train_expert(job(max(160, round(seconds))), patches=task.train, directory=warm)
    rate = warm.read_json(LOG)["samples_per_s"]
    result, attempt = directory.sub("expert-0"), 0
    trained = train_expert(job(round(rate * seconds)), patches=task.train, directory=result)
    while abs(trained.seconds - seconds) > _TOLERANCE * seconds and attempt + 1 < _MOST_ATTEMPTS:
        attempt += 1
        rate = trained.num_seen / trained.seconds
        result = directory.sub(f"expert-{attempt}")
        trained = train_expert(job(round(rate * seconds)), patches=task.train, directory=result)
    network = load_expert(result).eval()
    return {
        "samples": trained.num_seen,
        "seconds": round(trained.seconds, 1),
        "psnr": {
            name: _mean_psnr(score_expert(network, patches)) for name, patches in task.val.items()
        },
    }


def _mean_psnr(scores: Mapping[str, np.ndarray]) -> float:
    """Return the mean PSNR over patches, in dB."""
    return round(float(scores["psnr_rgb"].mean()), 3)


def _make_task(config: RecipeBenchConfig, name: str, root: Storage) -> _Task:
    tasks = DEFAULT_TASKS if name == ALL else (name,)
    sets = DegradationConfig(
        num_train=config.num_train,
        num_val_in=config.num_val,
        mixed_fraction=0.0,
        chooser_mixed_fraction=0.0,
        tasks=tasks,
    ).patch_sets()
    photos, _ = list_photographs(config.source, min_side_px=sets["train"].patch_px)
    parts = split_photographs(photos, val_fraction=0.3, route_fraction=0.2, seed=config.seed)

    def make(patch_set: PatchSet, place: Storage) -> list[dict[str, Any]]:
        own = [photo for photo in photos if parts[photo.name] == patch_set.part]
        return _make_table(patch_set, own, config.seed, place)

    make(sets["train"], root.sub("train"))
    rows = make(sets["val_in"], root.sub("val"))
    val = {name: read_patches(root.sub("val"), [_FILE])}
    if name == "noise":
        for sigma in SIGMAS:
            place = root.sub(f"sigma-{sigma}")
            _write(place, [_with_noise(row, sigma) for row in rows])
            val[f"sigma {sigma}"] = read_patches(place, [_FILE])
    return _Task(train=read_patches(root.sub("train"), [_FILE]), val=val)


def _make_table(
    patch_set: PatchSet, photos: Sequence[Photo], seed: int, place: Storage
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for part in plan_patches(patch_set, photos, seed=seed):
        rows += make_part(part, load_photo(part.photo)).to_pylist()
    _write(place, rows)
    return rows


def _write(place: Storage, rows: list[dict[str, Any]]) -> None:
    write_table(place, _FILE, pa.Table.from_pylist(rows, schema=SCHEMA))


def _with_noise(row: Mapping[str, Any], sigma: int) -> dict[str, Any]:
    """Return a row whose clean patch has noise of that deviation, clipped and rounded."""
    recipe = Recipe(tasks=("noise",), parameters={"noise": {"sigma": sigma}}, seed=row["seed"])
    spoiled = degrade(np.ascontiguousarray(decode_u8(row["gt"])), recipe)
    return {**row, "recipe": recipe.to_json(), "lq": encode_png(spoiled)}
