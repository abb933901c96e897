"""Small work for a lane: patches, an expert's training on them, and a commit that fails."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from expertree.degradation.recipe import Recipe
from expertree.errors import TransientStorageError
from expertree.experts import ExpertJob, RecipeConfig
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.images.io import encode_png
from expertree.pipeline.expert_work import ExpertWork
from expertree.pipeline.tables import write_table
from expertree.storage import Storage


def write_patches(directory: Storage) -> None:
    rng = np.random.default_rng(0)
    images = [encode_png(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(8)]
    recipe = Recipe(tasks=("noise",), parameters={"noise": {"sigma": 20.0}}, seed=0).to_json()
    about = {"kind": "single", "tasks": ["noise"], "recipe": recipe}
    rows = [
        about | {"id": f"{n}", "caption": f"noise {n % 2}", "lq": image, "gt": image}
        for n, image in enumerate(images)
    ]
    write_table(directory, "part-00000.parquet", pa.Table.from_pylist(rows))


def expert_work(folder: Path, **job: Any) -> ExpertWork:
    """Return the training of an expert in steps of 4 samples, with a checkpoint after each."""
    shards = Storage.open(folder / "shards")
    write_patches(shards)
    recipe = RecipeConfig(batch_size=4, patch_px=16, checkpoint_every_samples=4)
    backbone = NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,))
    asked = {"key": "e", "backbone": backbone, "recipe": recipe, "num_samples": 24, "seed": 0}
    return ExpertWork(
        job=ExpertJob(**asked | job),
        shards=shards,
        files=("part-00000.parquet",),
        directory=Storage.open(folder / "store").sub("expert", "e"),
        spec={"key": "e"},
        device="cpu",
    )


def fail_commits(patch: pytest.MonkeyPatch) -> None:
    def commit(*_: object, **__: object) -> None:
        raise TransientStorageError("the bucket does not answer")

    patch.setattr(Storage, "commit", commit)
