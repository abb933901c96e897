"""Encoding pixels and metadata as a photograph's file."""

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
from jaxtyping import UInt
from PIL import Image as PillowImage
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from expertree.images.channels import as_rgba
from expertree.images.containers import (
    PhotoFormat,
    join_jpeg,
    join_png,
    jpeg_segments,
    png_chunks,
)
from expertree.images.decoder_errors import DECODER_ERRORS
from expertree.images.heic import encode_heic
from expertree.images.photo_metadata import (
    EXIF_PREFIX,
    ICC_PREFIX,
    METRES_PER_INCH,
    PNG_XMP,
    XMP_PREFIX,
    Metadata,
)
from expertree.images.photo_pixels import JpegCoding
from expertree.images.photo_tiff import PHOTOSHOP, TIFF_STRUCTURE
from expertree.images.photoshop import SIGNATURE

_Pixels: TypeAlias = UInt[np.ndarray, "h w c"]

DEFAULT_QUALITY = 95
"""Quality of lossy formats unless the photograph's own coding was finer: a restored image must not
be degraded again by coding it as coarsely as before."""

MAX_SIDE_PX: Mapping[PhotoFormat, int] = {"jpeg": 65_500, "webp": 16_383, "avif": 65_536}
"""Longest side that a format can hold, where there is such a limit."""

_PNG_LEVEL = 4
_PNG_OPTIONS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 2),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_FILTERED),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG),
]
"""One filter for all rows and few matches: of photographs as many bytes as the usual level 4 with
all filters (1 to 3 % more), in half the time."""

_STRIP_BYTES = 1 << 20
_DEFLATE, _DIFFERENCES, _RGB, _BLACK_IS_ZERO, _UNASSOCIATED = 8, 2, 2, 1, 2
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 34665, 34853, 40965
_ICC_PIECE, _RESOURCES_PIECE = 65_519, 65_533 - len(SIGNATURE)
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_COLOURS = frozenset({b"gAMA", b"cHRM", b"cICP"})
_PLACE_OF_HEADER, _V5_BYTES, _MASKS_END = 14, 124, 56
"""Of a BMP: where its header begins, the length of the newest kind, the end of its masks there."""


def encode(
    kind: PhotoFormat,
    pixels: _Pixels,
    metadata: Metadata,
    *,
    quality: int | None = None,
    jpeg: JpegCoding | None = None,
    is_lossless: bool = True,
) -> bytes:
    """Encode pixels and metadata as a file of one format.

    Args:
        kind: Format of the file.
        pixels: uint8 or, for PNG, TIFF and HEIC, uint16 `[h, w, c]`: grey, grey and alpha, RGB,
            RGB and alpha.
        metadata: Metadata to write, as far as the format can hold it.
        quality: Quality of JPEG, WebP, AVIF and HEIC, 1 to 100; by default `DEFAULT_QUALITY`, or
            as fine as the photograph's.
        jpeg: Coding of the photograph's file if that was a JPEG.
        is_lossless: Whether a WebP without a given quality keeps every pixel.

    Raises:
        ValueError: If the kind of file cannot hold this much metadata, or its encoder fails.
    """
    if kind == "jpeg":
        return _encode_jpeg(pixels, metadata, quality, jpeg)
    if kind == "webp":
        return _encode_webp(pixels, metadata, quality, is_lossless=is_lossless)
    if kind == "avif":
        return _encode_avif(pixels, metadata, quality)
    if kind == "heic":
        return encode_heic(pixels, metadata, quality or DEFAULT_QUALITY)
    encoders = {"png": _encode_png, "tiff": _encode_tiff, "bmp": _encode_bmp}
    return encoders[kind](pixels, metadata)


