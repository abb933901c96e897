"""What stages make of fixed inputs changes only together with the stage's version.

Stored results have keys of their inputs and of `VERSIONS`, so a stage that makes something else
under the same version mixes old results with new ones. Here each stage that is cheap makes a tiny
result, which is compared with one that is written down: words and counts exactly, numbers closely
enough to see a change of the code and no nearer, as processors differ in the last digits. The
routers' is in `routing/test_training.py`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from expertree.degradation.looks import NATURAL
from expertree.degradation.parts import make_part, plan_patches
from expertree.degradation.photographs import Photo
from expertree.degradation.recipe import Recipe
from expertree.degradation.registry import DEFAULT_TASKS
from expertree.degradation.table import PatchSet
from expertree.embedding import ExtractorConfig, build_extractor, embed_patches
from expertree.experts import (
    ExpertJob,
    PairedPatches,
    RecipeConfig,
    load_expert,
    read_patches,
    score_expert,
    score_inputs,
    train_expert,
)
from expertree.experts.backbones.nafnet import NAFNetConfig
from expertree.hierarchy import HierarchyConfig, build_tree
from expertree.images.io import decode_u8, encode_png
from expertree.pipeline.stages import VERSIONS
from expertree.pipeline.tables import write_table
from expertree.storage import Storage
from expertree.threads import threads

PHOTO = Photo(name="a.png", location="", sha256="1" * 64, width_px=96, height_px=80)
PATCHES = PatchSet(
    name="train",
    part="train",
    severity="in",
    num_patches=24,
    mixed_fraction=0.25,
    patch_px=32,
    tasks=DEFAULT_TASKS,
    clean_fraction=0.1,
    looks=NATURAL,
)


@dataclasses.dataclass(frozen=True)
class Made:
    """What a stage made: what is the same everywhere, as plain data, and numbers."""

    exact: Any
    numbers: Sequence[float]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.exact).encode()).hexdigest()[:16]


def directions(values: Any) -> list[float]:
    """Four numbers to which each of the values adds its share."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    weights = np.random.default_rng(0).standard_normal((4, len(flat)))
    return [float(value) for value in weights @ flat / np.sqrt(len(flat))]


