"""Patch sets: from photographs to tables of degraded and clean patches.

Each set (for experts, for routers, for validation) is a table of its own, so that more of one does
not make the others anew. Planning is separate from making: `plan_patches` decides every row's
identity, seed and kind from values alone, and `make_part` makes a part of the table from one
photograph, on any machine and in any order, always the same bytes.
"""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from expertree.degradation.captions import caption
from expertree.degradation.cuts import MapCuts
from expertree.degradation.looks import NATURAL, LooksConfig, draw_look, draw_saved
from expertree.degradation.maps import NO_MAPS, MapFiles
from expertree.degradation.parameters import Severity
from expertree.degradation.photographs import Photo, Split
from expertree.degradation.recipe import MIN_MIXED_TASKS, Kind, draw_recipe, mixable
from expertree.degradation.registry import DEFAULT_TASKS, MIXABLE, check_tasks
from expertree.degradation.synthesis import degrade
from expertree.errors import ConfigError
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

SHIFT_POINTS = tuple(number / 14 for number in range(15))
"""The paper's 15 points of shift (paper 000, figure 5), from the mildest parameters in distribution
to the severest out of it."""

CLEAN_SET = "val_clean"
"""Name of the set with which nothing is wrong."""

HALF_GREY = dataclasses.replace(NATURAL, grey_share=0.5)

SHIFT_MIXED_FRACTION = 0.5
"""Share of the patches at a point of shift that has several degradations."""

_ROWS_PER_PART = 256
"""A part is one task of a data worker: seconds of work, some ten megabytes."""

_MASKS_PER_PART = 16
"""So many masks of each kind may the rows of a part draw from: a part stays small, however many
masks there are, and decodes few of them."""

_LEAST_PATCHES = {
    "num_train": 1,
    "num_extractor": 1,
    "num_route": 1,
    "num_val_in": 1,
    "num_val_out": 1,
    "num_val_clean": 0,
    "num_shift": 0,
}

_LOOKS = 1
"""Tells the generator of a row's look from that of everything else."""

