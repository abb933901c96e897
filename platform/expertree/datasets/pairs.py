"""A pair of images, a set of pairs, and the protocol under which the set is measured."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import UInt8

from expertree.degradation.recipe import Recipe
from expertree.degradation.synthesis import degrade
from expertree.errors import DatasetError
from expertree.images.arrays import ImageU8
from expertree.images.io import decode_photo_u8

Channels: TypeAlias = Literal["rgb", "y"]

_CutU8: TypeAlias = UInt8[np.ndarray, "cut_height cut_width 3"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """The rules by which a set is measured, so that scores compare with published ones.

    Attributes:
        channels: Channels of PSNR and SSIM: R, G and B, or the luma (BT.601).
        multiple_px: Number of pixels of which the sides are made a multiple first, by a cut around
            the centre.
        border_px: Pixels cut from each side before measuring; the network sees them.
        gt_has_frame: Whether the clean image is larger all around; its centre belongs to the
            degraded one.
    """

    channels: Channels = "rgb"
    multiple_px: int = 1
    border_px: int = 0
    gt_has_frame: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One clean image, and the degraded one: a file, or a recipe that makes it.

    Attributes:
        name: Name, unique in its set.
        gt: The clean image's file.
        lq: The degraded image's file.
        recipe: Recipe of the degraded image, made from the clean one, where there is no file. With
            neither, the pair is a clean image only.
        tasks: The degradations, by their names in `degradation.registry`; empty if unknown.
    """

    name: str
    gt: Path
    lq: Path | None = None
    recipe: Recipe | None = None
    tasks: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A split of a data set: its pairs by name, each read when it is asked for.

    Attributes:
        name: Name in the registry.
        split: Name of the part.
        protocol: Rules by which it is measured.
        pairs: The pairs, sorted by name.
    """

    name: str
    split: str
    protocol: Protocol
    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        """Iterate over the pairs, by name."""
        return iter(self.pairs)


def read_pair(pair: Pair, protocol: Protocol) -> tuple[ImageU8, ImageU8]:
    """Read or make the degraded image of a pair, and read the clean one.

    Args:
        pair: A pair of a data set.
        protocol: The data set's protocol; its `multiple_px` and `gt_has_frame` are applied.

    Returns:
        The degraded and the clean image, of one size, uint8 `[height, width, 3]` RGB.

    Raises:
        DatasetError: If a file cannot be read, the sizes differ, or there is no degraded image.
    """
    gt = _read(pair.gt)
    if pair.lq is not None:
        lq = _read(pair.lq)
        if protocol.gt_has_frame:
            gt = _centre(gt, *lq.shape[:2])
        if lq.shape != gt.shape:
            raise DatasetError(
                f"'{pair.lq}' is {lq.shape[1]} x {lq.shape[0]} px, but its clean image '{pair.gt}' "
                f"{gt.shape[1]} x {gt.shape[0]} px"
            )
        return _to_multiple(lq, protocol.multiple_px), _to_multiple(gt, protocol.multiple_px)
    if pair.recipe is None:
        raise DatasetError(f"'{pair.gt}' has no degraded image; choose a split that has some")
    gt = _to_multiple(gt, protocol.multiple_px)
    return degrade(gt, pair.recipe), gt


def _read(path: Path) -> ImageU8:
    try:
        return decode_photo_u8(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"'{path}' {error}") from error


def _to_multiple(image: ImageU8, multiple_px: int) -> _CutU8:
    height_px, width_px = image.shape[:2]
    if min(height_px, width_px) < multiple_px:
        raise DatasetError(f"an image of {width_px} x {height_px} px is smaller than {multiple_px}")
    return _centre(image, height_px - height_px % multiple_px, width_px - width_px % multiple_px)


def _centre(image: ImageU8, height_px: int, width_px: int) -> _CutU8:
    """Cut the middle of an image; return all of an image that is smaller."""
    top = max(0, (image.shape[0] - height_px) // 2)
    left = max(0, (image.shape[1] - width_px) // 2)
    return np.ascontiguousarray(image[top : top + height_px, left : left + width_px])