def left_out(metadata: Metadata, kind: PhotoFormat) -> tuple[str, ...]:
    """Return in words the metadata that a format does not hold, and that are not written to it."""
    names = {name for name, _ in metadata.png_chunks}
    has = {
        "EXIF": kind == "bmp" and metadata.exif is not None,
        "XMP": kind == "bmp" and metadata.xmp is not None,
        "IPTC": kind not in {"jpeg", "tiff"} and bool(metadata.resources),
        "comments or data of applications": kind != "jpeg" and bool(metadata.jpeg_segments),
        "text": kind != "png" and bool(names & _TEXTS),
        "colour values": kind != "png" and metadata.icc is None and bool(names & _COLOURS),
    }
    return tuple(what for what, is_so in has.items() if is_so)


def _encode_png(pixels: _Pixels, metadata: Metadata) -> bytes:
    chunks = png_chunks(_png_of_pixels(pixels))
    extra: list[tuple[bytes, bytes]] = []
    kept = metadata.png_chunks
    if metadata.icc is not None:  # counts before sRGB, which may not stand beside it (PNG 3, 11.3)
        extra.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
        kept = tuple((name, payload) for name, payload in kept if name != b"sRGB")
    if metadata.dpi is not None:
        across, down = (round(side / METRES_PER_INCH) for side in metadata.dpi)
        extra.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    extra += kept
    if metadata.xmp is not None:
        extra.append((b"iTXt", PNG_XMP + b"\0\0\0\0" + metadata.xmp))
    if metadata.exif is not None:
        extra.append((b"eXIf", metadata.exif))
    pixel_chunks = [(n, p) for n, p in chunks[1:] if n in {b"IDAT", b"IEND"}]
    return join_png([chunks[0], *extra, *pixel_chunks])


def _png_of_pixels(pixels: _Pixels) -> bytes:
    """Encode the pixels alone; OpenCV cannot encode grey with alpha."""
    if pixels.shape[2] == 2:
        return _png_of_grey_and_alpha(pixels)
    return _by_opencv(".png", pixels, _PNG_OPTIONS)


