"""Planning the rows of a patch set's table, and making them from photographs.

`plan_patches` decides every row's identity, seed and kind, and `make_part` makes a part of the
table from one photograph, on any machine and in any order: always the same bytes on processors of
one kind. Between kinds, pictures with looks may differ a little (`looks`).
"""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import cv2
import numpy as np
import pyarrow as pa

from expertree.degradation.captions import caption
from expertree.degradation.cuts import MapCuts
from expertree.degradation.looks import NATURAL, LooksConfig, draw_look, draw_saved
from expertree.degradation.maps import NO_MAPS, MapFiles
from expertree.degradation.parameters import Severity
from expertree.degradation.photographs import Photo
from expertree.degradation.ranges import PAPER_RANGES, RangesConfig
from expertree.degradation.recipe import Kind, draw_recipe, mixable
from expertree.degradation.synthesis import degrade
from expertree.degradation.table import PatchSet
from expertree.images.arrays import ImageU8
from expertree.images.io import encode_png

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("photo", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("tasks", pa.list_(pa.string()), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("lq", pa.binary(), nullable=False),
        pa.field("gt", pa.binary(), nullable=False),
    ]
)
"""Columns of the patch table; `lq` and `gt` are PNG, RGB, 8 bit."""

ROWS_PER_PART = 256
"""Most rows of a part, which is one task of a data worker: seconds of work, some ten megabytes."""

_MASKS_PER_PART = 16
"""Most masks of each kind that the rows of a part draw from, so that a part stays small and decodes
few masks, however many there are."""

_MIXED, _CLEAN = 0, 1
"""Codes of mixed and clean rows in `PartPlan.kinds`, added to the number of tasks."""

_LOOKS, _SIZE = 1, 2
"""Parts of a seed that keep the generators of a row's look and of its size apart from others."""

SMALLER = (0.5, 0.95)
"""Range of the factor by which photographs are made smaller."""

_MIN_CONTRAST = 4.0
_MAX_CROPS = 8


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RowPlan:
    """The plan of one row.

    Attributes:
        id: Name that is unique in the table.
        seed: Seed of crop, parameters and recipe; below 2^63.
        kind: `single`, `mixed` or `clean`.
        tasks: The task of a single row, those that a mixed one is drawn from, none for a clean one.
    """

    id: str
    seed: int
    kind: Kind
    tasks: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PartPlan:
    """A unit of work: some rows of one set from one photograph. Picklable, a few kilobytes.

    Attributes:
        photo: The photograph.
        patch_set: Name of the set.
        severity: Ranges of the parameters.
        patch_px: Side of a patch.
        prefix: Beginning of its rows' ids.
        seed: Seed of the set.
        first: Number of its first row among those of the photograph.
        tasks: Tasks of the set.
        kinds: One byte for each row: the index of its task, or `_MIXED` or `_CLEAN` above `tasks`.
        maps: Real maps that its rows may use.
        looks: Colours and JPEG coding that are no degradation.
        ranges: Ranges of parameters that differ from the paper's.
        smaller_share: Share of the rows whose photograph is made smaller before all else.
    """

    photo: Photo
    patch_set: str
    severity: Severity
    patch_px: int
    prefix: str
    seed: int
    first: int
    tasks: tuple[str, ...]
    kinds: bytes
    maps: MapFiles = NO_MAPS
    looks: LooksConfig = NATURAL
    ranges: RangesConfig = PAPER_RANGES
    smaller_share: float = 0.0

    @property
    def num_rows(self) -> int:
        """Number of its rows."""
        return len(self.kinds)

    @property
    def rows(self) -> tuple[RowPlan, ...]:
        """The plans of its rows, made on each access, as a table may have ten million rows."""
        return tuple(self._row(place) for place in range(self.num_rows))

    def _row(self, place: int) -> RowPlan:
        index, kind = self.first + place, self.kinds[place]
        named: tuple[Kind, tuple[str, ...]] = ("single", self.tasks[kind : kind + 1])
        if kind == len(self.tasks) + _MIXED:
            named = ("mixed", mixable(self.tasks))
        elif kind == len(self.tasks) + _CLEAN:
            named = ("clean", ())
        return RowPlan(
            id=f"{self.prefix}/{index:05d}",
            seed=_seed_of_row(self.seed, self.patch_set, self.photo, index),
            kind=named[0],
            tasks=named[1],
        )


