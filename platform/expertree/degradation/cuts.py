"""Choosing parts of real maps for a row of the table, and reading them again from its recipe."""

import functools
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32

from expertree.degradation.maps import PROCEDURAL, MapFile, MapFiles, MapsConfig, load_map, read_map
from expertree.degradation.recipe import MapCut, MapMeaning, Recipe
from expertree.degradation.registry import REGISTRY, Maps
from expertree.errors import PhotoError
from expertree.images.arrays import Field

MASK_SCALES = (0.8, 1.25)
"""Range of the side of a mask's part over that of the patch. Flakes and streaks keep about their
size, so that small snow stays small."""

_CACHED_MAPS = 24


class MapCuts:
    """The real maps of one photograph's rows; each file is read once.

    Args:
        files: Maps that the rows may use.
    """

    def __init__(self, files: MapFiles) -> None:
        self.files = files
        self._load = functools.lru_cache(maxsize=_CACHED_MAPS)(load_map)

    def draw(
        self,
        rng: np.random.Generator,
        recipe: Recipe,
        *,
        top_px: int,
        left_px: int,
        side_px: int,
        cut_px: int | None = None,
    ) -> tuple[dict[str, MapCut], Maps]:
        """Choose the maps that a recipe's tasks take, and the part of each.

        Maps of the photograph are cut where the patch was; a mask and a square of it are drawn.

        Args:
            rng: Source of the draws of masks and squares.
            recipe: Recipe of the row, without maps.
            top_px: First row of the patch in its photograph.
            left_px: First column of the patch.
            side_px: Side of the patch.
            cut_px: Side of what the patch was made of in its photograph; None for the patch's.

        Returns:
            The parts by the names of `Maps`, for the recipe, and the maps themselves.
        """
        own_px = side_px if cut_px is None else cut_px
        patch = {"top_px": top_px, "left_px": left_px, "height_px": own_px, "width_px": own_px}
        cuts: dict[str, MapCut] = {}
        fields: dict[str, Field] = {}
        for task in recipe.tasks:
            name = REGISTRY[task].takes
            candidates, meaning = self._candidates(name, recipe)
            if name is None or not candidates:
                continue
            file = candidates[int(rng.integers(len(candidates)))]
            place = _square(rng, file, side_px) if meaning == "opacity" else patch
            cut = MapCut(file=file.name, sha256=file.sha256, meaning=meaning, **place)
            cuts[name] = cut
            fields[name] = cut_map(self._load(file, meaning), cut, side_px, side_px)
        return cuts, Maps(**fields)

    def _candidates(
        self, name: str | None, recipe: Recipe
    ) -> tuple[tuple[MapFile, ...], MapMeaning]:
        if name == "depth":
            return tuple(self.files.depth.values()), self.files.meaning
        if name == "illumination":
            return tuple(self.files.illumination.values()), "light"
        if name == "rain_streaks":
            return self.files.rain, "opacity"
        if name == "snow_mask":
            return self.files.snow.get(str(recipe.parameters["snow"]["size"]), ()), "opacity"
        return (), "opacity"


def maps_of(recipe: Recipe, config: MapsConfig, *, height_px: int, width_px: int) -> Maps:
    """Read the maps that a recipe names, to make its image again.

    Args:
        recipe: Recipe from a row of the patch table.
        config: The folders.
        height_px: Height of the image.
        width_px: Width of the image.

    Raises:
        PhotoError: If a folder is not given, or a file in it is missing or has changed.
    """
    fields = {}
    for name, cut in recipe.maps.items():
        folder = folder_of(name, recipe, config)
        if folder == PROCEDURAL:
            raise PhotoError(
                f"the recipe was made with {name} from '{cut.file}', but photographs.maps has no "
                "folder for it; give the one that the table was made with"
            )
        fields[name] = read_cut(folder, cut, height_px, width_px)
    return Maps(**fields)


def read_cut(folder: str, cut: MapCut, height_px: int, width_px: int) -> Field:
    """Read a map's file and scale a part of it to an image's size.

    Raises:
        PhotoError: If the file is missing or has changed.
    """
    whole = read_map(Path(folder).expanduser() / cut.file, cut.sha256, cut.meaning)
    return cut_map(whole, cut, height_px, width_px)


def cut_map(
    whole: Float32[np.ndarray, "map_height map_width"], cut: MapCut, height_px: int, width_px: int
) -> Field:
    """Cut a part out of a map and scale it linearly to an image's size.

    Raises:
        ValueError: If the part does not lie inside the map.
    """
    bottom, right = cut.top_px + cut.height_px, cut.left_px + cut.width_px
    if min(cut.top_px, cut.left_px) < 0 or bottom > whole.shape[0] or right > whole.shape[1]:
        raise ValueError(f"{cut} does not lie inside a map of {list(whole.shape)}")
    part = whole[cut.top_px : bottom, cut.left_px : right]
    if part.shape == (height_px, width_px):
        return np.ascontiguousarray(part)
    scaled = cv2.resize(
        part.astype(np.float64), (width_px, height_px), interpolation=cv2.INTER_LINEAR
    )
    return np.clip(scaled, 0.0, 1.0).astype(np.float32)


def _square(rng: np.random.Generator, file: MapFile, side_px: int) -> dict[str, int]:
    most_px = min(file.height_px, file.width_px)
    cut_px = min(round(side_px * rng.uniform(*MASK_SCALES)), most_px)
    return {
        "top_px": int(rng.integers(file.height_px - cut_px + 1)),
        "left_px": int(rng.integers(file.width_px - cut_px + 1)),
        "height_px": cut_px,
        "width_px": cut_px,
    }


def folder_of(name: str, recipe: Recipe, config: MapsConfig) -> str:
    """Return the configured folder that has a recipe's map of that name."""
    if name == "snow_mask":
        return str(getattr(config.snow, str(recipe.parameters["snow"]["size"])))
    return {
        "depth": config.depth.folder,
        "illumination": config.illumination,
        "rain_streaks": config.rain,
    }[name]
