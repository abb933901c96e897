"""A pair of images, a set of pairs, and reading a pair under the set's protocol."""

import contextlib
import dataclasses
import functools
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, UInt8

from expertree.datasets.protocols import Protocol
from expertree.degradation.parameters import number
from expertree.degradation.recipe import Recipe
from expertree.degradation.synthesis import degrade
from expertree.errors import DatasetError
from expertree.images.arrays import Image, ImageU8
from expertree.images.io import decode_photo_u8
from expertree.images.metrics import grey_u8

_CutU8: TypeAlias = UInt8[np.ndarray, "cut_height cut_width 3"]
_CutFloat: TypeAlias = Float32[np.ndarray, "cut_height cut_width 3"]

_ARRAYS_KEPT = 2
"""Arrays of MATLAB files that stay in memory: a set's degraded and its clean one."""

_OF_DAMAGE = (
    *(ArithmeticError, EOFError, LookupError, MemoryError, TypeError, ValueError),
    *(struct.error, zlib.error),
)
"""Errors of scipy and the modules below it where a file is not what its first bytes say."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """The part of a file that is one image.

    Attributes:
        half: Half of a picture that shows two images side by side.
        array: Name of an array in a MATLAB file.
        index: Place of the image in that array.
    """

    half: Literal["left", "right"] | None = None
    array: str = ""
    index: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One clean image, and the degraded one: a file, or a recipe that makes it.

    Attributes:
        name: Name, unique in its set.
        gt: The clean image's file; None where nobody has it.
        lq: The degraded image's file.
        recipe: Recipe of the degraded image, made from the clean one, where there is no file. With
            neither, the pair is a clean image only.
        tasks: The degradations, by their names in `degradation.registry`; empty if unknown.
        scene: What the pair shows, by a name that all pairs of the set with that content share;
            parts of a set that share no scene have nothing in common.
        gt_piece: Part of the clean image's file, where it is not all of it.
        lq_piece: Part of the degraded image's file, likewise.
    """

    name: str
    gt: Path | None
    lq: Path | None = None
    recipe: Recipe | None = None
    tasks: tuple[str, ...] = ()
    scene: str = ""
    gt_piece: Piece | None = None
    lq_piece: Piece | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """A split of a data set: its pairs by name, each read when it is asked for.

    Attributes:
        name: Name in the registry.
        split: Name of the part.
        protocol: Rules by which it is usually measured.
        pairs: The pairs, sorted by name.
        others: Further protocols by which it is measured in publications.
    """

    name: str
    split: str
    protocol: Protocol
    pairs: tuple[Pair, ...]
    others: tuple[Protocol, ...] = ()

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __iter__(self) -> Iterator[Pair]:
        """Iterate over the pairs, by name."""
        return iter(self.pairs)


def read_pair(pair: Pair, protocol: Protocol) -> tuple[_CutU8 | _CutFloat, _CutU8]:
    """Read or make the degraded image of a pair, and read the clean one.

    Args:
        pair: A pair of a data set.
        protocol: The data set's protocol; its cuts, its rounding and its grey are applied.

    Returns:
        The degraded and the clean image, of one size, `[height, width, 3]` RGB, grey in three equal
        channels. uint8; without rounding the degraded one is float32, 1 being white, and noise
        takes it out of [0, 1].

    Raises:
        DatasetError: If a file cannot be read, the sizes differ, or one of the images does not
            exist.
    """
    gt = read_clean(pair)
    if pair.lq is not None:
        lq = read_degraded(pair)
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
    gt = _to_multiple(grey_u8(gt) if protocol.channels == "grey" else gt, protocol.multiple_px)
    return (
        _noisy(gt, pair.recipe) if protocol.rounding == "none" else degrade(gt, pair.recipe)
    ), gt


def read_clean(pair: Pair) -> ImageU8:
    """Read the clean image of a pair, all of it.

    Raises:
        DatasetError: If nobody has it, or it cannot be read.
    """
    if pair.gt is None:
        raise DatasetError(f"'{pair.lq}' has no clean image, so that it cannot be measured")
    return _read(pair.gt, pair.gt_piece)


def read_degraded(pair: Pair) -> ImageU8:
    """Read the degraded image of a pair that has a file of it.

    Raises:
        DatasetError: If it has none, or it cannot be read.
    """
    if pair.lq is None:
        raise DatasetError(f"'{pair.gt}' has no degraded image; choose a split that has some")
    return _read(pair.lq, pair.lq_piece)


def _noisy(gt: ImageU8, recipe: Recipe) -> Image:
    """Add the noise of a recipe, drawn as `degrade` draws it, without clipping or rounding."""
    if recipe.tasks != ("noise",):
        raise ValueError(f"only noise can do without rounding, not {recipe.tasks}")
    rng = np.random.default_rng([recipe.seed, zlib.crc32(b"noise")])
    drawn = rng.standard_normal(gt.shape, dtype=np.float32)
    sigma = np.float32(number(recipe.parameters["noise"], "sigma") / 255.0)
    return gt.astype(np.float32) / np.float32(255.0) + drawn * sigma


def _read(path: Path, piece: Piece | None) -> ImageU8:
    try:
        if piece is not None and piece.array:
            return _block(path, piece)
        image = decode_photo_u8(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"'{path}' {error}") from error
    if piece is None:
        return image
    if image.shape[1] % 2:
        raise DatasetError(f"'{path}' is {image.shape[1]} px wide, which are no two equal halves")
    left, right = np.split(image, 2, axis=1)
    return np.ascontiguousarray(left if piece.half == "left" else right)


def _block(path: Path, piece: Piece) -> ImageU8:
    arrays = array_of(path, piece.array)
    return np.ascontiguousarray(arrays[piece.index])


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays in a MATLAB file, by name; the arrays are not read.

    Raises:
        ValueError: If it is not of version 7.2 or before, or damaged; the message can follow its
            path.
        OSError: If the file cannot be read.
    """
    from scipy.io import whosmat  # noqa: PLC0415 - few sets need it

    with _matlab_errors():
        return {name: tuple(shape) for name, shape, _ in whosmat(path)}


@contextlib.contextmanager
def _matlab_errors() -> Iterator[None]:
    """Turn what scipy raises for other files, empty and damaged ones, into ValueError."""
    from scipy.io.matlab import MatReadError  # noqa: PLC0415 - few sets need it

    try:
        yield
    except NotImplementedError as error:
        raise ValueError(
            "is a MATLAB file of a version that is not read; save its arrays with -v7"
        ) from error
    except (MatReadError, OSError, *_OF_DAMAGE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the file system; scipy's own has no number
        raise ValueError(
            f"is no MATLAB file that can be read ({error or type(error).__name__}); fetch it again"
        ) from error


@functools.lru_cache(maxsize=_ARRAYS_KEPT)
def array_of(path: Path, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read an array of images from a MATLAB file.

    Returns:
        uint8 `[..., height, width, 3]`.

    Raises:
        ValueError: If the file or the array is not as expected; the message can follow its path.
        OSError: If the file cannot be read.
    """
    from scipy.io import loadmat  # noqa: PLC0415 - few sets need it

    with _matlab_errors():
        images = loadmat(path, variable_names=[name]).get(name)
    if images is None or images.dtype != np.uint8 or images.ndim < 4 or images.shape[-1] != 3:
        raise ValueError(f"has no array '{name}' of 8-bit RGB images")
    return np.asarray(images, dtype=np.uint8)


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
