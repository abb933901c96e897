"""Finding and reading real maps, which take the place of the procedural ones.

Depth and illumination belong to a photograph, which has a file of the same name in a folder of
maps. Rain streaks and snow are separate masks, of which each row of the table draws one.
"""

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import cv2
import numpy as np

from expertree.config import fingerprint
from expertree.degradation.photographs import IMAGE_SUFFIXES, Photo
from expertree.degradation.recipe import DepthMeaning, MapMeaning
from expertree.errors import PhotoError
from expertree.images.arrays import Field

PROCEDURAL = "procedural"
MAP_SUFFIXES = IMAGE_SUFFIXES | {".npy"}

_SECTION = "photographs.maps"
_NUM_NAMED = 3
_FAR_DISPARITY_PERCENT = 1.0
"""Percent of the known disparities that count as the far end. Depth is the reciprocal, so that one
wrong pixel near 0 would otherwise put everything else at the camera."""

_Plane: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DepthConfig:
    """The source of the depth maps for haze."""

    folder: str = PROCEDURAL
    """`procedural`, or a folder that has for each photograph a map of the same path and stem:
    `.npy`, or an image of 8 or 16 bits, of the photograph's size."""

    meaning: DepthMeaning = "depth"
    """Meaning of a value: `depth` is 0 at the camera; `nearness` is largest at the camera and falls
    linearly; `disparity` is proportional to 1 / depth, and 0 where it is not known. The scale does
    not matter: the farthest point of a photograph becomes 1."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SnowMasksConfig:
    """Folders of masks by the size of their largest flakes, as Snow100K divides them."""

    small: str = PROCEDURAL
    """`procedural`, or a folder of grey images, white where a flake is opaque."""

    medium: str = PROCEDURAL
    """As `small`, with medium flakes."""

    large: str = PROCEDURAL
    """As `small`, with large flakes, which are out of distribution."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MapsConfig:
    """The folders of real maps; all other maps are procedural."""

    depth: DepthConfig = DepthConfig()

    illumination: str = PROCEDURAL
    """`procedural`, or a folder that has for each photograph a map of its light, named as for
    depth; the largest value of the file's type (1 in a `.npy` of floats) is full light."""

    rain: str = PROCEDURAL
    """`procedural`, or a folder of grey images of streaks on black. They are added as they are at
    strength 100, weaker or stronger in proportion; direction and width are the mask's own."""

    snow: SnowMasksConfig = SnowMasksConfig()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MapFile:
    """A map's file, which was decoded once and is valid.

    Attributes:
        name: Path inside its folder.
        location: Absolute path of the file.
        sha256: SHA-256 of the file's bytes.
        height_px: Its height.
        width_px: Its width.
    """

    name: str
    location: str
    sha256: str
    height_px: int
    width_px: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MapFiles:
    """All real maps that were found; a field is empty if its maps are procedural.

    Attributes:
        depth: Depth maps by the photograph's name.
        meaning: Meaning of the depth maps' values.
        illumination: Illumination maps by the photograph's name.
        rain: Masks of rain streaks.
        snow: Masks of snow by the size of their flakes.
    """

    depth: Mapping[str, MapFile] = dataclasses.field(default_factory=dict)
    meaning: DepthMeaning = "depth"
    illumination: Mapping[str, MapFile] = dataclasses.field(default_factory=dict)
    rain: tuple[MapFile, ...] = ()
    snow: Mapping[str, tuple[MapFile, ...]] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str | None:
        """A hash of everything about the maps that results depend on; None without maps."""
        if not (self.depth or self.illumination or self.rain or self.snow):
            return None

        def contents(files: Iterable[tuple[str, MapFile]]) -> list[tuple[str, str, str]]:
            return [(owner, file.name, file.sha256) for owner, file in files]

        return fingerprint(
            {
                "depth": contents(sorted(self.depth.items())),
                "meaning": self.meaning,
                "illumination": contents(sorted(self.illumination.items())),
                "rain": contents(("", file) for file in self.rain),
                "snow": {
                    size: contents(("", file) for file in files)
                    for size, files in self.snow.items()
                },
            }
        )

    def of_photos(self, names: Iterable[str]) -> "MapFiles":
        """Return the maps of some photographs and all masks, as their patches need them."""
        photos = tuple(names)
        return dataclasses.replace(
            self,
            depth={photo: self.depth[photo] for photo in photos if self.depth},
            illumination={photo: self.illumination[photo] for photo in photos if self.illumination},
        )

    def sample(self, rng: np.random.Generator, num_masks: int) -> "MapFiles":
        """Return the same maps with at most `num_masks` masks of each kind, drawn at random."""

        def some(files: tuple[MapFile, ...]) -> tuple[MapFile, ...]:
            if len(files) <= num_masks:
                return files
            return tuple(files[int(n)] for n in rng.choice(len(files), num_masks, replace=False))

        snow = {size: some(files) for size, files in self.snow.items()}
        return dataclasses.replace(self, rain=some(self.rain), snow=snow)


