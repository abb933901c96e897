"""Planning and cutting the rows of pairs: pictures that came with their clean versions.

Nothing is synthesised here. A row of a pair is the same square of the degraded and of the clean
picture, stored as it is; it has no recipe, and its caption names the kind alone, as nobody wrote
down the degree.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from expertree.degradation.captions import caption_of_kinds
from expertree.degradation.parts import (
    ROWS_PER_PART,
    SCHEMA,
    draw_place,
    seed_of,
    slug,
)
from expertree.degradation.photographs import Photo
from expertree.degradation.recipe import NO_RECIPE
from expertree.degradation.table import PatchSet
from expertree.images.arrays import ImageU8
from expertree.images.io import encode_png

PAIR = "pair"
"""The kind of a row that was cut from a pair."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPair:
    """A degraded picture and its clean version, whose files were decoded once and fit each other.

    Attributes:
        name: Name, unique among the pairs of its source.
        tasks: Kinds of its degradations; names of the registry, or others (`raindrop`).
        lq: The degraded picture.
        gt: The clean picture, of the same size.
        scene: What it shows, by a name that pairs of its source with that content share; empty if
            nobody knows.
    """

    name: str
    tasks: tuple[str, ...]
    lq: Photo
    gt: Photo
    scene: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PairPart:
    """A unit of work: some rows of one set from one pair. Picklable, less than a kilobyte.

    Attributes:
        pair: The pair.
        patch_set: Name of the set.
        patch_px: Side of a patch.
        prefix: Beginning of its rows' ids.
        seed: Seed of the set.
        first: Number of its first row among those of the pair.
        num_rows: Number of its rows.
    """

    pair: TrainingPair
    patch_set: str
    patch_px: int
    prefix: str
    seed: int
    first: int
    num_rows: int

    def seed_of_row(self, index: int) -> int:
        """Return the seed of a row's place, by its number among those of the pair."""
        return seed_of(f"{self.seed}/{self.patch_set}/{self.pair.lq.sha256}/{index}")


def plan_pairs(
    patch_set: PatchSet, pairs: Sequence[TrainingPair], *, seed: int, label: str
) -> list[PairPart]:
    """Plan the rows that a patch set has from the pairs of a source.

    Each pair gets as many rows as any other, or one less. Where there are fewer rows than pairs, a
    draw decides which pairs have one.

    Args:
        patch_set: The set; its size is the number of rows.
        pairs: The pairs of the set's part; their order does not matter.
        seed: Seed of the draw, and of the places that are cut.
        label: Name of the source, which the rows' ids have.

    Returns:
        The parts in the order of their rows' ids.

    Raises:
        ValueError: If there are no pairs.
    """
    if not pairs:
        raise ValueError(f"patch set '{patch_set.name}' has no pairs of {label}")
    chosen = sorted(pairs, key=lambda pair: pair.name)
    each, more = divmod(patch_set.num_patches, len(chosen))
    drawn = np.random.default_rng(seed_of(f"{seed}/{patch_set.name}/{label}"))
    lucky = set(drawn.permutation(len(chosen))[:more].tolist())
    parts: list[PairPart] = []
    for number, pair in enumerate(chosen):
        num_rows = each + (number in lucky)
        parts.extend(
            PairPart(
                pair=pair,
                patch_set=patch_set.name,
                patch_px=patch_set.patch_px,
                prefix=f"{patch_set.name}/{label}/{number:05d}-{slug(pair.name)}",
                seed=seed,
                first=first,
                num_rows=min(ROWS_PER_PART, num_rows - first),
            )
            for first in range(0, num_rows, ROWS_PER_PART)
        )
    return parts


def cut_part(part: PairPart, lq_u8: ImageU8, gt_u8: ImageU8) -> pa.Table:
    """Cut the rows of a part out of both sides of its pair, at the same places.

    Args:
        part: Part of the plan from `plan_pairs`.
        lq_u8: The degraded picture, from `load_photo(part.pair.lq)`.
        gt_u8: The clean picture, from `load_photo(part.pair.gt)`.

    Returns:
        A table of `SCHEMA`, rows in the order of the plan.

    Raises:
        ValueError: If the sizes differ, or are smaller than a patch.
    """
    side_px = part.patch_px
    if lq_u8.shape != gt_u8.shape or min(gt_u8.shape[:2]) < side_px:
        raise ValueError(
            f"pair {part.pair.name}: patches of {side_px} px cannot be cut from "
            f"{list(lq_u8.shape[:2])} and {list(gt_u8.shape[:2])}"
        )
    words = {
        "photo": part.pair.name,
        "split": part.patch_set,
        "kind": PAIR,
        "tasks": list(part.pair.tasks),
        "caption": caption_of_kinds(part.pair.tasks),
        "recipe": NO_RECIPE,
    }
    rows = []
    for index in range(part.first, part.first + part.num_rows):
        row_seed = part.seed_of_row(index)
        # By the clean side: rain and noise give contrast to a sky that has none.
        top, left = draw_place(gt_u8, side_px, np.random.default_rng(row_seed))
        inside = np.s_[top : top + side_px, left : left + side_px]
        sides = {"lq": lq_u8, "gt": gt_u8}
        cut = {name: encode_png(np.ascontiguousarray(side[inside])) for name, side in sides.items()}
        rows.append({"id": f"{part.prefix}/{index:05d}", "seed": row_seed, **words, **cut})
    return pa.Table.from_pylist(rows, schema=SCHEMA)
