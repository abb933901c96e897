"""Find a set's images in the folder layouts that it comes in, and pair them by name.

Errors say how many images are missing and name the first, because most sets are unpacked by hand.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from expertree.degradation.photographs import IMAGE_SUFFIXES
from expertree.errors import DatasetError

Key: TypeAlias = Callable[[Path], str]

_NUM_NAMED = 3
_NUMBER = re.compile(r"(\d+)(?:x2)?(?:_[a-z]+)?$")


def by_stem(path: Path) -> str:
    """Return the name without its suffix, which partners share."""
    return path.stem


def by_number(path: Path) -> str:
    """Return the number in the name, which partners share.

    For example `rain-001`, `norain-1`, `rain-001_rainy` and `norain-001x2`.
    """
    match = _NUMBER.search(path.stem)
    return str(int(match[1])) if match else path.stem


def by_first_part(path: Path) -> str:
    """Return the name up to the first underscore, as in `0001_0.8_0.2` and `0001`."""
    return path.stem.partition("_")[0]


def by_scene(path: Path) -> str:
    """Return scene and name, which partners share: `scene/blur/1` and `scene/sharp/1`."""
    return f"{path.parts[-3]}/{path.stem}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A folder layout of a set: globs of its images, relative to its root, and how they pair up.

    Attributes:
        lq: Glob of the degraded images.
        gt: Glob of the clean images.
        lq_key: Key of a degraded image, which its clean partner shares.
        gt_key: Key of a clean image; no two of them may have the same.
        name: Name of a pair, from the path of its degraded image.
    """

    lq: str
    gt: str
    lq_key: Key = by_stem
    gt_key: Key = by_stem
    name: Key = by_stem

    def inside(self, folder: str) -> "Layout":
        """Return the layout below a folder; an empty name stands for the root itself."""
        if not folder:
            return self
        return dataclasses.replace(self, lq=f"{folder}/{self.lq}", gt=f"{folder}/{self.gt}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The part of a data set that is looked for, and the folder that is searched.

    Attributes:
        dataset: Name of the set.
        split: Name of the part.
        root: The folder that the user named.
        partial: Whether part of the set is enough: clean images may lack a degraded one.
    """

    dataset: str
    split: str
    root: Path
    partial: bool

    def error(self, problem: str) -> DatasetError:
        """Return an error that names the data set and the split."""
        return DatasetError(f"data set {self.dataset}, split {self.split}: {problem}")


def find_pairs(place: Place, layouts: Sequence[Layout]) -> list[tuple[str, Path, Path]]:
    """Find the pairs in the first layout that is there.

    Returns:
        Name, degraded file, clean file; sorted by name.

    Raises:
        DatasetError: If no layout is there, one side is empty, a degraded image has no partner, a
            clean one has none (unless the set is partial) or two have the same name.
    """
    found = [(_images(place.root, x.lq), _images(place.root, x.gt)) for x in layouts]
    for layout, (lqs, gts) in zip(layouts, found, strict=True):
        if lqs and gts:
            return _pair(place, layout, lqs, gts)
    for layout, (lqs, gts) in zip(layouts, found, strict=True):
        if lqs or gts:
            there, missing = (layout.lq, layout.gt) if lqs else (layout.gt, layout.lq)
            raise place.error(
                f"'{place.root}' has {len(lqs or gts)} images in '{there}' but none in '{missing}'"
            )
    raise _nothing_found(place, [f"'{x.lq}' with '{x.gt}'" for x in layouts])


def find_images(place: Place, globs: Sequence[str]) -> list[Path]:
    """Find the images at the first glob that matches any, sorted.

    Raises:
        DatasetError: If no glob matches an image.
    """
    for pattern in globs:
        images = _images(place.root, pattern)
        if images:
            return images
    raise _nothing_found(place, [f"'{pattern}'" for pattern in globs])


def first_names(names: Iterable[str]) -> str:
    """Return some names for an error: the first ones and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _NUM_NAMED} more" if len(listed) > _NUM_NAMED else ""
    return ", ".join(listed[:_NUM_NAMED]) + more


def _pair(
    place: Place, layout: Layout, lqs: Sequence[Path], gts: Sequence[Path]
) -> list[tuple[str, Path, Path]]:
    clean: dict[str, Path] = {}
    for gt in gts:
        key = layout.gt_key(gt)
        if key in clean:
            raise place.error(f"'{clean[key]}' and '{gt}' both belong to '{key}'; leave one")
        clean[key] = gt
    lonely = [lq.name for lq in lqs if layout.lq_key(lq) not in clean]
    if lonely:
        raise place.error(
            f"{len(lonely)} of {len(lqs)} images in '{layout.lq}' have no partner among the "
            f"{len(gts)} in '{layout.gt}': {first_names(lonely)}"
        )
    names = Counter(layout.name(lq) for lq in lqs)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise place.error(
            f"{len(twice)} names in '{layout.lq}' occur more than once: {first_names(twice)}"
        )
    used = {layout.lq_key(lq) for lq in lqs}
    unused = [gt.name for key, gt in clean.items() if key not in used]
    if unused and not place.partial:
        raise place.error(
            f"{len(unused)} of {len(gts)} clean images in '{layout.gt}' have no degraded one among "
            f"the {len(lqs)} in '{layout.lq}': {first_names(unused)}"
        )
    return sorted((layout.name(lq), lq, clean[layout.lq_key(lq)]) for lq in lqs)


def _images(root: Path, pattern: str) -> list[Path]:
    return sorted(
        path
        for path in root.glob(pattern)
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def _nothing_found(place: Place, expected: Sequence[str]) -> DatasetError:
    entries = sorted(path.name + "/" * path.is_dir() for path in place.root.iterdir())
    return place.error(
        f"'{place.root}' is in none of the layouts that are known: expected images at "
        f"{' or '.join(expected)}; found {first_names(entries) or 'nothing'}"
    )
