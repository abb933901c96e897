"""Splitting decoded pixels into colour and transparency."""

import numpy as np
from jaxtyping import UInt


def split(
    pixels: UInt[np.ndarray, "..."],
) -> tuple[UInt[np.ndarray, "h w c"], UInt[np.ndarray, "h w"] | None]:
    """Split channels into colour (grey or RGB) and alpha, which an even number has."""
    channels = pixels[..., None] if pixels.ndim == 2 else pixels
    if channels.shape[2] % 2:
        return np.ascontiguousarray(channels), None
    return np.ascontiguousarray(channels[..., :-1]), np.ascontiguousarray(channels[..., -1])


def split_bgr(
    pixels: UInt[np.ndarray, "..."], *, is_grey: bool
) -> tuple[UInt[np.ndarray, "h w c"], UInt[np.ndarray, "h w"] | None]:
    """Split OpenCV's channels into colour (grey or RGB) and alpha."""
    if pixels.ndim == 2:
        return pixels[..., None], None
    num_colours = 1 if pixels.shape[2] == 2 else 3
    colour = pixels[..., num_colours - 1 :: -1]
    if is_grey:
        colour = colour[..., :1]
    alpha = pixels[..., num_colours] if pixels.shape[2] > num_colours else None
    return np.ascontiguousarray(colour), None if alpha is None else np.ascontiguousarray(alpha)


def as_rgba(pixels: UInt[np.ndarray, "h w 2"]) -> UInt[np.ndarray, "h w 4"]:
    """Return grey and alpha as RGB and alpha."""
    return np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)
