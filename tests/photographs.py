"""Photographs that tests make, as files, and what becomes of them."""

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image as PillowImage

from expertree.images.photo_file import Photo, read_photo, write_photo


def photo_u8(height_px: int = 24, width_px: int = 36, seed: int = 0) -> np.ndarray:
    """Smooth colours with a little noise: what a lossy coder keeps."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 226, (4, 5, 3), dtype=np.uint8)
    smooth = cv2.resize(small, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)


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
