"""The degradations as formulas: UniRestorer (paper 000), appendix B.2.

Each is a pure function from a float32 RGB image `[height, width, 3]` in [0, 1] to another one.
What the formula needs besides the image (a kernel, a rain layer, a depth map) is an argument, so a
real map and a procedural one (`fields.py`) go through the same code.

Filters and transcendental functions differ in the last bits between processors (AVX-512, AVX2),
in NumPy and in OpenCV. So they are computed in float64 and rounded to float32, which hides that: a
recipe gives the same 8-bit image on every worker.
"""

from typing import Any, TypeAlias, cast

import cv2
import numpy as np

from expertree.images.arrays import Field, Image
from expertree.images.io import jpeg_round_trip

Kernel: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_BORDER = cv2.BORDER_REFLECT_101
_DARKEST_ILLUMINATION = 1e-3

_PATH_STEPS = 256
_PATH_JITTER, _PATH_PULL = 0.25, 0.002
"""Change of a shaking hand's speed at each step, and the pull back to where it began."""


def darken(image: Image, *, illumination: Field, gamma: float) -> Image:
    """Darken an image: X = Y / I * I^gamma (equation I).

    Args:
        image: The image Y.
        illumination: I, `[height, width]` in [0, 1].
        gamma: The darkening coefficient, at least 1; 1 changes nothing.
    """
    lit = np.maximum(illumination, _DARKEST_ILLUMINATION, dtype=np.float64)
    gain = np.power(lit, gamma - 1.0).astype(np.float32)
    return _clip(image * gain[..., None])


def blur(image: Image, *, kernel: Kernel) -> Image:
    """Blur an image with a kernel: X = Y * K (equation D), the border reflected.

    Args:
        image: The image Y.
        kernel: K, odd sides, sum 1.
    """
    blurred = cv2.filter2D(image.astype(np.float64), cv2.CV_64F, kernel, borderType=_BORDER)
    return _clip(blurred)


def blur_isotropic(image: Image, *, size_px: int, std_px: float) -> Image:
    """Blur as `blur` does with an isotropic `gaussian_kernel`, but one axis after the other.

    Args:
        image: The image Y.
        size_px: Side of the kernel, odd.
        std_px: Standard deviation.

    Raises:
        ValueError: If the size is even, or the deviation is not positive.
    """
    kernel = gaussian_kernel(size_px=size_px, std_x_px=std_px, std_y_px=std_px)
    taps = kernel.sum(axis=0)
    blurred = cv2.sepFilter2D(image.astype(np.float64), cv2.CV_64F, taps, taps, borderType=_BORDER)
    return _clip(blurred)


