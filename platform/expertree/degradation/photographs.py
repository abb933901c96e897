"""Finding and checking clean photographs, and dividing them into parts that share none."""

import dataclasses
import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from expertree.errors import PhotoError
from expertree.images.arrays import ImageU8
from expertree.images.folders import HEIC_SUFFIXES, SUFFIXES, find_files
from expertree.images.io import decode_photo_u8
from expertree.storage import Storage

Split: TypeAlias = Literal["train", "route", "val"]

BUNDLED_SOURCE = "bundled"
_BUNDLED_PREFIX = "bundled:"

# The colour photographs among scikit-image's and scikit-learn's samples. Left out: grey images,
# graphics, and motorcycle_right, which shows the scene of motorcycle_left again.
_BUNDLED_FILES = (
    "skimage/data/astronaut.png",
    "skimage/data/chelsea.png",
    "sklearn/datasets/images/china.jpg",
    "skimage/data/coffee.png",
    "sklearn/datasets/images/flower.jpg",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/ihc.png",
    "skimage/data/motorcycle_left.png",
    "skimage/data/retina.jpg",
    "skimage/data/rocket.jpg",
)

IMAGE_SUFFIXES = frozenset(SUFFIXES) - {".avif", *HEIC_SUFFIXES}
_MAX_NAMED_IN_ERROR = 3