def plan_patches(
    patch_set: PatchSet,
    photos: Sequence[Photo],
    *,
    seed: int,
    maps: MapFiles = NO_MAPS,
    label: str = "",
) -> list[PartPlan]:
    """Plan every row of a patch set's table.

    The single degradations take turns, and with each turn the photographs move on by one. Where
    that leaves photographs out (`takes_turns`), rows are dealt to them kind after kind, in an order
    drawn from the seed, so that as many photographs are used as there are rows, or all of them.

    Args:
        patch_set: The set, with its size, tasks and severity.
        photos: The photographs of the set's part; their order does not matter.
        seed: Seed of everything that is drawn, here and when the parts are made.
        maps: Real maps, as `list_maps` found them; all others are procedural.
        label: Name of their source, which the rows' ids have where there are several sources.

    Returns:
        The parts in the order of their rows' ids.

    Raises:
        ValueError: If there are no photographs.
    """
    if not photos:
        raise ValueError(f"patch set '{patch_set.name}' has no photographs")
    parts: list[PartPlan] = []
    beginning = f"{patch_set.name}/{label}/" if label else f"{patch_set.name}/"
    chosen = sorted(photos, key=lambda photo: photo.name)
    order = np.random.default_rng(seed_of(f"{seed}/{patch_set.name}/{label}"))
    for number, (photo, kinds) in enumerate(
        zip(chosen, _assign(patch_set, len(chosen), order), strict=True)
    ):
        parts.extend(
            PartPlan(
                photo=photo,
                patch_set=patch_set.name,
                severity=patch_set.severity,
                patch_px=patch_set.patch_px,
                prefix=f"{beginning}{number:04d}-{slug(photo.name)}",
                seed=seed,
                first=first,
                tasks=patch_set.tasks,
                kinds=kinds[first : first + ROWS_PER_PART],
                maps=_maps_of_part(
                    maps.of_photos([photo.name]), _seed_of_row(seed, patch_set.name, photo, first)
                ),
                looks=patch_set.looks,
                ranges=patch_set.ranges,
                smaller_share=patch_set.smaller_share,
            )
            for first in range(0, len(kinds), ROWS_PER_PART)
        )
    return parts


