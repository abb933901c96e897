"""Decoding a photograph's file at the depth and with the channels that it has.

Pillow decodes 8 bits, strictly: a truncated file is an error and not half a picture. It silently
reads 16-bit colour as 8 bits, so OpenCV decodes deeper files.
"""

import dataclasses
import io
from typing import Any

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageCms
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile, get_sampling
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from expertree.errors import DamagedImageError, UnsupportedFormatError
from expertree.images.channels import split, split_bgr
from expertree.images.containers import (
    Header,
    PhotoFormat,
    is_coding,
    join_jpeg,
    join_png,
    jpeg_segments,
    png_chunks,
    webp_chunks,
    without_damaged_extras,
)
from expertree.images.decoder_errors import DECODER_ERRORS
from expertree.images.heic import read_heic
from expertree.images.jpeg_parts import further_parts
from expertree.images.photo_metadata import EXIF_PREFIX, Metadata, read_metadata, upright
from expertree.images.photo_tiff import (
    OTHER_CHANNEL,
    other_channels,
    read_deep_tiff,
    tiff_metadata,
    tiff_orientation,
    upright_tiff,
)

# Not Image.open: that tries every format it knows, and its limit on pixels is one for all threads.
_READERS: dict[PhotoFormat, type[ImageFile]] = {
    "png": PngImageFile,
    "jpeg": JpegImageFile,
    "webp": WebPImageFile,
    "avif": AvifImageFile,
    "bmp": BmpImageFile,
    "tiff": TiffImageFile,
}

_UNKNOWN_MODE = "unknown pixel mode"
"""Pillow's error on a TIFF that is whole, with channels that it does not know together."""

_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
"""Chunks of a PNG that say what its pixels are."""