_EXAMINED = 1
"""Version of the notes on valid files; raise it when `decode_photo_u8` refuses more files."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Photo:
    """A photograph's file, which was decoded once and is valid.

    Attributes:
        name: Path inside its source, unique among the source's photographs.
        location: Path of the file, or `bundled:package/path`, which is valid on every machine.
        sha256: SHA-256 of the file's bytes.
        width_px: Width after the EXIF orientation was applied.
        height_px: Height after the EXIF orientation was applied.
    """

    name: str
    location: str
    sha256: str
    width_px: int
    height_px: int


def list_photographs(
    source: str, *, min_side_px: int, known: Storage | None = None, is_dry: bool = False
) -> tuple[list[Photo], list[tuple[str, str]]]:
    """Find all usable photographs, and decode every file, so that a damaged one is skipped here.

    Args:
        source: `bundled` for the photographs that scikit-image and scikit-learn ship, otherwise a
            folder, searched with all its subfolders; see `find_files` for what is passed over.
        min_side_px: Least height and width.
        known: Storage of notes on valid files; a file with the length and times of change that
            its note has is not read again.
        is_dry: Whether to write no new notes.

    Returns:
        The photographs by name, and the name and reason of each file that was skipped: not an
        image, damaged, too small, or a second copy of another one.

    Raises:
        PhotoError: If the folder does not exist, has no usable photograph, or a folder in it cannot
            be looked into.
        ArtefactError: If the notes are damaged.
        StorageError: If the notes cannot be written.
    """
    found = _bundled() if source == BUNDLED_SOURCE else _in_folder(Path(source).expanduser())
    return choose_photographs(found, source, min_side_px=min_side_px, known=known, is_dry=is_dry)


def choose_photographs(
    found: Sequence[tuple[str, str]],
    source: str,
    *,
    min_side_px: int,
    known: Storage | None = None,
    is_dry: bool = False,
) -> tuple[list[Photo], list[tuple[str, str]]]:
    """Choose the usable photographs among files, each picture once.

    Args:
        found: Name and location of each file.
        source: Name of where they are from, in errors and of the notes.
        min_side_px: Least height and width.
        known: See `list_photographs`.
        is_dry: See `list_photographs`.

    Returns:
        The photographs in the order of the files, and the name and reason of each skipped file.

    Raises:
        PhotoError: If none can be used.
    """
    examined = examine_files(found, source, min_side_px=min_side_px, known=known, is_dry=is_dry)
    photos: dict[str, Photo] = {}
    skipped: list[tuple[str, str]] = []
    for (name, _), outcome in zip(found, examined, strict=True):
        if isinstance(outcome, str):
            skipped.append((name, outcome))
        elif outcome.sha256 in photos:
            skipped.append((name, f"is a copy of {photos[outcome.sha256].name}"))
        else:
            photos[outcome.sha256] = outcome
    if not photos:
        raise PhotoError(_nothing_usable(source, skipped))
    return list(photos.values()), skipped


def examine_files(
    found: Sequence[tuple[str, str]],
    source: str,
    *,
    min_side_px: int,
    known: Storage | None = None,
    is_dry: bool = False,
) -> list[Photo | str]:
    """Decode files, and return each as a photograph, or why it cannot be used.

    Args:
        found: Name and location of each file.
        source: Name of where they are from; each has notes of its own.
        min_side_px: Least height and width.
        known: See `list_photographs`.
        is_dry: See `list_photographs`.
    """
    notes = _Notes(known, source)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        examined = list(pool.map(partial(_examine, min_side_px=min_side_px, notes=notes), found))
    if not is_dry:
        notes.save()
    return examined


def load_photo(photo: Photo) -> ImageU8:
    """Read and decode a photograph.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        PhotoError: If the file is missing or has changed since it was listed.
    """
    path = _path_of(photo.location)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PhotoError(f"photograph '{path}' cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != photo.sha256:
        raise PhotoError(f"photograph '{path}' has changed since it was listed; start again")
    return decode_photo_u8(data)


def split_photographs(
    photos: Sequence[Photo], *, val_fraction: float, route_fraction: float, seed: int
) -> dict[str, Split]:
    """Divide photographs into those for experts, for routers, and for validation.

    Each part gets at least one. The division depends on the photographs' contents and the seed, not
    on names or order.

    Args:
        photos: Photographs from `list_photographs`.
        val_fraction: Share kept for validation, in (0, 1).
        route_fraction: Share held back from the experts, to train routers on, in (0, 1).
        seed: Seed of the division.

    Returns:
        The part of each photograph, by name.

    Raises:
        ValueError: If the fractions leave nothing for the experts.
        PhotoError: If there are too few photographs; says how many are needed.
    """
    if min(val_fraction, route_fraction) <= 0 or val_fraction + route_fraction >= 1:
        raise ValueError(
            "val_fraction and route_fraction must be positive and below 1 together, got "
            f"{val_fraction} and {route_fraction}"
        )
    splits = split_scenes(
        [photo.sha256 for photo in photos],
        val_fraction=val_fraction,
        route_fraction=route_fraction,
        seed=seed,
        what="photographs",
    )
    return {photo.name: splits[photo.sha256] for photo in photos}


def split_scenes(
    scenes: Sequence[str], *, val_fraction: float, route_fraction: float, seed: int, what: str
) -> dict[str, Split]:
    """Divide scenes into those for experts, for routers, and for validation.

    Each part gets at least one, save one whose fraction is 0.

    Args:
        scenes: Names of scenes, none twice; their order does not matter.
        val_fraction: Share kept for validation, in [0, 1).
        route_fraction: Share held back from the experts, in [0, 1).
        seed: Seed of the division.
        what: What they are scenes of, for the error.

    Raises:
        ValueError: If the fractions leave nothing for the experts.
        PhotoError: If there are too few scenes; says how many are needed.
    """
    if min(val_fraction, route_fraction) < 0 or val_fraction + route_fraction >= 1:
        raise ValueError(
            "val_fraction and route_fraction must be at least 0 and below 1 together, got "
            f"{val_fraction} and {route_fraction}"
        )
    num_scenes, validates, routes = len(scenes), val_fraction > 0, route_fraction > 0
    least = 1 + validates + routes
    if num_scenes < least:
        uses = ["to train experts", *["to train routers"] * routes, *["to validate"] * validates]
        listed = f"{', '.join(uses[:-1])} and {uses[-1]}" if len(uses) > 1 else uses[0]
        raise PhotoError(
            f"{what}: at least {least} are needed (one each {listed}), but {num_scenes} can be used"
        )
    num_val = max(1, min(num_scenes - 1 - routes, round(num_scenes * val_fraction))) * validates
    num_route = max(1, min(num_scenes - num_val - 1, round(num_scenes * route_fraction))) * routes
    by_content = sorted(scenes)
    order = np.random.default_rng(seed).permutation(num_scenes)
    splits: dict[str, Split] = {}
    for rank, index in enumerate(order):
        is_route = rank < num_val + num_route
        splits[by_content[index]] = "val" if rank < num_val else "route" if is_route else "train"
    return splits


def _bundled() -> list[tuple[str, str]]:
    return [(Path(file).stem, f"{_BUNDLED_PREFIX}{file}") for file in _BUNDLED_FILES]


def _in_folder(folder: Path) -> list[tuple[str, str]]:
    if not folder.is_dir():
        raise PhotoError(
            f"photographs: '{folder}' is not a folder; give one that exists, or '{BUNDLED_SOURCE}'"
        )
    found = find_files(folder)
    if found.unreadable:
        path, reason = found.unreadable[0]
        raise PhotoError(f"photographs: '{path}' cannot be looked into: {reason}")
    files = (path for path in found.files if path.is_file())
    return sorted((path.relative_to(folder).as_posix(), str(path.absolute())) for path in files)


def _path_of(location: str) -> Path:
    if not location.startswith(_BUNDLED_PREFIX):
        return Path(location)
    package, _, file = location.removeprefix(_BUNDLED_PREFIX).partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise PhotoError(f"bundled photographs: the package '{package}' is not installed")
    return Path(spec.origin).parent / file


class _Notes:
    """Notes on valid files, by location: a stamp that shows whether one changed, hash and size."""

    def __init__(self, directory: Storage | None, source: str) -> None:
        self._directory = directory
        self._name = f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.json"
        self._before: dict[str, list[Any]] = {}
        if directory is not None and directory.exists(self._name):
            read = directory.read_json(self._name)
            self._before = read["files"] if read["version"] == _EXAMINED else {}
        self._now: dict[str, list[Any]] = {}

    def find(self, location: str, stamp: list[int]) -> tuple[str, int, int] | None:
        """Return hash, width and height of a file that was noted with the same stamp, or None."""
        seen = self._before.get(location)
        if seen is None or seen[0] != stamp:
            return None
        self._now[location] = seen
        return seen[1], seen[2], seen[3]

    def add(self, location: str, stamp: list[int], seen: tuple[str, int, int]) -> None:
        """Note a valid file."""
        self._now[location] = [stamp, *seen]

    def save(self) -> None:
        """Write the notes if they have changed."""
        if self._directory is not None and self._now != self._before:
            text = json.dumps({"version": _EXAMINED, "files": self._now})
            self._directory.write_bytes(self._name, text.encode())


def _examine(found: tuple[str, str], *, min_side_px: int, notes: _Notes) -> Photo | str:
    """Return the photograph of that name and location, or why it cannot be used."""
    name, location = found
    path = _path_of(location)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return "is not an image file"
    try:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        seen = notes.find(location, stamp)
        if seen is None:
            data = path.read_bytes()
            height_px, width_px = decode_photo_u8(data).shape[:2]
            seen = (hashlib.sha256(data).hexdigest(), width_px, height_px)
            notes.add(location, stamp, seen)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError as error:
        return str(error)
    sha256, width_px, height_px = seen
    if min(height_px, width_px) < min_side_px:
        return f"is {width_px} x {height_px} px, smaller than {min_side_px} px"
    return Photo(
        name=name, location=location, sha256=sha256, width_px=width_px, height_px=height_px
    )


def _nothing_usable(source: str, skipped: list[tuple[str, str]]) -> str:
    if not skipped:
        return f"photographs: the folder '{source}' has no files"
    named = "; ".join(f"{name} {reason}" for name, reason in skipped[:_MAX_NAMED_IN_ERROR])
    more = len(skipped) - _MAX_NAMED_IN_ERROR
    rest = f"; and {more} more" if more > 0 else ""
    return f"photographs: none of the {len(skipped)} files in '{source}' can be used: {named}{rest}"