_MIN_CONTRAST = 4.0
_MAX_CROPS = 8


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PatchSet:
    """Patches for one purpose.

    Attributes:
        name: First part of the patches' ids.
        part: Which of the photographs they are cut from.
        severity: Ranges of the parameters.
        num_patches: How many.
        mixed_fraction: Share of them that has several degradations at once.
        patch_px: Side of a patch.
        tasks: Single degradations, and what mixtures are made of.
        clean_fraction: Share of them with which nothing is wrong.
        looks: Colours and JPEG that are no degradation.
    """

    name: str
    part: Split
    severity: Severity
    num_patches: int
    mixed_fraction: float
    patch_px: int
    tasks: tuple[str, ...]
    clean_fraction: float = 0.0
    looks: LooksConfig = NATURAL


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DegradationConfig:
    """What the patch sets hold.

    Attributes:
        patch_px: Side of a patch. The extractor looks at all of it; experts crop from it.
        num_train: Patches to train experts on, and to cluster.
        num_extractor: Patches of any degree to train the extractor on, of the same photographs.
        num_route: Patches to train routers on, from photographs that no expert has seen.
        num_val_in: Validation patches with parameters in distribution.
        num_val_out: Validation patches with parameters out of distribution.
        num_val_clean: Validation patches with which nothing is wrong, half of them grey: routers
            should leave them as they are.
        num_shift: Validation patches at each of 15 points from the mildest in distribution to the
            severest out of it, half of them mixed, for the report's curves; 0 leaves them out.
        mixed_fraction: Share of the experts' and validation sets that has several degradations.
        chooser_mixed_fraction: The same for the extractor's and the routers' sets, which have to
            tell mixtures apart: there the choice is hardest, so that more examples are mixed.
        chooser_clean_fraction: Share of the extractor's and the routers' sets with which nothing is
            wrong, so that they learn to leave such pictures alone. Experts see none.
        looks: Colours and JPEG of training pictures that are no degradation; validation pictures
            are as they are.
        tasks: Single degradations; each gets the same number of patches. Those that can be mixed
            are also what mixtures are made of.
    """

    patch_px: int = 128
    num_train: int = 2800
    num_extractor: int = 2800
    num_route: int = 1400
    num_val_in: int = 420
    num_val_out: int = 420
    num_val_clean: int = 60
    num_shift: int = 28
    mixed_fraction: float = 0.2
    chooser_mixed_fraction: float = 0.4
    chooser_clean_fraction: float = 0.1
    looks: LooksConfig = LooksConfig()
    tasks: tuple[str, ...] = DEFAULT_TASKS

    def __post_init__(self) -> None:
        """Check the values against each other.

        Raises:
            ConfigError: If one cannot work; names it.
        """
        if self.patch_px < 16:
            raise ConfigError(f"patch_px must be at least 16, got {self.patch_px}")
        for name, least in _LEAST_PATCHES.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        clean, mixed = self.chooser_clean_fraction, self.chooser_mixed_fraction
        if not 0.0 <= clean <= 1.0 or clean + mixed > 1.0:
            raise ConfigError(
                "chooser_clean_fraction must lie in [0, 1] and leave room for "
                f"chooser_mixed_fraction={mixed}, got {clean}"
            )
        try:
            check_tasks(self.tasks)
        except ValueError as error:
            raise ConfigError(f"tasks: {error}") from None
        for name in ("mixed_fraction", "chooser_mixed_fraction"):
            self._check_mixed(name, getattr(self, name))

    def _check_mixed(self, name: str, fraction: float) -> None:
        if not 0.0 <= fraction <= 1.0:
            raise ConfigError(f"{name} must lie in [0, 1], got {fraction}")
        if fraction > 0 and len(mixable(self.tasks)) < MIN_MIXED_TASKS:
            raise ConfigError(
                f"{name} is {fraction}, but tasks {list(self.tasks)} has less "
                f"than {MIN_MIXED_TASKS} that can be mixed ({', '.join(MIXABLE)})"
            )

    def patch_sets(self) -> dict[str, PatchSet]:
        """The sets of a build, by name.

        Returns:
            `train`, `extractor`, `route`, `val_in`, `val_out`; `val_clean` and the points of shift
            where there are to be any.
        """
        usual, choosers = self.mixed_fraction, self.chooser_mixed_fraction
        sets = [
            self._of_training(self.patch_set("train", "train", "in", self.num_train, usual), 0.0),
            *(
                self._of_training(made, self.chooser_clean_fraction)
                for made in (
                    self.patch_set("extractor", "train", "any", self.num_extractor, choosers),
                    self.patch_set("route", "route", "in", self.num_route, choosers),
                )
            ),
            self.patch_set("val_in", "val", "in", self.num_val_in, usual),
            self.patch_set("val_out", "val", "out", self.num_val_out, usual),
        ]
        if self.num_val_clean:
            made = self.patch_set(CLEAN_SET, "val", "in", self.num_val_clean, 0.0)
            sets.append(dataclasses.replace(made, clean_fraction=1.0, looks=HALF_GREY))
        return {patch_set.name: patch_set for patch_set in sets} | self.shift_sets()

    def _of_training(self, patch_set: PatchSet, clean_fraction: float) -> PatchSet:
        return dataclasses.replace(patch_set, clean_fraction=clean_fraction, looks=self.looks)

    def shift_sets(self) -> dict[str, PatchSet]:
        """The validation sets at the points of shift, mildest first; none if `num_shift` is 0."""
        if self.num_shift == 0:
            return {}
        fraction = SHIFT_MIXED_FRACTION if len(mixable(self.tasks)) >= MIN_MIXED_TASKS else 0.0
        sets = [self.shift_set(point, self.num_shift, fraction) for point in SHIFT_POINTS]
        return {patch_set.name: patch_set for patch_set in sets}

    def shift_set(self, severity: float, num_patches: int, mixed_fraction: float) -> PatchSet:
        """Validation patches at one point of shift, from 0 (mildest) to 1 (severest)."""
        name = f"shift-{severity:.4f}"
        return self.patch_set(name, "val", severity, num_patches, mixed_fraction)

    def patch_set(
        self, name: str, part: Split, severity: Severity, num_patches: int, mixed_fraction: float
    ) -> PatchSet:
        """A set of patches of this size and with these degradations."""
        return PatchSet(
            name=name,
            part=part,
            severity=severity,
            num_patches=num_patches,
            mixed_fraction=mixed_fraction,
            patch_px=self.patch_px,
            tasks=self.tasks,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RowPlan:
    """One row to make.

    Attributes:
        id: Unique in the table.
        seed: Of crop, parameters and recipe; below 2^63.
        kind: `single`, `mixed` or `clean`.
        tasks: The task of a single row; what a mixed one is drawn from; none of a clean one.
    """

    id: str
    seed: int
    kind: Kind
    tasks: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PartPlan:
    """A unit of work: some rows of one set from one photograph. Picklable, a few kilobytes."""

    photo: Photo
    patch_set: str
    severity: Severity
    patch_px: int
    rows: tuple[RowPlan, ...]
    maps: MapFiles = NO_MAPS
    looks: LooksConfig = NATURAL


def plan_patches(
    patch_set: PatchSet, photos: Sequence[Photo], *, seed: int, maps: MapFiles = NO_MAPS
) -> list[PartPlan]:
    """Decide every row of a set's table.

    The single degradations take turns, and with each turn the photographs move on by one, so that
    every task sees every photograph equally often.

    Args:
        patch_set: Size, tasks and severity.
        photos: The photographs of its part; their order does not matter.
        seed: Of everything that is drawn when the parts are made.
        maps: Real maps, as `list_maps` found them; what is not there is procedural.

    Returns:
        The parts in the order of their rows' ids.

    Raises:
        ValueError: If there are no photographs.
    """
    if not photos:
        raise ValueError(f"patch set '{patch_set.name}' has no photographs")
    parts: list[PartPlan] = []
    chosen = sorted(photos, key=lambda photo: photo.name)
    for number, (photo, share) in enumerate(
        zip(chosen, _assign(patch_set, len(chosen)), strict=True)
    ):
        prefix = f"{patch_set.name}/{number:04d}-{_slug(photo.name)}"
        rows = [
            RowPlan(
                id=f"{prefix}/{index:05d}",
                seed=_seed_of(f"{seed}/{patch_set.name}/{photo.sha256}/{index}"),
                kind=kind,
                tasks=tasks,
            )
            for index, (kind, tasks) in enumerate(share)
        ]
        parts.extend(
            PartPlan(
                photo=photo,
                patch_set=patch_set.name,
                severity=patch_set.severity,
                patch_px=patch_set.patch_px,
                rows=tuple(rows[start : start + _ROWS_PER_PART]),
                maps=maps.of_photos([photo.name]).sample(
                    np.random.default_rng(_seed_of(f"{rows[start].seed}/masks")), _MASKS_PER_PART
                ),
                looks=patch_set.looks,
            )
            for start in range(0, len(rows), _ROWS_PER_PART)
        )
    return parts


def make_part(part: PartPlan, image_u8: ImageU8) -> pa.Table:
    """Cut and spoil the patches of a part.

    A crop that is almost one colour (empty sky, the black frame of a medical picture) shows no
    degradation but noise, so up to eight places are tried for each row.

    Args:
        part: From `plan_patches`.
        image_u8: Its photograph, from `load_photo(part.photo)`.

    Returns:
        A table of `SCHEMA`, rows in the order of the plan.

    Raises:
        ValueError: If the image is smaller than a patch.
        PhotoError: If a map is gone or has changed.
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
    top_px, left_px = _place(image_u8, side_px, rng)
    clean = np.ascontiguousarray(image_u8[top_px : top_px + side_px, left_px : left_px + side_px])
    recipe = draw_recipe(rng, tasks=row.tasks, kind=row.kind, severity=part.severity)
    cuts, given = maps.draw(rng, recipe, top_px=top_px, left_px=left_px, side_px=side_px)
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


def _place(image_u8: ImageU8, patch_px: int, rng: np.random.Generator) -> tuple[int, int]:
    """The first row and column of a patch that is not of one colour, if a few tries find one."""
    most_top, most_left = image_u8.shape[0] - patch_px, image_u8.shape[1] - patch_px
    top, left = 0, 0
    for _ in range(_MAX_CROPS):
        top, left = int(rng.integers(most_top + 1)), int(rng.integers(most_left + 1))
        patch = image_u8[top : top + patch_px, left : left + patch_px]
        if patch.std() >= _MIN_CONTRAST:
            break
    return top, left


def _assign(patch_set: PatchSet, num_photos: int) -> list[list[tuple[Kind, tuple[str, ...]]]]:
    """Kind and tasks of each row, by photograph."""
    shares: list[list[tuple[Kind, tuple[str, ...]]]] = [[] for _ in range(num_photos)]
    num_mixed = round(patch_set.num_patches * patch_set.mixed_fraction)
    num_clean = round(patch_set.num_patches * patch_set.clean_fraction)
    num_tasks = len(patch_set.tasks)
    for index in range(patch_set.num_patches - num_mixed - num_clean):
        turn, task = divmod(index, num_tasks)
        shares[(turn + task) % num_photos].append(("single", (patch_set.tasks[task],)))
    for index in range(num_mixed):
        shares[index % num_photos].append(("mixed", mixable(patch_set.tasks)))
    for index in range(num_clean):
        shares[index % num_photos].append(("clean", ()))
    return shares


def _seed_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def _slug(name: str) -> str:
    stem = PurePosixPath(name).stem.lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:40] or "photo"