_BY_APPLICATIONS, _JFIF_BYTES, _ADOBE_BYTES = frozenset({0xE0, 0xEE}), 14, 12
"""Markers of JPEG's segments JFIF and Adobe, and the least bytes of each (as libjpeg wants)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JpegCoding:
    """The coding of a JPEG.

    Attributes:
        tables: Quantisation tables, in zigzag order as Pillow gives them.
        subsampling: Pillow's number of the subsampling; -1 if unknown.
        is_progressive: Whether the scans refine each other.
    """

    tables: tuple[tuple[int, ...], ...]
    subsampling: int
    is_progressive: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decoded:
    """The contents of a file: pixels as stored, and metadata for upright pixels.

    Attributes:
        colour: uint8 or uint16 `[h, w, 1]` (grey) or `[h, w, 3]` (RGB).
        alpha: Transparency at the same depth, `[h, w]`; None if there is none.
        orientation: EXIF's number of the turn that the pixels still need.
        metadata: Metadata for upright pixels.
        jpeg: Coding of the file if it is a JPEG, otherwise None.
        is_lossless: Whether its coding keeps every pixel.
        notes: Notes in words on what could not be kept as it was.
    """

    colour: np.ndarray[Any, np.dtype[Any]]
    alpha: np.ndarray[Any, np.dtype[Any]] | None
    orientation: int
    metadata: Metadata
    jpeg: JpegCoding | None
    is_lossless: bool
    notes: tuple[str, ...]


def decode(data: bytes, header: Header) -> Decoded:
    """Decode a file whose header has been checked.

    Raises:
        UnsupportedFormatError: If its kind of pixels is not supported.
        DamagedImageError: If it cannot be decoded whole.
    """
    if header.format == "heic":
        return _decode_heic(data, header)
    if header.depth not in {1, 2, 4, 8, 16}:
        raise UnsupportedFormatError(
            f"has {header.depth} bits a channel; convert it to 8 or 16 bits"
        )
    if header.format == "png":
        data, damaged = without_damaged_extras(data)
        if damaged:
            decoded = decode(data, header)
            note = f"its {', '.join(damaged)} was damaged and left out"
            return dataclasses.replace(decoded, notes=(*decoded.notes, note))
    if header.depth == 16:
        return _decode_deep(data, header)
    image = _load(data, header)
    metadata, orientation, warnings = _upright_metadata(image, data, header)
    jpeg = None
    if isinstance(image, JpegImageFile):
        tables = tuple(tuple(image.quantization[key]) for key in sorted(image.quantization))
        jpeg = JpegCoding(
            tables=tables,
            subsampling=get_sampling(image),
            is_progressive="progressive" in image.info,
        )
    plain, notes = _plain_mode(image, metadata.icc)
    if image.mode == "CMYK":
        metadata = dataclasses.replace(metadata, icc=None)
    colour, alpha = split(np.asarray(plain))
    return Decoded(
        colour=colour,
        alpha=alpha,
        orientation=orientation,
        metadata=metadata,
        jpeg=jpeg,
        is_lossless=_is_lossless(data, header),
        notes=(*warnings, *notes),
    )


def _decode_heic(data: bytes, header: Header) -> Decoded:
    """Decode a HEIC, whose pixels come upright: the turn is a property of its container alone."""
    picture = read_heic(data, max_pixels=header.width_px * header.height_px)
    metadata, _, notes = upright(picture.metadata, asks_by_xmp=False)
    colour, alpha = split(picture.pixels)
    return Decoded(
        colour=colour,
        alpha=alpha,
        orientation=1,
        metadata=metadata,
        jpeg=None,
        is_lossless=False,
        notes=(*notes, *picture.notes),
    )


def _is_lossless(data: bytes, header: Header) -> bool:
    if header.format != "webp":
        return header.format in {"png", "bmp", "tiff"}
    chunks = webp_chunks(data)
    return b"VP8L" in chunks or chunks.get(b"ANMF", b"")[16:20] == b"VP8L"


def _upright_metadata(
    image: ImageFile, data: bytes, header: Header
) -> tuple[Metadata, int, tuple[str, ...]]:
    """Return what `upright` does; for TIFF and AVIF, from the metadata that Pillow has read."""
    if header.format == "tiff":
        orientation = tiff_orientation(data)
        metadata, notes = tiff_metadata(image, orientation)
        return metadata, orientation, (*other_channels(data), *notes)
    if header.format == "avif":
        exif = image.info.get("exif", b"").removeprefix(EXIF_PREFIX) or None
        icc, xmp = image.info.get("icc_profile"), image.info.get("xmp")
        # How it is turned is a property of the image item, which Pillow tells as EXIF's.
        return upright(Metadata(exif=exif, icc=icc, xmp=xmp), asks_by_xmp=False)
    metadata, orientation, notes = upright(read_metadata(data, header))
    return metadata, orientation, (*notes, *further_parts(data, header))


def _load(data: bytes, header: Header) -> ImageFile:
    """Decode 8 bits with Pillow, whose errors all become DamagedImageError."""
    try:
        # Pillow would turn the pixels of a TIFF, and of no other format.
        data = upright_tiff(data) if header.format == "tiff" else _without_metadata(data, header)
        image = _READERS[header.format](io.BytesIO(data))
        if image.size != (header.width_px, header.height_px):
            raise DamagedImageError(
                f"is damaged: it claims {header.width_px} x {header.height_px} pixels and then "
                f"{image.width} x {image.height}"
            )
        image.load()
    except DECODER_ERRORS as error:
        if str(error) == _UNKNOWN_MODE:
            raise UnsupportedFormatError(
                "has channels of a kind that is not read; convert it to RGB or grey"
            ) from error
        raise DamagedImageError(f"is damaged ({error})") from error
    return image


def _without_metadata(data: bytes, header: Header) -> bytes:
    """Return a PNG or JPEG without metadata, at which decoders fail, and any other file as it is.

    Pillow refuses a text or profile above 1 MB, a resolution that is cut short, broken EXIF;
    OpenCV a chunk above 8 MB.
    """
    if header.format == "png":
        return join_png([chunk for chunk in png_chunks(data) if chunk[0] in _PNG_PIXELS])
    if header.format == "jpeg":
        segments, scan = jpeg_segments(data)
        return join_jpeg([segment for segment in segments if _is_of_pixels(*segment)], data[scan:])
    return data


def _is_of_pixels(marker: int, payload: bytes) -> bool:
    """Return whether a JPEG's segment says how pixels are coded, and is long enough to say it."""
    least = {b"JFIF": _JFIF_BYTES, b"Adob": _ADOBE_BYTES}.get(payload[:4], 0)
    is_cut = marker in _BY_APPLICATIONS and len(payload) < least
    return is_coding(marker, payload) and not is_cut