def gaussian_kernel(
    *, size_px: int, std_x_px: float, std_y_px: float, angle_deg: float = 0.0
) -> Kernel:
    """Return a Gaussian blur kernel, isotropic when both deviations are equal.

    Args:
        size_px: Side of the kernel, odd.
        std_x_px: Standard deviation along the first axis.
        std_y_px: Standard deviation along the second axis.
        angle_deg: Direction of the first axis, counter-clockwise from the image's x axis.

    Raises:
        ValueError: If the size is even, or a deviation is not positive.
    """
    if size_px % 2 == 0 or min(std_x_px, std_y_px) <= 0:
        raise ValueError(
            "a Gaussian kernel needs an odd size and positive deviations, got "
            f"size {size_px}, std {std_x_px} and {std_y_px}"
        )
    along, across = _rotated_grid(size_px // 2, angle_deg)
    kernel = np.exp(-0.5 * ((along / std_x_px) ** 2 + (across / std_y_px) ** 2))
    return np.asarray(kernel / kernel.sum(), dtype=np.float64)


def motion_kernel(*, size_px: int, angle_deg: float) -> Kernel:
    """Return a linear motion blur kernel: a line through the centre, one pixel wide, anti-aliased.

    Args:
        size_px: Length of the line and side of the kernel, odd.
        angle_deg: Direction of motion, counter-clockwise from the image's x axis.

    Raises:
        ValueError: If the size is even.
    """
    if size_px % 2 == 0:
        raise ValueError(f"a motion kernel needs an odd size, got {size_px}")
    radius = size_px // 2
    along, across = _rotated_grid(radius, angle_deg)
    line = np.clip(1.0 - np.abs(across), 0.0, 1.0) * np.clip(radius + 1.0 - np.abs(along), 0.0, 1.0)
    return np.asarray(line / line.sum(), dtype=np.float64)


def disk_kernel(*, radius_px: float) -> Kernel:
    """Return the blur kernel of a point out of focus: a disk whose edge is one pixel soft.

    Raises:
        ValueError: If the radius is not positive.
    """
    if radius_px <= 0:
        raise ValueError(f"a disk needs a positive radius, got {radius_px}")
    along, across = _rotated_grid(int(np.ceil(radius_px)), 0.0)
    disk = np.clip(radius_px + 0.5 - np.hypot(along, across), 0.0, 1.0)
    return np.asarray(disk / disk.sum(), dtype=np.float64)


def shake_kernel(*, size_px: int, rng: np.random.Generator) -> Kernel:
    """Return a motion blur kernel along the crooked path of a camera in the hand.

    The path's speed is a random walk that is pulled back to nothing, as in Boracchi and Foi (TIP
    2012), without their impulsive jerks; it is scaled to fill the kernel.

    Args:
        size_px: Side of the kernel, odd.
        rng: Source of the path.

    Raises:
        ValueError: If the size is even.
    """
    if size_px % 2 == 0:
        raise ValueError(f"a motion kernel needs an odd size, got {size_px}")
    speed, place = rng.standard_normal(2), np.zeros(2)
    path = np.empty((_PATH_STEPS, 2))
    for step in range(_PATH_STEPS):
        speed += _PATH_JITTER * rng.standard_normal(2) - _PATH_PULL * place
        place = place + speed / np.linalg.norm(speed)
        path[step] = place
    path -= (path.min(axis=0) + path.max(axis=0)) / 2
    path *= (size_px // 2 - 0.5) / max(float(np.abs(path).max()), 1e-6)
    spots = path + size_px // 2
    kernel = np.zeros((size_px, size_px))
    low = np.floor(spots).astype(int)
    share = spots - low
    for row in (0, 1):
        for column in (0, 1):
            rows = np.where(row, share[:, 0], 1.0 - share[:, 0])
            columns = np.where(column, share[:, 1], 1.0 - share[:, 1])
            places = np.minimum(low + np.array([row, column]), size_px - 1)
            np.add.at(kernel, (places[:, 0], places[:, 1]), rows * columns)
    return np.asarray(kernel / kernel.sum(), dtype=np.float64)


def add_noise(image: Image, *, sigma: float, rng: np.random.Generator) -> Image:
    """Add noise: X = Y + N(0, sigma^2) (equation E), clipped to [0, 1].

    Args:
        image: The image Y.
        sigma: Standard deviation on the scale of 0 to 255.
        rng: Source of the noise; `standard_normal` is drawn once, in the image's shape.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return _clip(image + noise * np.float32(sigma / 255.0))


def add_correlated_noise(
    image: Image, *, sigma: float, correlation_px: float, rng: np.random.Generator
) -> Image:
    """Add noise that is smoothed with a Gaussian, and has the deviation sigma afterwards.

    Args:
        image: The image Y.
        sigma: Standard deviation on the scale of 0 to 255.
        correlation_px: Deviation of the Gaussian.
        rng: Source of the noise; `standard_normal` is drawn once, in the image's shape.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32).astype(np.float64)
    size_px = 2 * int(np.ceil(3 * correlation_px)) + 1
    kernel = gaussian_kernel(size_px=size_px, std_x_px=correlation_px, std_y_px=correlation_px)
    taps = kernel.sum(axis=0)
    smooth = cv2.sepFilter2D(noise, cv2.CV_64F, taps, taps, borderType=_BORDER)
    return _clip(image + smooth * (sigma / 255.0 / float((taps**2).sum())))


def add_rain(image: Image, *, streaks: Field) -> Image:
    """Add rain: X = Y + R (equation F).

    Args:
        image: The image Y.
        streaks: R, `[height, width]` in [0, 1].
    """
    return _clip(image + streaks[..., None])


def add_snow(image: Image, *, mask: Field) -> Image:
    """Add snow: X = Y (1 - M) + M (equation H).

    Args:
        image: The image Y.
        mask: M, `[height, width]` in [0, 1]; 1 is an opaque flake.
    """
    return _clip(image + (1.0 - image) * mask[..., None])


def add_haze(image: Image, *, depth: Field, beta: float, airlight: float) -> Image:
    """Add haze: X = t Y + a (1 - t), t = exp(-beta depth) (equation G).

    Args:
        image: The image Y.
        depth: `[height, width]`, 0 at the camera and 1 at the far end of the scene. (RESIDE's betas
            belong to depths in metres and are not on this scale.)
        beta: Scattering coefficient for that depth.
        airlight: a, the brightness of the haze, in [0, 1].
    """
    transmission = np.exp(-beta * depth.astype(np.float64)).astype(np.float32)[..., None]
    return _clip(image * transmission + np.float32(airlight) * (1.0 - transmission))


def code_jpeg(image: Image, *, quality: int) -> Image:
    """Round an image to 8 bit, code it as JPEG and decode it again.

    Args:
        image: The image Y.
        quality: libjpeg's quality, 1 to 95.
    """
    return from_u8(jpeg_round_trip(to_u8(image), quality))


def code_jpeg_shifted(image: Image, *, quality: int, shift_x_px: int, shift_y_px: int) -> Image:
    """Code an image as JPEG on a grid that does not begin at its corner, and decode it again.

    Args:
        image: The image Y.
        quality: libjpeg's quality, 1 to 95.
        shift_x_px: Columns of the first blocks that lie outside of the image, 0 to 7.
        shift_y_px: Rows of them.
    """
    framed = np.pad(to_u8(image), ((shift_y_px, 0), (shift_x_px, 0), (0, 0)), mode="edge")
    return from_u8(jpeg_round_trip(framed, quality)[shift_y_px:, shift_x_px:])


def from_u8(image_u8: np.ndarray[Any, np.dtype[np.uint8]]) -> Image:
    """Convert 8 bit to float32 in [0, 1]."""
    return image_u8.astype(np.float32) / np.float32(255.0)


def to_u8(image: Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Convert float in [0, 1] to 8 bit: clip, scale, round half to even."""
    return np.asarray(np.rint(np.clip(image, 0.0, 1.0) * np.float32(255.0)), dtype=np.uint8)


def _rotated_grid(radius_px: int, angle_deg: float) -> tuple[Kernel, Kernel]:
    """Return coordinates of a square of pixels around 0, along and across a direction."""
    steps = np.arange(-radius_px, radius_px + 1, dtype=np.float64)
    x, y = steps[None, :], -steps[:, None]
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return cast("Kernel", x * cosine + y * sine), cast("Kernel", y * cosine - x * sine)


def _clip(image: object) -> Image:
    return np.clip(np.asarray(image, dtype=np.float32), 0.0, 1.0)
