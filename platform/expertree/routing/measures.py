"""What routers read of a picture beside its embedding: seven measures of its colours and light.

Haze lifts the dark channel (He et al. 2009), and night and fading change saturation, shadows and
highlights. An extractor sees that too, but a router learns from some thousand pictures only, and a
formula needs none. The grid that JPEG leaves is left out on purpose: in photographs that were once
coded, its absence gives away that something was done to them (docs/LOG.md).
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from expertree.embedding.views import SPREAD, at_least, centre_crop, windows

VERSION = 2
"""Version of the formulas. Raise it when the same picture would give other numbers."""

NAMES = (
    "saturation",
    "spread of saturation",
    "chroma",
    "dark channel",
    "darkest",
    "shadows",
    "highlights",
)
"""Names of the measures, in order."""

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
        The means over an image's windows, float32 [b, 7].
    """
    if view == "centre_crop":
        cut = centre_crop(images, side_px)[:, None]
    else:
        cut = windows(images, side_px, most=SPREAD)
    found = measure_windows(cut.flatten(0, 1).float())
    return found.view(*cut.shape[:2], len(NAMES)).mean(dim=1)


def measure_windows(cut: Float[Tensor, "n 3 side side"]) -> Float[Tensor, "n measures"]:
    """Measure windows, each by itself."""
    cut = at_least(cut, _DARK_PX)
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
