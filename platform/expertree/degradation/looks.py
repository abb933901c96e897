"""Looks of photographs that are no degradation: colours, and JPEG coding of good quality.

People's photographs are also black and white, toned or pale, and most were coded as JPEG once. None
of that is a degradation: it is kept. A share of the training pictures gets such a look, so that
experts do not paint grey pictures and routers do not take a camera's JPEG for a fault.

A look is the same bytes on processors of one kind. Another kind may round the sums behind a grey
differently: colours are then one level apart in one pixel of ten thousand, before any JPEG coding.
"""

import dataclasses
from typing import Literal

import numpy as np

from expertree.degradation.physics import from_u8, to_u8
from expertree.degradation.recipe import SavedAs
from expertree.images.arrays import ImageU8
from expertree.images.io import SUBSAMPLINGS, jpeg_round_trip

Colours = Literal["natural", "pale", "grey", "toned"]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of R, G and B in the luma of BT.601."""

_TONES = np.array(
    [[1.00, 0.89, 0.72], [1.00, 0.95, 0.86], [0.87, 0.95, 1.00], [0.92, 1.00, 0.94]],
    dtype=np.float32,
)
"""Sepia, a warm paper, a blue and a green print: what white becomes."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LooksConfig:
    """Shares of the training pictures that get each look; those of colours sum to at most 1."""

    pale_share: float = 0.15
    """Share of pictures whose saturation is lowered, to anything between none and all of it."""

    grey_share: float = 0.1
    """Share without any colour."""

    toned_share: float = 0.05
    """Share without colour, printed on toned paper: sepia and the like."""

    camera_share: float = 0.15
    """Share that is coded as JPEG before it is degraded: the clean picture has this too."""

    saved_share: float = 0.15
    """Share that is saved as JPEG after it is degraded: the clean picture lacks this. A picture
    whose degradation is JPEG is not saved twice."""

    quality: tuple[int, int] = (75, 98)
    """Least and greatest JPEG quality of cameras and programs; colours at half resolution (4:2:0)
    or at all of it (4:4:4), equally often."""

    def __post_init__(self) -> None:
        """Raise ValueError unless shares and their sum are in [0, 1] and qualities in 1 to 100."""
        for name in ("pale_share", "grey_share", "toned_share", "camera_share", "saved_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if self.pale_share + self.grey_share + self.toned_share > 1.0:
            raise ValueError(
                "pale_share, grey_share and toned_share must add up to at most 1, got "
                f"{self.pale_share} + {self.grey_share} + {self.toned_share}"
            )
        least, most = self.quality
        if not 1 <= least <= most <= 100:
            raise ValueError(f"quality must be two numbers from 1 to 100, got {self.quality}")


NATURAL = LooksConfig(
    pale_share=0.0, grey_share=0.0, toned_share=0.0, camera_share=0.0, saved_share=0.0
)
"""No looks: photographs as they are."""


def draw_look(image_u8: ImageU8, rng: np.random.Generator, config: LooksConfig) -> ImageU8:
    """Draw colours and a camera's JPEG coding, and give them to a clean picture.

    Args:
        image_u8: uint8 `[height, width, 3]`, RGB.
        rng: Source of the draws, whose number depends on the look.
        config: Shares of the looks.

    Returns:
        The picture with its look, which counts as clean.
    """
    share = rng.random()
    if share < config.grey_share:
        image_u8 = desaturate(image_u8, 0.0)
    elif share < config.grey_share + config.toned_share:
        image_u8 = tone(image_u8, _TONES[int(rng.integers(len(_TONES)))], float(rng.random()))
    elif share < config.grey_share + config.toned_share + config.pale_share:
        image_u8 = desaturate(image_u8, float(rng.random()))
    if rng.random() < config.camera_share:
        saved = _draw_saved(rng, config)
        image_u8 = jpeg_round_trip(image_u8, saved.quality, subsampling=saved.subsampling)
    return image_u8


def draw_saved(rng: np.random.Generator, config: LooksConfig) -> SavedAs | None:
    """Draw the JPEG coding in which a degraded picture is saved; None if without loss."""
    return _draw_saved(rng, config) if rng.random() < config.saved_share else None


def desaturate(image_u8: ImageU8, saturation: float) -> ImageU8:
    """Move colours towards the grey of the same luma (BT.601).

    Args:
        image_u8: uint8 `[height, width, 3]`, RGB.
        saturation: 1 keeps the colours, 0 gives three equal channels.
    """
    image = from_u8(image_u8)
    luma = (image @ _LUMA)[..., None]
    return to_u8(luma + np.float32(saturation) * (image - luma))


def tone(
    image_u8: ImageU8, white: np.ndarray[tuple[int], np.dtype[np.float32]], strength: float
) -> ImageU8:
    """Turn a picture grey, and tint it as if printed in one colour.

    Args:
        image_u8: uint8 `[height, width, 3]`, RGB.
        white: What white becomes at full strength, float32 `[3]`.
        strength: Strength of the tint, in [0, 1]; 0 is grey.
    """
    luma = (from_u8(image_u8) @ _LUMA)[..., None]
    return to_u8(luma * (1.0 + np.float32(strength) * (white - 1.0)))


def _draw_saved(rng: np.random.Generator, config: LooksConfig) -> SavedAs:
    least, most = config.quality
    subsampling = SUBSAMPLINGS[int(rng.integers(len(SUBSAMPLINGS)))]
    return SavedAs(quality=int(rng.integers(least, most + 1)), subsampling=subsampling)