def _png_of_grey_and_alpha(pixels: _Pixels) -> bytes:
    height, width, _ = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    unfiltered = np.pad(rows, ((0, 0), (1, 0)))  # each row begins with the number of its filter
    header = struct.pack(">IIBBBBB", width, height, depth, 4, 0, 0, 0)
    data = zlib.compress(unfiltered.tobytes(), _PNG_LEVEL)
    return join_png([(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")])


def _by_opencv(suffix: str, pixels: _Pixels, options: list[int]) -> bytes:
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    channels = pixels.shape[2]
    ordered = pixels if channels == 1 else cv2.cvtColor(pixels, codes[channels])
    try:
        done, data = cv2.imencode(suffix, ordered, options)
    except cv2.error as error:
        raise ValueError(f"cannot be encoded as {suffix[1:]} ({error.err})") from error
    if not done:
        raise ValueError(f"cannot be encoded as {suffix[1:]}: {list(pixels.shape)}")
    return data.tobytes()


def _encode_jpeg(
    pixels: _Pixels, metadata: Metadata, quality: int | None, coding: JpegCoding | None
) -> bytes:
    options: dict[str, Any] = {"quality": quality or DEFAULT_QUALITY, "subsampling": 0}
    if quality is None and coding is not None and _is_finer(coding):
        tables = [list(table) for table in coding.tables]
        options = {"qtables": tables, "subsampling": max(coding.subsampling, 0)}
    if coding is not None:
        options["progressive"] = coding.is_progressive
    if metadata.dpi is not None:
        options["dpi"] = metadata.dpi
    try:
        data = _saved(pixels, "JPEG", **options)
    except ValueError:
        if not options.get("progressive"):
            raise
        # Pillow gives a progressive file 1 or 2 bytes a pixel, which fine grain overflows.
        data = _saved(pixels, "JPEG", **(options | {"progressive": False}))
    segments, scan = jpeg_segments(data)
    head = [segment for segment in segments if segment[0] == 0xE0]
    tail = [segment for segment in segments if segment[0] != 0xE0]
    return join_jpeg([*head, *_jpeg_metadata(metadata), *tail], data[scan:])


def _jpeg_metadata(metadata: Metadata) -> list[tuple[int, bytes]]:
    """Return EXIF first, as the standard wants it, then XMP, the profile in pieces, the rest."""
    segments: list[tuple[int, bytes]] = []
    if metadata.exif is not None:
        segments.append((0xE1, EXIF_PREFIX + metadata.exif))
    if metadata.xmp is not None:
        segments.append((0xE1, XMP_PREFIX + metadata.xmp))
    if metadata.icc is not None:
        pieces = _pieces(metadata.icc, _ICC_PIECE)
        if len(pieces) > 255:
            raise ValueError("carries a colour profile too large for a JPEG; choose png or tiff")
        for number, piece in enumerate(pieces, start=1):
            segments.append((0xE2, ICC_PREFIX + bytes([number, len(pieces)]) + piece))
    resources = _pieces(metadata.resources, _RESOURCES_PIECE)
    return [*segments, *metadata.jpeg_segments, *((0xED, SIGNATURE + one) for one in resources)]


def _pieces(data: bytes, most_bytes: int) -> list[bytes]:
    """Return data in pieces that each fit into a segment."""
    return [data[start : start + most_bytes] for start in range(0, len(data), most_bytes)]


def _is_finer(coding: JpegCoding) -> bool:
    """Return whether a photograph was coded at least as finely as at `DEFAULT_QUALITY`."""
    stream = io.BytesIO()
    PillowImage.new("L", (8, 8)).save(stream, format="JPEG", quality=DEFAULT_QUALITY)
    with PillowImage.open(stream) as ours:
        default = next(iter(cast("Any", ours).quantization.values()))
    return bool(coding.tables) and sum(coding.tables[0]) <= sum(default)


def _encode_webp(
    pixels: _Pixels, metadata: Metadata, quality: int | None, *, is_lossless: bool
) -> bytes:
    return _saved(
        pixels,
        "WEBP",
        lossless=is_lossless and quality is None,
        quality=quality or DEFAULT_QUALITY,
        exact=True,  # colour under full transparency is kept too
        **_pillow_metadata(metadata),
    )


def _encode_avif(pixels: _Pixels, metadata: Metadata, quality: int | None) -> bytes:
    return _saved(
        pixels,
        "AVIF",
        quality=quality or DEFAULT_QUALITY,
        subsampling="4:0:0" if pixels.shape[2] == 1 else "4:4:4",
        **_pillow_metadata(metadata),
    )


def _pillow_metadata(metadata: Metadata) -> dict[str, bytes]:
    return {
        "exif": metadata.exif or b"",
        "icc_profile": metadata.icc or b"",
        "xmp": metadata.xmp or b"",
    }


def _saved(pixels: _Pixels, kind: str, **options: Any) -> bytes:
    """Return the file that Pillow writes; its errors all become ValueError."""
    stream = io.BytesIO()
    try:
        _pillow_image(pixels).save(stream, format=kind, **options)
    except DECODER_ERRORS as error:
        raise ValueError(f"cannot be written as {kind} ({error})") from error
    return stream.getvalue()


def _encode_bmp(pixels: _Pixels, metadata: Metadata) -> bytes:
    if pixels.shape[2] == 2:
        pixels = as_rgba(pixels)
    data = bytearray(_by_opencv(".bmp", pixels, []))
    if metadata.dpi is not None:
        across, down = (round(side / METRES_PER_INCH) for side in metadata.dpi)
        struct.pack_into("<ii", data, 38, across, down)
    return bytes(data) if metadata.icc is None else _bmp_with_profile(bytes(data), metadata.icc)


def _bmp_with_profile(data: bytes, profile: bytes) -> bytes:
    """Return a BMP with a header of version 5, which names the profile that follows its pixels."""
    (size,) = struct.unpack_from("<I", data, _PLACE_OF_HEADER)
    header_end = _PLACE_OF_HEADER + size
    (pixels_at,) = struct.unpack_from("<I", data, 10)
    more = _V5_BYTES - size
    header = data[_PLACE_OF_HEADER : min(header_end, _PLACE_OF_HEADER + _MASKS_END)]
    header = struct.pack("<I", _V5_BYTES) + header[4:].ljust(_MASKS_END - 4, b"\0")
    profile_at = _V5_BYTES + len(data) - header_end
    header += b"DEBM" + bytes(48) + struct.pack("<IIII", 4, profile_at, len(profile), 0)
    whole = len(data) + more + len(profile)
    file_header = data[:2] + struct.pack("<IHHI", whole, 0, 0, pixels_at + more)
    return b"".join([file_header, header, data[header_end:], profile])


def _encode_tiff(pixels: _Pixels, metadata: Metadata) -> bytes:
    """Encode a TIFF of deflated strips of differences, of any depth; Pillow writes its tags."""
    if pixels.shape[2] == 2 and pixels.itemsize > 1:  # few programs read that, nor is it read here
        pixels = as_rgba(pixels)
    height, width, channels = pixels.shape
    num_rows = max(1, _STRIP_BYTES // (width * channels * pixels.dtype.itemsize))
    strips = [_deflated(pixels[start : start + num_rows]) for start in range(0, height, num_rows)]
    sizes = [len(strip) for strip in strips]
    tags = ImageFileDirectory_v2()
    for tag, value in _photograph_tags(metadata).items():
        tags[tag] = value
    colours = 3 if channels >= 3 else 1
    tags[256], tags[257] = width, height
    tags[258] = (8 * pixels.dtype.itemsize,) * channels
    tags[259], tags[262], tags[277] = _DEFLATE, _RGB if colours == 3 else _BLACK_IS_ZERO, channels
    tags[273] = tuple(int(offset) for offset in np.cumsum([0, *sizes[:-1]]))
    tags[278], tags[279], tags[284], tags[317] = num_rows, tuple(sizes), 1, _DIFFERENCES
    if channels > colours:
        tags[338] = (_UNASSOCIATED,)
    if metadata.dpi is not None:
        tags[282], tags[283], tags[296] = *metadata.dpi, 2
    stream = io.BytesIO()
    try:
        tags.save(stream)
    except DECODER_ERRORS as error:
        raise ValueError(f"carries EXIF that cannot be written into a TIFF ({error})") from error
    return b"".join([stream.getvalue(), *strips])


def _deflated(rows: _Pixels) -> bytes:
    """Compress rows as differences from the pixel to the left (TIFF 6.0, section 14)."""
    differences = rows.astype(rows.dtype.newbyteorder("<"))
    differences[:, 1:] -= rows[:, :-1]
    return zlib.compress(differences.tobytes(), 6)


def _photograph_tags(metadata: Metadata) -> dict[int, Any]:
    """Return EXIF, XMP and profile as the tags of a TIFF."""
    tags: dict[int, Any] = {}
    if metadata.exif is not None:
        exif = PillowImage.Exif()
        try:
            exif.load(EXIF_PREFIX + metadata.exif)
            tags = {tag: value for tag, value in exif.items() if tag not in TIFF_STRUCTURE}
            for tag in (_EXIF_IFD, _GPS_IFD):
                if tag in tags:
                    tags[tag] = dict(exif.get_ifd(tag))
            if _INTEROP_IFD in tags.get(_EXIF_IFD, {}):
                tags[_EXIF_IFD][_INTEROP_IFD] = dict(exif.get_ifd(_INTEROP_IFD))
        except DECODER_ERRORS as error:
            message = f"carries EXIF that cannot be written into a TIFF ({error})"
            raise ValueError(message) from error
    others = {700: metadata.xmp, 34675: metadata.icc, PHOTOSHOP: metadata.resources or None}
    return tags | {tag: value for tag, value in others.items() if value is not None}


def _pillow_image(pixels: _Pixels) -> PillowImage.Image:
    return PillowImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
