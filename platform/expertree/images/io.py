"""Converting encoded bytes to pixels, pixels to tensors, and both back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

import cv2
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from expertree.images.arrays import ImageU8

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import Tensor

Subsampling: TypeAlias = Literal["4:2:0", "4:4:4"]
"""Subsampling of a JPEG's colours: a quarter of them is kept (4:2:0), or all (4:4:4)."""

SUBSAMPLINGS: tuple[Subsampling, ...] = get_args(Subsampling)

_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})


def decode_u8(data: bytes) -> ImageU8:
    """Decode an image that we encoded ourselves.

    For a user's file, which may be truncated, use `decode_photo_u8`.

    Args:
        data: PNG, or anything that OpenCV reads.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        ValueError: If the bytes are not an image.
    """
    buffer = np.frombuffer(data, dtype=np.uint8)
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB) if buffer.size else None
    if image is None:
        raise ValueError(f"{len(data)} bytes starting with {data[:8]!r} are not an image")
    return cast("ImageU8", image)


def decode_photo_u8(data: bytes) -> ImageU8:
    """Decode a user's file strictly: a truncated one is an error, not a half-grey picture.

    The EXIF orientation is applied, grey becomes RGB, transparency is dropped.

    Args:
        data: JPEG, PNG, WebP, BMP or TIFF.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        ValueError: If the bytes are no image, are truncated, or hold more than 8 bits a channel;
            the message is a clause that can follow the file's name.
    """
    try:
        with PillowImage.open(io.BytesIO(data)) as opened:
            mode = opened.mode
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError as error:
        raise ValueError("is not an image that can be read") from error
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError) as error:
        raise ValueError(f"is damaged ({error})") from error
    if mode not in _EIGHT_BIT_MODES:
        raise ValueError(f"has pixel format {mode}; convert it to 8 bits a channel")
    return np.array(image.convert("RGB"), dtype=np.uint8)


def encode_png(image_u8: ImageU8, level: int = 1) -> bytes:
    """Encode an image as PNG, without loss.

    Args:
        image_u8: uint8 `[height, width, 3]`, RGB.
        level: zlib's level, 0 (none) to 9. At 1 only runs are matched, which for patches of
            photographs is faster and smaller than zlib's default.

    Raises:
        ValueError: If the image has another shape or type.
    """
    check_image_u8(image_u8)
    bgr = cv2.cvtColor(image_u8, cv2.COLOR_RGB2BGR)
    strategy = cv2.IMWRITE_PNG_STRATEGY_RLE if level <= 1 else cv2.IMWRITE_PNG_STRATEGY_FILTERED
    options = [cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_STRATEGY, strategy]
    done, data = cv2.imencode(".png", bgr, options)
    if not done:
        raise ValueError(f"OpenCV could not encode an image of shape {image_u8.shape}")
    return data.tobytes()


def jpeg_round_trip(
    image_u8: ImageU8, quality: int, *, subsampling: Subsampling = "4:2:0"
) -> ImageU8:
    """Code an image as JPEG and decode it again.

    Args:
        image_u8: uint8 `[height, width, 3]`, RGB.
        quality: libjpeg's quality, 1 to 100.
        subsampling: Subsampling of the colours; `4:2:0` as cameras and the web do, `4:4:4` none.
    """
    check_image_u8(image_u8)
    stream = io.BytesIO()
    PillowImage.fromarray(image_u8).save(
        stream, format="JPEG", quality=quality, subsampling=subsampling
    )
    with PillowImage.open(stream) as coded:
        return np.array(coded.convert("RGB"), dtype=np.uint8)


def to_float(image_u8: ImageU8) -> Float32[Tensor, "3 height width"]:
    """Convert a decoded image to a tensor.

    Args:
        image_u8: uint8 `[height, width, 3]`, RGB.

    Returns:
        float32 `[3, height, width]` in [0, 1], contiguous.
    """
    import torch  # noqa: PLC0415 - seconds to load, and data workers only decode

    check_image_u8(image_u8)
    planes = np.array(image_u8.transpose(2, 0, 1), order="C")  # a copy: torch wants to write
    return torch.from_numpy(planes).float().div_(255.0)


def to_u8(image: Float32[Tensor, "3 height width"]) -> ImageU8:
    """Convert a tensor to an image: clip to [0, 1], scale, round half to even.

    Args:
        image: float `[3, height, width]`, on any device.

    Returns:
        uint8 `[height, width, 3]`, RGB.

    Raises:
        ValueError: If the tensor is not three channels, height and width.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"expected a tensor [3, height, width], got {list(image.shape)}")
    scaled = image.detach().float().clamp(0.0, 1.0).mul(255.0).round()
    pixels: np.ndarray[Any, np.dtype[np.float32]] = scaled.permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels.astype(np.uint8))


def check_image_u8(image_u8: ImageU8) -> None:
    """Raise ValueError unless this is uint8 `[height, width, 3]` with at least one pixel."""
    shape = image_u8.shape
    if image_u8.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(
            f"expected uint8 [height, width, 3], got {image_u8.dtype} {list(shape)}; "
            "decode with decode_u8 or convert with to_u8"
        )
