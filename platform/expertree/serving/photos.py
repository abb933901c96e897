"""Decode a photograph's file into pixels for the engine, and encode restored pixels again."""

import dataclasses
import time
from collections.abc import Mapping

import numpy as np

from expertree.errors import OptionError
from expertree.images.containers import PhotoFormat
from expertree.images.mixing import mix
from expertree.images.photo_file import LOSSY_FORMATS, Photo, read_photo, why_not, write_photo
from expertree.serving.engine import Pixels, RestoredPixels, Routed, to_tensor
from expertree.serving.http.options import RequestOptions

MEDIA_TYPES: Mapping[PhotoFormat, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
}

FORMATS: Mapping[str, PhotoFormat] = {media: kind for kind, media in MEDIA_TYPES.items()}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedPhoto:
    """A decoded photograph.

    Attributes:
        data: The photograph's file.
        photo: The photograph, with its metadata.
        pixels: Pixels for the engine.
        seconds: Seconds that decoding took.
    """

    data: bytes
    photo: Photo
    pixels: Pixels
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RestoredFile:
    """A restored photograph's file, and how it was restored.

    Attributes:
        data: The file.
        format: Format of the file.
        route: The expert that restored it, if any, and why.
        num_pixels: Pixels of the image.
        num_tiles: Tiles it was restored in; 0 if no expert ran.
        num_retries: Times that memory ran out and the tiles were halved.
        seconds: Seconds by stage.
        layers: What layers with experts of their own chose; see `RestoredPixels`.
    """

    data: bytes
    format: PhotoFormat
    route: Routed
    num_pixels: int
    num_tiles: int
    num_retries: int
    seconds: Mapping[str, float]
    layers: tuple[tuple[float, ...], ...] = ()


def decode(data: bytes, max_pixels: int) -> DecodedPhoto:
    """Read a photograph.

    8-bit sRGB stays uint8, so that the answer is to the bit what `Restorer.restore` gives.

    Raises:
        UnsupportedFormatError: If it is no image that is read here.
        TooLargeError: If it claims more pixels than allowed.
        DamagedImageError: If it cannot be decoded whole.
    """
    begin = time.perf_counter()
    photo = read_photo(data, max_pixels=max_pixels)
    if photo.depth == 8 and photo.is_srgb:
        pixels = photo.colour if photo.colour.shape[2] == 3 else np.repeat(photo.colour, 3, axis=2)
    else:
        pixels = np.ascontiguousarray(photo.tensor().permute(1, 2, 0).numpy())
    return DecodedPhoto(data=data, photo=photo, pixels=pixels, seconds=time.perf_counter() - begin)


def check_quality(kind: PhotoFormat, options: RequestOptions) -> None:
    """Raise OptionError if a quality is asked for of a format that knows none."""
    if options.quality is not None and kind not in LOSSY_FORMATS:
        raise OptionError(f"{kind} is without loss and has no quality; leave it out")


def choose_format(photo: Photo, options: RequestOptions) -> PhotoFormat:
    """Return the format of the answer's file: the first that the caller takes and that can hold it.

    Raises:
        OptionError: If none can hold the photograph, or the one that does knows no quality.
    """
    first = options.format or photo.format
    kinds = (first, *options.other_formats)
    kind = next((one for one in kinds if why_not(photo, one) is None), first)
    check_quality(kind, options)
    reason = why_not(photo, kind)
    if reason is not None and kind != photo.format:
        raise OptionError(f"The image {reason}")
    return kind


def encode(
    decoded: DecodedPhoto, restored: RestoredPixels, options: RequestOptions
) -> RestoredFile:
    """Write a photograph's file with its restored pixels, or a mix of its own and those.

    Where no expert worked on it, it is its own file byte for byte unless another format is wanted.

    Raises:
        OptionError: As `choose_format`, or if it was restored to values that are no numbers.
    """
    begin = time.perf_counter()
    photo = decoded.photo
    kind = choose_format(photo, options)
    if restored.num_tiles == 0 and kind == photo.format:
        return _file(decoded, restored, kind, decoded.data, begin)
    pixels = np.ascontiguousarray(mix(decoded.pixels, restored.pixels, options.wish.strength))
    try:
        data = write_photo(photo, to_tensor(pixels), format=kind, quality=options.quality)
    except ValueError as error:
        raise OptionError(f"The image {error}") from error
    return _file(decoded, restored, kind, data, begin)


def _file(
    decoded: DecodedPhoto, restored: RestoredPixels, kind: PhotoFormat, data: bytes, begin: float
) -> RestoredFile:
    return RestoredFile(
        data=data,
        format=kind,
        route=restored.route,
        num_pixels=decoded.photo.num_pixels,
        num_tiles=restored.num_tiles,
        num_retries=restored.num_retries,
        seconds={
            "decode": decoded.seconds,
            **restored.seconds,
            "encode": time.perf_counter() - begin,
        },
        layers=restored.layers,
    )