NO_MAPS = MapFiles()


def list_maps(config: MapsConfig, photos: Sequence[Photo], *, patch_px: int) -> MapFiles:
    """Find all maps, and decode every file, so that a damaged one is refused here.

    Args:
        config: The folders.
        photos: The photographs that need depth and illumination.
        patch_px: Side of the patches, which no mask may be smaller than.

    Raises:
        PhotoError: If a folder does not exist or has no masks, a photograph has no map or two, or a
            file is damaged or of the wrong size; names the first ones.
    """
    depth, meaning, snow = config.depth.folder, config.depth.meaning, config.snow
    sizes = {"small": snow.small, "medium": snow.medium, "large": snow.large}
    return MapFiles(
        depth={}
        if depth == PROCEDURAL
        else _beside_photos(f"{_SECTION}.depth.folder", depth, photos, meaning),
        meaning=meaning,
        illumination={}
        if config.illumination == PROCEDURAL
        else _beside_photos(f"{_SECTION}.illumination", config.illumination, photos, "light"),
        rain=() if config.rain == PROCEDURAL else _masks(f"{_SECTION}.rain", config.rain, patch_px),
        snow={
            size: _masks(f"{_SECTION}.snow.{size}", folder, patch_px)
            for size, folder in sizes.items()
            if folder != PROCEDURAL
        },
    )


def load_map(file: MapFile, meaning: MapMeaning) -> Field:
    """Read a listed map.

    Returns:
        float32 `[height, width]` in [0, 1]: depth as `physics.add_haze` takes it, light, or the
        opacity of a mask.

    Raises:
        PhotoError: If the file is missing, or has changed since it was listed.
    """
    return read_map(Path(file.location), file.sha256, meaning)