def _plain_mode(image: ImageFile, icc: bytes | None) -> tuple[PillowImage.Image, tuple[str, ...]]:
    """Return the image as L, LA, RGB or RGBA, and notes on what that changed."""
    mode, has_key = image.mode, "transparency" in image.info
    if mode in {"L", "RGB"} and not has_key:
        return image, ()
    if mode in {"LA", "RGBA"}:
        return image, ()
    if mode == "CMYK":
        return _cmyk_to_srgb(image, icc), ("its CMYK became RGB (sRGB)",)
    if mode == "1":
        return image.convert("L"), ("black and white became grey",)
    wanted = {"L": "LA", "La": "LA", "RGB": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}
    if mode in wanted:
        return image.convert(wanted[mode]), ()
    if mode in {"P", "PA"}:
        is_opaque = mode == "P" and not has_key
        return image.convert("RGB" if is_opaque else "RGBA"), ("its palette became RGB",)
    raise UnsupportedFormatError(f"has pixels of kind {mode}; convert it to RGB of 8 or 16 bits")


def _cmyk_to_srgb(image: ImageFile, icc: bytes | None) -> PillowImage.Image:
    """Convert CMYK to RGB, by the image's own profile if that is valid."""
    if icc is None:
        return image.convert("RGB")
    try:
        converted = ImageCms.profileToProfile(
            image, io.BytesIO(icc), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image.convert("RGB")
    return image.convert("RGB") if converted is None else converted


def _decode_deep(data: bytes, header: Header) -> Decoded:
    """Decode 16 bits with OpenCV, and read the metadata apart from it."""
    if header.format == "png":
        metadata, orientation, notes = upright(read_metadata(data, header))
        alpha_key = _png_alpha_key(data)
    elif header.format == "tiff":
        orientation, alpha_key = tiff_orientation(data), None
        data, metadata, notes = read_deep_tiff(data, orientation)
    else:
        raise UnsupportedFormatError(f"has 16 bits a channel, as {header.format}; give PNG or TIFF")
    coded = _without_metadata(data, header)
    try:
        pixels = cv2.imdecode(np.frombuffer(coded, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DamagedImageError(f"is damaged ({error.err})") from error
    if pixels is None:
        raise DamagedImageError("is damaged: its pixels cannot be decoded")
    if pixels.dtype != np.uint16 or pixels.shape[:2] != (header.height_px, header.width_px):
        raise UnsupportedFormatError(
            f"has pixels of a kind that is not read with 16 bits (they came as {pixels.dtype} "
            f"{list(pixels.shape)}); convert it to RGB or grey"
        )
    colour, alpha = split_bgr(pixels, is_grey=_is_stored_grey(data, header))
    if OTHER_CHANNEL in notes:
        alpha = None
    if alpha_key is not None and alpha is None:
        alpha = np.where((colour == alpha_key).all(axis=-1), 0, 0xFFFF).astype(np.uint16)
    return Decoded(
        colour=colour,
        alpha=alpha,
        orientation=orientation,
        metadata=metadata,
        jpeg=None,
        is_lossless=True,
        notes=notes,
    )


def _is_stored_grey(data: bytes, header: Header) -> bool:
    """Return whether the file has one channel of colour, with or without alpha."""
    if header.format == "png":
        return data[25] in {0, 4}  # the colour type of IHDR: grey, grey with alpha
    return False  # OpenCV keeps the channels of a TIFF


def _png_alpha_key(data: bytes) -> np.ndarray[Any, np.dtype[np.uint16]] | None:
    """Return the one transparent colour of a PNG without alpha (tRNS); None if it has none."""
    for name, payload in png_chunks(data):
        if name == b"tRNS" and len(payload) in {2, 6}:
            return np.frombuffer(bytes(payload), dtype=">u2").astype(np.uint16)
        if name == b"IDAT":
            break
    return None
