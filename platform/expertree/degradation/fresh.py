"""Degrading a patch again: the same kind and parameters, but other noise, streaks and flakes."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Self

import numpy as np

from expertree.degradation.cuts import MapCuts, folder_of, read_cut
from expertree.degradation.maps import NO_MAPS, MapFiles, MapsConfig
from expertree.degradation.recipe import MapCut, Recipe
from expertree.degradation.registry import Maps
from expertree.degradation.synthesis import degrade
from expertree.images.arrays import Field, ImageU8

_MAPS = 1
"""Part of a seed that keeps the generator of masks apart from all others."""

_CACHED_CUTS = 1024


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RealMaps:
    """The real maps that are used when patches are degraded again.

    Attributes:
        folders: Folders in which the maps that a recipe names are found.
        masks: Masks that rain and snow are drawn from; without any, a recipe keeps its own.
    """

    folders: MapsConfig = MapsConfig()
    masks: MapFiles = NO_MAPS

    @classmethod
    def of(cls, folders: MapsConfig, found: MapFiles) -> Self:
        """Make it from what `list_maps` found; it takes a few kilobytes if masks are few."""
        return cls(folders=folders, masks=dataclasses.replace(found, depth={}, illumination={}))


NO_REAL_MAPS = RealMaps()
"""No real maps: all are procedural."""


class FreshDegradation:
    """A function that degrades clean patches of a table again, with other random parts each time.

    The photograph's own depth and light stay the same. Masks of rain and snow are drawn anew, like
    everything that is random in the formulas.
    """

    def __init__(self, maps: RealMaps) -> None:
        """Take the maps that the table was made with."""
        self._folders = maps.folders
        self._masks = MapCuts(maps.masks)
        self._read_cut = functools.lru_cache(maxsize=_CACHED_CUTS)(read_cut)

    def __call__(self, clean_u8: ImageU8, recipe: Recipe, seed: int) -> ImageU8:
        """Degrade a clean patch.

        Args:
            clean_u8: The whole clean patch, uint8 `[height, width, 3]`, as its recipe's maps have
                its size.
            recipe: Recipe in the patch's row.
            seed: Seed of everything random, at least 0 and below 2^63, in place of the recipe's.

        Returns:
            The degraded patch; the same arguments give the same bits.
        """
        fresh = dataclasses.replace(recipe, seed=seed)
        if not recipe.maps:
            return degrade(clean_u8, fresh)
        height_px, width_px = clean_u8.shape[:2]
        rng = np.random.default_rng([seed, _MAPS])
        cuts, drawn = self._masks.draw(
            rng, fresh, top_px=0, left_px=0, side_px=min(height_px, width_px)
        )
        kept = {name: cut for name, cut in recipe.maps.items() if name not in cuts}
        fields = self._read(recipe, kept, height_px, width_px)
        fields |= {name: getattr(drawn, name) for name in cuts}
        return degrade(clean_u8, dataclasses.replace(fresh, maps=kept | cuts), Maps(**fields))

    def _read(
        self, recipe: Recipe, cuts: Mapping[str, MapCut], height_px: int, width_px: int
    ) -> dict[str, Field]:
        return {
            name: self._read_cut(folder_of(name, recipe, self._folders), cut, height_px, width_px)
            for name, cut in cuts.items()
        }