def takes_turns(patch_set: PatchSet, num_photos: int) -> bool:
    """Return whether every photograph gets a row where the single degradations take turns.

    If not, the rows are dealt in another order, which their table depends on.
    """
    num_single, num_mixed, num_clean = _counts(patch_set)
    num_tasks = len(patch_set.tasks)
    by_turns = min(num_single, num_single // num_tasks + num_tasks - 1)
    return max(by_turns, num_mixed, num_clean) >= num_photos


def make_part(part: PartPlan, image_u8: ImageU8) -> pa.Table:
    """Cut the patches of a part out of its photograph, and degrade them.

    A crop that is almost one colour (empty sky, the black frame of a medical picture) shows no
    degradation but noise, so up to eight places are tried for each row.

    Args:
        part: Part of the plan from `plan_patches`.
        image_u8: Its photograph, from `load_photo(part.photo)`.

    Returns:
        A table of `SCHEMA`, rows in the order of the plan.

    Raises:
        ValueError: If the image is smaller than a patch.
        PhotoError: If a map is missing or has changed.
    """
    if min(image_u8.shape[:2]) < part.patch_px:
        raise ValueError(
            f"photograph {part.photo.name} is {list(image_u8.shape[:2])}, smaller than a patch of "
            f"{part.patch_px} px"
        )
    maps = MapCuts(part.maps)
    rows = [_make_row(row, part, image_u8, maps) for row in part.rows]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _make_row(row: RowPlan, part: PartPlan, image_u8: ImageU8, maps: MapCuts) -> dict[str, object]:
    rng = np.random.default_rng(row.seed)
    side_px = part.patch_px
    cut_px = _draw_cut(row, part, min(image_u8.shape[:2]))
    top_px, left_px = draw_place(image_u8, cut_px, rng)
    clean = np.ascontiguousarray(image_u8[top_px : top_px + cut_px, left_px : left_px + cut_px])
    if cut_px > side_px:
        clean = cv2.resize(clean, (side_px, side_px), interpolation=cv2.INTER_AREA)
    recipe = draw_recipe(
        rng, tasks=row.tasks, kind=row.kind, severity=part.severity, ranges=part.ranges
    )
    place = {"top_px": top_px, "left_px": left_px, "side_px": side_px, "cut_px": cut_px}
    cuts, given = maps.draw(rng, recipe, **place)
    recipe = dataclasses.replace(recipe, maps=cuts)
    if part.looks != NATURAL:
        # A generator of its own: what is wrong with a picture does not depend on its look.
        looks = np.random.default_rng([row.seed, _LOOKS])
        clean = draw_look(clean, looks, part.looks)
        if "jpeg" not in recipe.tasks:
            recipe = dataclasses.replace(recipe, saved=draw_saved(looks, part.looks))
    return {
        "id": row.id,
        "photo": part.photo.name,
        "split": part.patch_set,
        "kind": row.kind,
        "tasks": list(recipe.tasks),
        "caption": caption(recipe),
        "recipe": recipe.to_json(),
        "seed": row.seed,
        "lq": encode_png(degrade(clean, recipe, given)),
        "gt": encode_png(clean),
    }


def _draw_cut(row: RowPlan, part: PartPlan, most_px: int) -> int:
    """Return the side of the square of the photograph that a row's patch is made of."""
    if part.smaller_share == 0.0:
        return part.patch_px
    rng = np.random.default_rng([row.seed, _SIZE])
    if rng.random() >= part.smaller_share:
        return part.patch_px
    return min(round(part.patch_px / rng.uniform(*SMALLER)), most_px)


def draw_place(image_u8: ImageU8, patch_px: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the first row and column of a patch that is not of one colour, within a few tries."""
    most_top, most_left = image_u8.shape[0] - patch_px, image_u8.shape[1] - patch_px
    top, left = 0, 0
    for _ in range(_MAX_CROPS):
        top, left = int(rng.integers(most_top + 1)), int(rng.integers(most_left + 1))
        patch = image_u8[top : top + patch_px, left : left + patch_px]
        if patch.std() >= _MIN_CONTRAST:
            break
    return top, left


def _maps_of_part(maps: MapFiles, seed: int) -> MapFiles:
    return maps.sample(np.random.default_rng(seed_of(f"{seed}/masks")), _MASKS_PER_PART)


def _counts(patch_set: PatchSet) -> tuple[int, int, int]:
    """Return how many rows of a set are single, mixed and clean."""
    num_mixed = round(patch_set.num_patches * patch_set.mixed_fraction)
    num_clean = round(patch_set.num_patches * patch_set.clean_fraction)
    return patch_set.num_patches - num_mixed - num_clean, num_mixed, num_clean


def _assign(patch_set: PatchSet, num_photos: int, order: np.random.Generator) -> list[bytes]:
    """Return the kinds of the rows of each photograph, coded as in `PartPlan.kinds`."""
    num_single, num_mixed, num_clean = _counts(patch_set)
    num_tasks = len(patch_set.tasks)
    turns, tasks = np.divmod(np.arange(num_single), num_tasks)
    beyond = np.repeat([num_tasks + _MIXED, num_tasks + _CLEAN], [num_mixed, num_clean])
    kinds = np.concatenate([tasks, beyond]).astype(np.uint8)
    if takes_turns(patch_set, num_photos):
        photos = np.concatenate([turns + tasks, np.arange(num_mixed), np.arange(num_clean)])
        photos %= num_photos
    else:
        kinds = np.sort(kinds)
        photos = order.permutation(num_photos)[np.arange(len(kinds)) % num_photos]
    ends = np.cumsum(np.bincount(photos, minlength=num_photos))
    kinds = kinds[np.argsort(photos, kind="stable")]
    return [part.tobytes() for part in np.split(kinds, ends[:-1])]


def _seed_of_row(seed: int, patch_set: str, photo: Photo, index: int) -> int:
    return seed_of(f"{seed}/{patch_set}/{photo.sha256}/{index}")


def seed_of(text: str) -> int:
    """Return a seed that depends on a text, below 2^63."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def slug(name: str) -> str:
    """Return the part of an id that reminds of a file's name: at most 40 letters and digits."""
    stem = PurePosixPath(name).stem.lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40] or "photo"
