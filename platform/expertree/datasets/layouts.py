"""Find a set's images in the folder layouts that it comes in, and pair them by name.

Errors say how many images are missing and name the first, because most sets are unpacked by hand.
"""

import dataclasses
import errno
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from expertree.datasets.names import Key, by_stem
from expertree.degradation.photographs import IMAGE_SUFFIXES
from expertree.errors import DatasetError
from expertree.images.folders import find_files, is_passed_over

SCORES, PICTURES = "scores.jsonl", "photographs"
"""A file that measuring writes, and the folder of pictures beside it, which is no data set."""

_NUM_NAMED = 3
_EVERYTHING = "**/*"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The places where a set's two sides may lie, relative to its root, and how they pair up.

    The sides are looked for independently of each other: any degraded one goes with any clean one.

    Attributes:
        lq: Globs of the degraded images; the first that matches is taken.
        gt: Globs of the clean images, likewise.
        lq_key: Key of a degraded image, which its clean partner shares.
        gt_key: Key of a clean image; no two of them may have the same.
        name: Name of a pair, from the path of its degraded image.
        scene: Scene of a pair, from the path of its clean image; by default its key.
        gt_has_more: Whether clean images of other splits lie among this one's.
    """

    lq: tuple[str, ...]
    gt: tuple[str, ...]
    lq_key: Key = by_stem
    gt_key: Key = by_stem
    name: Key = by_stem
    scene: Key | None = None
    gt_has_more: bool = False

    def inside(self, folder: str) -> "Layout":
        """Return the layout below a folder; an empty name stands for the root itself."""
        if not folder:
            return self
        return dataclasses.replace(
            self,
            lq=tuple(f"{folder}/{glob}" for glob in self.lq),
            gt=tuple(f"{folder}/{glob}" for glob in self.gt),
        )


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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FoundPair:
    """The files of a pair, its name and its scene."""

    name: str
    lq: Path
    gt: Path
    scene: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """The images at the first glob that matches any; without images, all globs in words."""

    where: str
    images: tuple[Path, ...]


def folders(*names: str) -> tuple[str, ...]:
    """Return the globs of all files in some folders."""
    return tuple(f"{name}/*" for name in names)


def find_pairs(place: Place, layouts: Sequence[Layout]) -> list[FoundPair]:
    """Find the pairs in the first layout that is there.

    Images with the same names are partners; where not all degraded ones find theirs so, the
    layout's keys decide for all.

    Returns:
        The pairs, sorted by name.

    Raises:
        DatasetError: If no layout is there, one side is empty, a degraded image has no partner, a
            clean one has none (unless the set is partial) or two have the same name.
    """
    found = [(_side(place.root, x.lq), _side(place.root, x.gt)) for x in layouts]
    for layout, (lq, gt) in zip(layouts, found, strict=True):
        if lq.images and gt.images:
            return _pair(place, layout, lq, gt)
    for lq, gt in found:
        there, missing = (lq, gt) if lq.images else (gt, lq)
        if there.images:
            raise place.error(
                f"'{place.root}' has {len(there.images)} images in {there.where} but none in "
                f"{missing.where}"
            )
    raise nothing_found(place, [f"{lq.where} with {gt.where}" for lq, gt in found])


def find_images(place: Place, globs: Sequence[str]) -> list[Path]:
    """Find the images at the first glob that matches any, sorted.

    Raises:
        DatasetError: If no glob matches an image.
    """
    side = _side(place.root, tuple(globs))
    if not side.images:
        raise nothing_found(place, [side.where])
    return list(side.images)


def first_names(names: Iterable[str]) -> str:
    """Return some names for an error: the first ones and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _NUM_NAMED} more" if len(listed) > _NUM_NAMED else ""
    return ", ".join(listed[:_NUM_NAMED]) + more


def images_at(root: Path, glob: str) -> list[Path]:
    """Return the images at a glob, sorted.

    Other files are passed over, and so is what is hidden or kept by servers. A glob that ends with
    `**/*` follows links to folders, and passes over pictures that measuring wrote.

    Raises:
        OSError: If a folder below that cannot be looked into.
    """
    return sorted(
        path
        for path in _files_at(root, glob)
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(is_passed_over(part) for part in path.relative_to(root).parts)
    )


def _files_at(root: Path, glob: str) -> Iterable[Path]:
    if not glob.endswith(_EVERYTHING):
        return root.glob(glob)
    base = root / glob.removesuffix(_EVERYTHING)
    if not base.is_dir():
        return ()
    found = find_files(base)
    for folder, reason in found.unreadable:
        raise OSError(errno.EACCES, reason, str(folder))
    written = {path.with_name(PICTURES) for path in found.files if path.name == SCORES}
    return [path for path in found.files if written.isdisjoint(path.parents)]


def is_written(folder: Path) -> bool:
    """Return whether a folder holds the pictures that measuring wrote, and no data set."""
    return folder.name == PICTURES and folder.with_name(SCORES).is_file()


def nothing_found(place: Place, expected: Sequence[str]) -> DatasetError:
    """Return the error that a folder has none of the layouts that were expected."""
    entries = sorted(path.name + "/" * path.is_dir() for path in place.root.iterdir())
    return place.error(
        f"'{place.root}' is in none of the layouts that are known: expected images at "
        f"{', or '.join(expected)}; found {first_names(entries) or 'nothing'}"
    )


def _side(root: Path, globs: tuple[str, ...]) -> _Side:
    for glob in globs:
        images = images_at(root, glob)
        if images:
            return _Side(where=f"'{glob}'", images=tuple(images))
    return _Side(where=" or ".join(f"'{glob}'" for glob in globs), images=())


def _pair(place: Place, layout: Layout, lq: _Side, gt: _Side) -> list[FoundPair]:
    scene = layout.scene or layout.gt_key
    stems = {path.stem for path in gt.images}
    if all(path.stem in stems for path in lq.images) and len(stems) == len(gt.images):
        layout = dataclasses.replace(layout, lq_key=by_stem, gt_key=by_stem)
    clean = _by_key(place, layout, gt)
    lonely = [path.name for path in lq.images if layout.lq_key(path) not in clean]
    if lonely:
        raise place.error(
            f"{len(lonely)} of {len(lq.images)} images in {lq.where} have no partner among the "
            f"{len(gt.images)} in {gt.where}: {first_names(lonely)}"
        )
    names = Counter(layout.name(path) for path in lq.images)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise place.error(
            f"{len(twice)} names in {lq.where} occur more than once: {first_names(twice)}"
        )
    used = {layout.lq_key(path) for path in lq.images}
    unused = [path.name for key, path in clean.items() if key not in used]
    if unused and not (place.partial or layout.gt_has_more):
        raise place.error(
            f"{len(unused)} of {len(gt.images)} clean images in {gt.where} have no degraded one "
            f"among the {len(lq.images)} in {lq.where}: {first_names(unused)}"
        )
    partners = [(path, clean[layout.lq_key(path)]) for path in lq.images]
    pairs = [
        FoundPair(name=layout.name(first), lq=first, gt=second, scene=scene(second))
        for first, second in partners
    ]
    return sorted(pairs, key=lambda pair: pair.name)


def _by_key(place: Place, layout: Layout, gt: _Side) -> Mapping[str, Path]:
    clean: dict[str, Path] = {}
    for path in gt.images:
        key = layout.gt_key(path)
        if key in clean:
            raise place.error(f"'{clean[key]}' and '{path}' both belong to '{key}'; leave one")
        clean[key] = path
    return clean