def photograph() -> np.ndarray:
    """Soft shapes and some texture, so that every degradation has something to spoil."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(20, 236, (10, 12, 3)).repeat(8, axis=0).repeat(8, axis=1)
    return np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)


def patches(folder: Path) -> PairedPatches:
    """Noisy patches that owe nothing to the stage that degrades."""
    rng, rows = np.random.default_rng(11), []
    for number in range(12):
        top, left = rng.integers(0, 80 - 32), rng.integers(0, 96 - 32)
        clean = photograph()[top : top + 32, left : left + 32]
        noisy = np.clip(clean + rng.normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
        parameters = {"noise": {"sigma": 20.0}}
        recipe = Recipe(tasks=("noise",), parameters=parameters, seed=number).to_json()
        words = {"kind": "single", "tasks": ["noise"], "caption": "noise", "recipe": recipe}
        images = {"lq": encode_png(noisy), "gt": encode_png(clean)}
        rows.append({"id": f"{number:05d}"} | words | images)
    directory = Storage.open(folder / "table")
    write_table(directory, "part-00000.parquet", pa.Table.from_pylist(rows))
    return read_patches(directory, ["part-00000.parquet"])


def degrade(_: Path) -> Made:
    parts = plan_patches(PATCHES, [PHOTO], seed=3)
    rows = [row for part in parts for row in make_part(part, photograph()).to_pylist()]
    words = [[row[name] for name in ("id", "kind", "tasks", "caption", "seed")] for row in rows]
    images = [decode_u8(row[side]) for row in rows for side in ("lq", "gt")]
    return Made(words, directions(images))


def embed(folder: Path) -> Made:
    torch.manual_seed(0)
    extractor = build_extractor(ExtractorConfig(embed_dim=8, view_px=32)).eval()
    found = patches(folder)
    vectors = embed_patches(extractor, found, batch_size=8)
    return Made([found.ids.to_pylist(), list(vectors.shape)], directions(vectors))


def tree(_: Path) -> Made:
    rng = np.random.default_rng(5)
    centres = 5.0 * rng.normal(size=(6, 8))
    points = (np.repeat(centres, 30, axis=0) + 0.3 * rng.normal(size=(180, 8))).astype(np.float32)
    exact, numbers = [], list[float]()
    for method in ("kmeans", "bisecting"):
        config = HierarchyConfig(method=method, groups=(1, 3, 6), metric="l2", seed=1)
        cut, leaves = build_tree(points, config, extractor="x")
        nodes = [[node.index, node.parent, node.num_samples] for node in cut.nodes]
        exact.append([nodes, leaves.tolist()])
        numbers += directions(cut.centroids)
    return Made(exact, numbers)


def expert(folder: Path) -> Made:
    job = ExpertJob(
        key="e",
        backbone=NAFNetConfig(width=4, encoder=(1,), middle=1, decoder=(1,)),
        # A warm-up of one step, so that each of the others moves the weights and is seen.
        recipe=RecipeConfig(batch_size=4, patch_px=16, warmup_samples=4, learning_rate=5e-3),
        num_samples=32,
        seed=5,
    )
    directory = Storage.open(folder / "expert")
    train_expert(job, patches=patches(folder), directory=directory)
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        restored = load_expert(directory)(image)
    curve = directory.read_json("log.json")["curve"]
    return Made(curve["samples"], [*curve["loss"], *directions(255 * restored)])


def score(folder: Path) -> Made:
    found = patches(folder)
    darker = torch.nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        darker.weight.copy_(0.9 * torch.eye(3)[:, :, None, None])
        darker.bias.fill_(0.02)
    columns = [score_inputs(found), score_expert(darker, found)]
    numbers = [number for own in columns for name in own for number in directions(own[name])]
    return Made([list(own) for own in columns], numbers)


STAGES: dict[str, Callable[[Path], Made]] = {
    "degrade": degrade,
    "embed": embed,
    "tree": tree,
    "expert": expert,
    "score": score,
}


@dataclasses.dataclass(frozen=True)
class Golden:
    """What a stage made when this was written, and how near to it numbers must be."""

    version: int
    sha256: str
    numbers: tuple[float, ...]
    within: float


GOLDEN = {
    "degrade": Golden(2, "07689b812464ddc3", (-54.9514, 171.972, -58.9594, 65.5964), 0.3),
    "embed": Golden(2, "6df5ab1edca57828", (0.0442777, -0.00933239, -0.0434034, -0.0192908), 1e-4),
    "tree": Golden(
        1,
        "ef1348c126c93aa3",
        (
            *(0.466937, -0.362234, 0.346407, 0.843579),
            *(0.367911, -0.0209529, 0.523283, 1.15587),
        ),
        1e-3,
    ),
    "expert": Golden(
        1,
        "426770cbcfd29e93",
        (
            *(-22.1726, -21.7842, -22.2071, -22.0963, -22.3214, -22.2812, -22.404, -22.4715),
            *(-9.59975, -77.8336, -97.3608, -88.4832),
        ),
        5e-3,
    ),
    "score": Golden(
        1,
        "f4200a260c4f58c0",
        (
            *(0.00499874, -0.0538337, -0.0210031, 0.129262),
            *(1.67417, -19.223, -7.56937, 46.5462),
            *(2.00955, -23.3011, -9.08152, 56.6252),
            *(0.0640119, -0.678612, -0.248473, 1.59124),
            *(0.00491552, -0.0566167, -0.0220007, 0.137343),
            *(1.60033, -18.8676, -7.36101, 45.2967),
            *(2.10381, -22.619, -8.73459, 54.133),
            *(0.0652312, -0.687234, -0.252327, 1.614),
        ),
        1e-3,
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_makes_something_else_only_under_another_version(
    stage: str, tmp_path: Path
) -> None:
    with threads(1):
        made = STAGES[stage](tmp_path)
    golden = GOLDEN[stage]
    numbers = tuple(float(f"{number:.6g}") for number in made.numbers)
    now = f"version={VERSIONS[stage]}, sha256={made.sha256!r}, numbers={numbers}"
    is_near = made.numbers == pytest.approx(golden.numbers, rel=1e-4, abs=golden.within)
    is_same = is_near and made.sha256 == golden.sha256
    assert is_same, (
        f"stage '{stage}' makes something else of the same inputs. If its code is what changed, "
        f"raise VERSIONS['{stage}'], so that stored results of the old code are not taken for new "
        "ones; if a default changed, which is part of the key, do not. Then write here what it "
        f"makes: {now}"
    )
    assert golden.version == VERSIONS[stage], f"raised without need, or to be written here: {now}"
