"""What routers read of a picture beside its embedding: thirteen numbers by formulas.

JPEG leaves a grid of 8 x 8 pixels in which most frequencies are zero (Fan and de Queiroz 2003;
ZERO, Nikoukhah et al. 2021), haze lifts the dark channel (He et al. 2009), and night and fading
change saturation, shadows and highlights. An extractor sees some of that too, but a router learns
from some thousand pictures only, and a formula needs none.
"""

import functools
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from expertree.embedding.views import SPREAD, at_least, centre_crop, windows

VERSION = 3
"""Version of the formulas. Raise it when the same picture would give other numbers."""

NAMES = (
    *(f"{what} {band}" for what in ("zeros", "grid") for band in ("low", "middle", "high")),
    "saturation",
    "spread of saturation",
    "chroma",
    "dark channel",
    "darkest",
    "shadows",
    "highlights",
)
"""Names of the measures, in order."""

BLOCK_PX = 8
"""Sides of JPEG's blocks."""

NEAR_ZERO = 0.6
"""Coefficients below it count as zero: three deviations of what rounding to 8 bits leaves."""

_LEAST_PX = 2 * BLOCK_PX - 1
_BANDS = ((1, 3), (4, 6), (7, 9))
"""First and last diagonal (sum of both frequencies) of the bands low, middle and high."""

_LUMA = (0.299, 0.587, 0.114)
_WINDOWS_AT_ONCE = 2
_DARK_PX, _DARK_STEP_PX = 15, 4
_FAINT, _SHADOW, _HIGHLIGHT = 1e-3, 0.02, 0.98


def measure(
    images: Float[Tensor, "b 3 h w"], *, view: str, side_px: int
) -> Float[Tensor, "b measures"]:
    """Measure images in the windows that an extractor with this view looks at.

    Args:
        images: RGB in [0, 1].
        view: A name in `embedding.views.VIEWS`; a view of all of an image is measured in the
            windows of `spread`, at its own scale.
        side_px: Side of the view, or of one window.

    Returns:
        The means over an image's windows, float32 [b, 13].
    """
    if view == "centre_crop":
        cut = centre_crop(images, side_px)[:, None]
    else:
        cut = windows(images, side_px, most=SPREAD)
    chunks = torch.split(cut.flatten(0, 1).float(), _WINDOWS_AT_ONCE)
    found = torch.cat([measure_windows(chunk) for chunk in chunks])
    return found.view(*cut.shape[:2], len(NAMES)).mean(dim=1)


def measure_windows(cut: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n measures"]:
    """Measure windows, each by itself."""
    cut = at_least(cut, max(_LEAST_PX, _DARK_PX))
    return torch.cat([_coding(cut), _colour(cut)], dim=1)


def _coding(cut: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n 6"]:
    """Return the share of zeros in each band on the grid that has most, and what others have less.

    All 64 places of the grid are tried. A picture that was never coded has as many on each.
    """
    weights = torch.tensor(_LUMA, device=cut.device).view(1, 3, 1, 1)
    light = (cut * weights).sum(dim=1, keepdim=True) * 255.0
    # In place: 48 planes for each window leave the processor's cache as often as they are made.
    is_zero = F.conv2d(light, _basis().to(cut.device)).abs_().lt_(NEAR_ZERO)
    shares = F.conv2d(is_zero, _means().to(cut.device)[..., None, None])
    rows, columns = (length // BLOCK_PX * BLOCK_PX for length in shares.shape[-2:])
    blocks = (rows // BLOCK_PX, BLOCK_PX, columns // BLOCK_PX, BLOCK_PX)
    shares = shares[..., :rows, :columns].reshape(*shares.shape[:2], *blocks)
    by_place = shares.mean(dim=(2, 4)).flatten(2)
    best = by_place.sum(dim=1).argmax(dim=1)
    own = by_place.gather(2, best[:, None, None].expand(-1, len(_BANDS), 1))[..., 0]
    others = (by_place.sum(dim=2) - own) / (BLOCK_PX**2 - 1)
    return torch.cat([own, own - others], dim=1)


def _colour(cut: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n 7"]:
    most, least = cut.amax(dim=1), cut.amin(dim=1)
    saturation = ((most - least) / (most + _FAINT)).flatten(1)
    dark = -F.max_pool2d(-least[:, None], _DARK_PX, _DARK_STEP_PX)
    found = [
        saturation.mean(dim=1),
        saturation.std(dim=1, correction=0),
        (most - least).mean(dim=(1, 2)),
        dark.mean(dim=(1, 2, 3)),
        _lowest(least.flatten(1)),
        (least < _SHADOW).float().mean(dim=(1, 2)),
        (most > _HIGHLIGHT).float().mean(dim=(1, 2)),
    ]
    return torch.stack(found, dim=1)


def _lowest(values: Float[Tensor, "n pixels"]) -> Float[Tensor, " n"]:
    """Return the mean of the lowest hundredth."""
    num_lowest = max(values.shape[1] // 100, 1)
    return values.topk(num_lowest, dim=1, largest=False).values.mean(dim=1)


@functools.cache
def _basis() -> Float[Tensor, "patterns 1 8 8"]:
    """Return the patterns of the 8 x 8 cosine transform that lie in a band, orthonormal."""
    places = torch.arange(BLOCK_PX, dtype=torch.float64)
    waves = torch.cos((2 * places + 1) * places[:, None] * (math.pi / (2 * BLOCK_PX)))
    waves *= math.sqrt(2 / BLOCK_PX)
    waves[0] /= math.sqrt(2)
    patterns = torch.einsum("ui,vj->uvij", waves, waves).float()
    return patterns[_members().any(dim=0)][:, None]


@functools.cache
def _means() -> Float[Tensor, "bands patterns"]:
    """Return the weights that make the means over the patterns of each band."""
    members = _members()
    inside = members[:, members.any(dim=0)].float()
    return inside / inside.sum(dim=1, keepdim=True)


def _members() -> Bool[Tensor, "bands 8 8"]:
    """Return which patterns, by row and column of the transform, belong to each band."""
    frequencies = torch.arange(BLOCK_PX)
    diagonals = frequencies[:, None] + frequencies[None, :]
    return torch.stack([(first <= diagonals) & (diagonals <= last) for first, last in _BANDS])
