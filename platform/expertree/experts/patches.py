"""Read paired patches from Parquet files: only those that one expert needs, and little of each.

The samples of a tree node are a list of files. Their ids are read when they are opened, everything
else when it is asked for: other columns whole, images and recipes a row group at a time while there
is room to keep them, and row by row after that.
"""

import functools
from collections.abc import Sequence
from typing import Literal, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import UInt8
from torch import Tensor

from expertree.degradation.fresh import NO_REAL_MAPS, RealMaps
from expertree.errors import ArtefactError
from expertree.experts.conditions import Look
from expertree.experts.patch_cache import SHARED_CACHE, PatchCache, Value
from expertree.experts.row_groups import RowGroups, Rows
from expertree.images.arrays import ImageU8
from expertree.images.io import decode_u8
from expertree.storage import Storage, read_together

Side = Literal["lq", "gt"]
Column: TypeAlias = Literal["lq", "gt", "recipe"]

_NEEDED = ("kind", "tasks", "caption", "recipe", "lq", "gt")


class PairedPatches:
    """Degraded and clean patches of some Parquet files, sorted by id whatever the files' layout.

    Several threads may read at once.

    Attributes:
        ids: The patches' ids, a string array, ascending; an index is a position in it.
        middle_px: Side of the middle that images are cut to; None for whole patches.
        maps: Real maps for degrading the clean patches anew.
        look: Finds in crops what networks are told of them; None tells them nothing.
    """

    def __init__(
        self,
        storage: Storage,
        files: Sequence[str],
        cache: PatchCache = SHARED_CACHE,
        maps: RealMaps = NO_REAL_MAPS,
        middle_px: int | None = None,
        look: Look | None = None,
    ) -> None:
        """Read the ids in the files; see `read_patches`."""
        self.look = look
        self.maps = maps
        self.middle_px = middle_px
        self._groups = RowGroups(storage, files, key="id", needed=_NEEDED)
        keys = self._groups.keys.combine_chunks()
        order = pc.sort_indices(keys)
        self.ids: pa.StringArray = keys.take(order)
        self._rows: Rows = order.to_numpy().astype(np.int64)
        self._index_of: Rows = np.empty_like(self._rows)
        self._index_of[self._rows] = np.arange(len(self._rows))
        self._cache, self._number = cache, cache.add_set(self)
        self._check_ids(len(files))

    def __len__(self) -> int:
        """Return the number of patches."""
        return len(self.ids)

    @property
    def num_bytes_read(self) -> int:
        """Bytes read from storage so far."""
        return self._groups.num_bytes_read

    @functools.cached_property
    def tasks(self) -> list[tuple[str, ...]]:
        """The degradations of each patch."""
        return [tuple(tasks) for tasks in self._column("tasks").to_pylist()]

    @functools.cached_property
    def captions(self) -> list[str]:
        """The degree caption of each patch."""
        found = self._column("caption").combine_chunks().dictionary_encode()
        names: list[str] = found.dictionary.to_pylist()
        return [names[place] for place in found.indices.to_numpy().tolist()]

    def recipes(self, indices: Sequence[int]) -> list[str]:
        """Return recipes (`degradation.recipe.Recipe`) of degraded patches, as JSON, by index."""
        return [value.tobytes().decode() for value in self._values("recipe", indices)]

    def pair(
        self, indices: Sequence[int]
    ) -> tuple[UInt8[Tensor, "b 3 h w"], UInt8[Tensor, "b 3 h w"]]:
        """Return degraded and clean images at some indices, uint8 BCHW in channels_last memory.

        Raises:
            ValueError: If the images differ in size.
            ArtefactError: If a file cannot be read or decoded.
        """
        return self.lq(indices), self.gt(indices)

    def lq(self, indices: Sequence[int]) -> UInt8[Tensor, "b 3 h w"]:
        """Return the degraded images at some indices; read no clean one."""
        return _stack(self.images("lq", indices))

    def gt(self, indices: Sequence[int]) -> UInt8[Tensor, "b 3 h w"]:
        """Return the clean images at some indices; read no degraded one."""
        return _stack(self.images("gt", indices))

    def images(self, side: Side, indices: Sequence[int]) -> list[ImageU8]:
        """Return decoded images, uint8 HWC, shared with the cache: treat them as read-only.

        Raises:
            ArtefactError: If a file cannot be read or decoded.
        """
        found = cast("list[ImageU8]", self._values(side, indices))
        if self.middle_px is None:
            return found
        return [_middle(image, self.middle_px) for image in found]

    def _column(self, name: str) -> pa.ChunkedArray:
        return self._groups.column(name).take(pa.array(self._rows))

    def _values(self, column: Column, indices: Sequence[int]) -> list[Value]:
        """Return some values: cached ones, and others read several row groups at a time."""
        wanted = [(column, int(index)) for index in indices]
        found = self._cache.find(self._number, wanted)
        missing = np.array(sorted({i for _, i in wanted if (column, i) not in found}), np.int64)
        groups = self._groups.groups_of(self._rows[missing])

        def load(group: int) -> dict[tuple[str, int], Value]:
            return self._load(column, group, missing[groups == group])

        for loaded in read_together(load, np.unique(groups).tolist()):
            found.update(loaded)
        return [found[key] for key in wanted]

    def _load(self, column: Column, group: int, wanted: Rows) -> dict[tuple[str, int], Value]:
        """Read and decode values of a row group; while there is room, their neighbours too."""
        has_room = self._cache.has_room(self._number)
        if not has_room:
            values = self._groups.read_rows(group, column, self._rows[wanted])
            if values is not None:
                pairs = zip(wanted.tolist(), values, strict=True)
                return {(column, i): self._decode(value, column, i) for i, value in pairs}
        start, end = self._groups.starts[group : group + 2].tolist()
        keys = [(column, index) for index in self._index_of[start:end].tolist()]
        found = self._cache.find(self._number, keys)
        asked = set(wanted.tolist())
        for key, value in zip(keys, self._groups.read_group(group, column), strict=True):
            if key[1] in asked or (has_room and key not in found):
                found[key] = self._decode(value, *key)
                has_room = self._cache.keep(self._number, key, found[key])
        return found

    def _decode(self, data: bytes, column: Column, index: int) -> Value:
        if column == "recipe":
            return np.frombuffer(data, dtype=np.uint8)
        try:
            return decode_u8(data)
        except ValueError as error:
            raise ArtefactError(f"patch {self.ids[index]}, column {column}: {error}") from error

    def _check_ids(self, num_files: int) -> None:
        twice = pc.equal(self.ids[1:], self.ids[:-1]).to_numpy(zero_copy_only=False)
        repeated = pc.unique(self.ids[1:].filter(pa.array(twice, pa.bool_())))
        if len(repeated):
            raise ArtefactError(
                f"{len(repeated)} ids occur twice in {num_files} files, the first "
                f"'{repeated[0]}'; was a file listed twice?"
            )