def read_map(path: Path, sha256: str, meaning: MapMeaning) -> Field:
    """Read the map at a path and check its hash; see `load_map`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PhotoError(f"map '{path}' cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PhotoError(f"map '{path}' has changed since it was listed; start again")
    return decode_map(data, meaning)


def decode_map(data: bytes, meaning: MapMeaning) -> Field:
    """Decode the bytes of a map's file.

    Args:
        data: `.npy` of two dimensions, or an image of 8 or 16 bits, of which colours are averaged.
        meaning: Meaning of a value.

    Returns:
        The map, as `load_map` returns it.

    Raises:
        ValueError: If the bytes are no such map; the message can follow the file's name.
    """
    plane = _decode_plane(data)
    if not np.isfinite(plane).all() or plane.min() < 0.0:
        raise ValueError("has values that are negative or not finite")
    if meaning in ("light", "opacity"):
        if plane.max() > 1.0:
            raise ValueError(f"has values up to {plane.max():.4g}; floats must lie in [0, 1]")
        return plane.astype(np.float32)
    if plane.max() == 0.0:
        raise ValueError("is 0 everywhere")
    depth = _depth_of_disparity(plane) if meaning == "disparity" else plane / plane.max()
    return (1.0 - depth if meaning == "nearness" else depth).astype(np.float32)


def _depth_of_disparity(disparity: _Plane) -> _Plane:
    """Return depth up to 1; an unknown disparity becomes that of the nearest known pixel."""
    known = disparity > 0.0
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(int(labels.max()) + 1)
    values[labels[known]] = disparity[known]
    far = np.percentile(disparity[known], _FAR_DISPARITY_PERCENT)
    return np.asarray(np.minimum(far / values[labels], 1.0), dtype=np.float64)


def _decode_plane(data: bytes) -> _Plane:
    values: np.ndarray[Any, Any] | None
    if data[:6] == b"\x93NUMPY":
        values = np.load(io.BytesIO(data), allow_pickle=False)
    else:
        buffer = np.frombuffer(data, dtype=np.uint8)
        values = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if buffer.size else None
        if values is None:
            raise ValueError("is not an image that can be read")
    if values.dtype.kind not in "uif":
        raise ValueError(f"must hold numbers, has type {values.dtype}")
    full = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype.name).max)
    plane = values[..., :3].mean(axis=2, dtype=np.float64) if values.ndim == 3 else values
    if plane.ndim != 2 or plane.size == 0:
        raise ValueError(f"must have two dimensions, has shape {list(values.shape)}")
    return plane.astype(np.float64) / full


def _beside_photos(
    key: str, folder: str, photos: Sequence[Photo], meaning: MapMeaning
) -> dict[str, MapFile]:
    by_stem: dict[str, list[tuple[str, Path]]] = {}
    own = {photo.location for photo in photos}
    for name, path in _files(key, folder):
        if str(path.absolute()) not in own:
            by_stem.setdefault(_stem(name), []).append((name, path))
    found = {photo.name: by_stem.get(_stem(photo.name), []) for photo in photos}
    _refuse(
        (name for name, files in found.items() if not files),
        f"{key}: '{folder}' has no map for {{}} of {len(photos)} photographs: {{}}; a map has its "
        f"photograph's path and stem and ends in one of {' '.join(sorted(MAP_SUFFIXES))}",
    )
    _refuse(
        (name for name, files in found.items() if len(files) > 1),
        f"{key}: '{folder}' has more than one map for {{}} photographs: {{}}; leave one",
    )
    maps = _examine(key, [files[0] for files in found.values()], meaning)
    sizes = {photo.name: (photo.width_px, photo.height_px) for photo in photos}
    _refuse(
        (
            f"{file.name} is {file.width_px} x {file.height_px} px and its photograph "
            f"{sizes[photo][0]} x {sizes[photo][1]} px"
            for photo, file in zip(found, maps, strict=True)
            if (file.width_px, file.height_px) != sizes[photo]
        ),
        f"{key}: {{}} maps in '{folder}' do not have their photographs' size: {{}}",
    )
    return dict(zip(found, maps, strict=True))


def _masks(key: str, folder: str, patch_px: int) -> tuple[MapFile, ...]:
    masks = _examine(key, _files(key, folder), "opacity")
    if not masks:
        raise PhotoError(
            f"{key}: '{folder}' has no masks (files that end in one of "
            f"{' '.join(sorted(MAP_SUFFIXES))})"
        )
    _refuse(
        (
            f"{file.name} is {file.width_px} x {file.height_px} px"
            for file in masks
            if min(file.width_px, file.height_px) < patch_px
        ),
        f"{key}: {{}} masks in '{folder}' are smaller than a patch of {patch_px} px: {{}}",
    )
    return tuple(masks)


def _files(key: str, folder: str) -> list[tuple[str, Path]]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise PhotoError(
            f"{key}: '{folder}' is not a folder; give one that exists, or '{PROCEDURAL}'"
        )
    named = ((path.relative_to(root), path) for path in root.rglob("*"))
    return sorted(
        (name.as_posix(), path)
        for name, path in named
        if path.suffix.lower() in MAP_SUFFIXES and not any(p.startswith(".") for p in name.parts)
    )


def _examine(key: str, files: Sequence[tuple[str, Path]], meaning: MapMeaning) -> list[MapFile]:
    def read(file: tuple[str, Path]) -> MapFile | str:
        name, path = file
        try:
            data = path.read_bytes()
            height_px, width_px = decode_map(data, meaning).shape
        except (OSError, ValueError) as error:
            return f"{name} {error}"
        return MapFile(
            name=name,
            location=str(path.absolute()),
            sha256=hashlib.sha256(data).hexdigest(),
            height_px=height_px,
            width_px=width_px,
        )

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        examined = list(pool.map(read, files))
    _refuse(
        (outcome for outcome in examined if isinstance(outcome, str)),
        f"{key}: {{}} maps cannot be used: {{}}",
    )
    return [outcome for outcome in examined if isinstance(outcome, MapFile)]


def _refuse(problems: Iterable[str], message: str) -> None:
    """Raise PhotoError with the number of problems and the first of them, if there are any."""
    named = list(problems)
    if named:
        more = f" and {len(named) - _NUM_NAMED} more" if len(named) > _NUM_NAMED else ""
        raise PhotoError(message.format(len(named), ", ".join(named[:_NUM_NAMED]) + more))


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()
