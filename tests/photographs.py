"""Photographs that tests make, as files, and what becomes of them."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageCms

from expertree.images.photo_file import Photo, read_photo, write_photo


def photo_u8(height_px: int = 24, width_px: int = 36, seed: int = 0) -> np.ndarray:
    """Smooth colours with a little noise: what a lossy coder keeps."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 226, (4, 5, 3), dtype=np.uint8)
    smooth = cv2.resize(small, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)


def random_u8(height_px: int, width_px: int, seed: int = 0) -> np.ndarray:
    """Noise: no two pixels alike, so that what is out of place is seen."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def photo_u16(height_px: int = 24, width_px: int = 36, channels: int = 3) -> np.ndarray:
    """Every code may occur, black and white do."""
    image = np.random.default_rng(1).integers(0, 65536, (height_px, width_px, channels))
    image[0, 0], image[0, 1] = 0, 65535
    return image.astype(np.uint16)


def encoded(image: PillowImage.Image, fmt: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=fmt, **options)
    return stream.getvalue()


def by_opencv(suffix: str, pixels: np.ndarray) -> bytes:
    """RGB or RGBA, 8 or 16 bits, as OpenCV writes it."""
    swapped = pixels if pixels.shape[2] == 1 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    done, data = cv2.imencode(suffix, np.ascontiguousarray(swapped))
    assert done
    return data.tobytes()


def opened(data: bytes) -> PillowImage.Image:
    image = PillowImage.open(io.BytesIO(data))
    image.load()
    return image


def png_with(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Put chunks behind a PNG's header."""
    parts = [data[:33]]
    for name, payload in chunks:
        body = name + payload
        parts.append(struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body)))
    return b"".join([*parts, data[33:]])


def read(data: bytes) -> Photo:
    return read_photo(data, max_pixels=1_000_000)


def again(data: bytes, **options) -> bytes:
    """What a network that changes nothing makes of a file."""
    photo = read(data)
    return write_photo(photo, photo.tensor(), **options)


def plain(fmt: str, image: PillowImage.Image | None = None, **options) -> bytes:
    image = PillowImage.fromarray(photo_u8()) if image is None else image
    return encoded(image, fmt, **({"lossless": True} if fmt == "webp" else {}), **options)


def matrix_profile(
    *, gamma: float = 2.2, primaries: str = "adobe", space: bytes = b"RGB "
) -> bytes:
    """An ICC profile of a gamma and, for colour, a matrix at D50."""
    columns = {
        "adobe": (
            (0.60974, 0.31111, 0.01947),
            (0.20528, 0.62567, 0.06087),
            (0.14919, 0.06322, 0.74457),
        ),
        "p3": (
            (0.51512, 0.24120, -0.00105),
            (0.29198, 0.69225, 0.04189),
            (0.15710, 0.06657, 0.78407),
        ),
    }[primaries]
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for name, column in zip(b"rgb", columns, strict=True):
            values = struct.pack(">iii", *(round(65536 * value) for value in column))
            tags[bytes([name]) + b"XYZ"] = b"XYZ " + bytes(4) + values
            tags[bytes([name]) + b"TRC"] = curve
    white = struct.pack(">iii", 63190, 65536, 54061)
    tags[b"wtpt"] = b"XYZ " + bytes(4) + white
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, offset + len(body), len(tag))
        body += tag
    header = bytearray(128)
    struct.pack_into(
        ">I4sI4s4s4s", header, 0, offset + len(body), b"", 0x02400000, b"mntr", space, b"XYZ "
    )
    header[36:40] = b"acsp"
    header[68:80] = white
    return bytes(header) + struct.pack(">I", len(tags)) + table + body


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif_block(orientation: int | None = None, *, thumbnail: bool = False) -> bytes:
    """A camera's EXIF, with prefix: maker, time, exposure, place, and a thumbnail if asked for."""
    exif = PillowImage.Exif()
    exif[0x010F] = "A maker"
    if orientation is not None:
        exif[0x0112] = orientation
    exif[0x8769] = {
        0x9003: "2024:05:06 07:08:09",
        0x829A: 0.004,
        0x927C: b"NOTE" + bytes(range(64)),
        0xA002: 36,
        0xA003: 24,
    }
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 12.5)}
    block = exif.tobytes()
    return with_thumbnail(block) if thumbnail else block


def with_thumbnail(block: bytes) -> bytes:
    """Append a second directory with a small JPEG."""
    tiff = bytearray(block[6:])
    order = "<" if tiff[:2] == b"II" else ">"
    small = encoded(PillowImage.new("RGB", (8, 8), "red"), "JPEG")
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    start = len(tiff)
    struct.pack_into(f"{order}I", tiff, first + 2 + 12 * count, start)
    entries = [(0x0103, 3, 6), (0x0201, 4, start + 2 + 36 + 4), (0x0202, 4, len(small))]
    tiff += struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        body = struct.pack(f"{order}HH" if kind == 3 else f"{order}I", *([value, 0][: 5 - kind]))
        tiff += struct.pack(f"{order}HHI", tag, kind, 1) + body
    tiff += struct.pack(f"{order}I", 0) + small
    return block[:6] + bytes(tiff)