def read_patches(
    storage: Storage,
    files: Sequence[str],
    *,
    cache: PatchCache = SHARED_CACHE,
    maps: RealMaps = NO_REAL_MAPS,
    middle_px: int | None = None,
    look: Look | None = None,
) -> PairedPatches:
    """Open the patches of a tree node, or of any list of Parquet files.

    Args:
        storage: Storage that holds the files.
        files: Names within `storage`; exactly these are read.
        cache: Keeps decoded pixels; what does not fit is read again each time.
        maps: Real maps for degrading the clean patches anew.
        middle_px: Side of the middle that images are cut to; whole patches by default.
        look: Finds in crops what networks are told of them.

    Returns:
        The patches, sorted by id.

    Raises:
        ArtefactError: If a file is missing, is not Parquet, lacks a column, or an id repeats.
    """
    return PairedPatches(storage, files, cache, maps, middle_px, look)


def _middle(image: ImageU8, side_px: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """Return the middle of an image; all of a side that is shorter."""
    top, left = (max(0, (side - side_px) // 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side_px, left : left + side_px])


def _stack(images: Sequence[ImageU8]) -> UInt8[Tensor, "b 3 h w"]:
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise ValueError(f"a batch needs images of one size, got {sorted(sizes)}")
    return torch.stack([torch.from_numpy(image) for image in images]).permute(0, 3, 1, 2)
