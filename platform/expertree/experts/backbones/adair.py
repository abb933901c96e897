"""AdaIR, written from the paper, with the names of the published weights.

Cui et al., AdaIR: Adaptive All-in-One Image Restoration via Frequency Mining and Modulation, ICLR
2025: a Restormer whose decoder looks at low and high frequencies of the degraded image apart. The
released code also defines layers that it never uses (18,738 parameters): they are left out.
"""

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.restormer import (
    SCALES,
    CrossAttention,
    Restormer,
    RestormerConfig,
)
from expertree.experts.backbones.spec import BackboneSpec

_HEADS = 2
"""The scale whose number of heads the cross-attentions have, on all scales."""

_STEEPNESS = 16.0
"""How fast the soft box falls from one to nought, by the share of the highest frequency."""

_BOX_PX = 128
"""The released box grows by one frequency with each so many pixels of a side."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdaIRConfig(RestormerConfig):
    """An AdaIR's sizes, which are a Restormer's; those of the paper by default.

    Attributes:
        mask: What counts as a low frequency. `soft`: a box with smooth sides at learnt shares of
            the highest frequency, the same for every image size. `box`: the released code's,
            for its weights: the sides are a learnt share of floor(pixels / 128) frequencies, so
            that features below 256 px have no low frequencies at all and the share never learns.
    """

    name: str = dataclasses.field(default="adair", init=False)
    mask: Literal["soft", "box"] = "soft"

    def __post_init__(self) -> None:
        """Raise ValueError unless it is an AdaIR."""
        RestormerConfig.__post_init__(self)
        if 2 * self.width % self.heads[_HEADS]:
            raise ValueError(
                f"adair needs {self.heads[_HEADS]} heads to divide twice its width; got width "
                f"{self.width}"
            )


class SpatialGate(nn.Module):
    """A share for each pixel, by the largest and the mean channel around it."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """Look at a map."""
        both = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        share: Tensor = self.spatial(both).sigmoid()
        return share


class ChannelGate(nn.Module):
    """A share for each channel, by its mean and its largest pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(1, width // 16)
        self.mlp = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(hidden, width, 1, bias=False),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
        """Look at a map."""
        mean, largest = x.mean(dim=(-2, -1), keepdim=True), x.amax(dim=(-2, -1), keepdim=True)
        share: Tensor = (self.mlp(mean) + self.mlp(largest)).sigmoid()
        return share


class Modulation(nn.Module):
    """Joins what belongs to low and to high frequencies, each weighed by the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.SpatialGate = SpatialGate()
        self.ChannelGate = ChannelGate(width)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(
        self, low: Float[Tensor, "b c h w"], high: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Join two maps."""
        joined: Tensor = self.proj(low * self.SpatialGate(high) + high * self.ChannelGate(low))
        return joined


class FrequencyBlock(nn.Module):
    """AFLB: features ask the low and the high frequencies of the image, then both joined.

    It starts as the identity: what it finds counts nothing (`para1`), its input all (`para2`).
    """

    def __init__(self, width: int, heads: int, mask: Literal["soft", "box"]) -> None:
        super().__init__()
        self.split = soft_split if mask == "soft" else box_split
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.para1 = nn.Parameter(torch.zeros(width, 1, 1))
        self.para2 = nn.Parameter(torch.ones(width, 1, 1))
        # The published names are the other way round: `l` asks with high frequencies.
        self.channel_cross_l = CrossAttention(width, heads, kernel=3)
        self.channel_cross_h = CrossAttention(width, heads, kernel=3)
        self.channel_cross_agg = CrossAttention(width, heads, kernel=3)
        self.frequency_refine = Modulation(width)
        hidden = max(1, width // 8)
        self.rate_conv = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(hidden, 2, 1, bias=False),
        )

    def forward(
        self, x: Float[Tensor, "b c h w"], image: Float[Tensor, "b 3 height width"]
    ) -> Float[Tensor, "b c h w"]:
        """Change features by the frequencies of the image that they are of."""
        maps = self.conv1(F.interpolate(image, x.shape[-2:], mode="bilinear"))
        shares = self.rate_conv(maps.mean(dim=(-2, -1), keepdim=True)).sigmoid()
        # Transforms know no bfloat16; a float64 stays one.
        precise = torch.promote_types(maps.dtype, torch.float32)
        low, high = self.split(maps.to(precise), shares[..., 0, 0].to(precise))
        joined = self.frequency_refine(self.channel_cross_h(low, x), self.channel_cross_l(high, x))
        y: Tensor = self.para1 * self.channel_cross_agg(x, joined) + self.para2 * x
        return y


def soft_split(
    x: Float[Tensor, "b c h w"], shares: Float[Tensor, "b 2"]
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Return the low and the high frequencies of maps, which sum up to them.

    Args:
        x: The maps.
        shares: Where a frequency is half low, half high, in [0, 1] of the highest: along columns,
            and along rows.
    """
    h, w = x.shape[-2:]
    rows = torch.fft.fftfreq(h, dtype=x.dtype, device=x.device).abs()
    columns = torch.fft.rfftfreq(w, dtype=x.dtype, device=x.device)
    vertical, horizontal = (
        ((share[:, None] - 2 * frequencies) * _STEEPNESS).sigmoid()
        for share, frequencies in zip(shares.unbind(1), (rows, columns), strict=True)
    )
    mask = (vertical[:, :, None] * horizontal[:, None, :])[:, None]
    low = torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=(h, w))
    return low, x - low


def box_split(
    x: Float[Tensor, "b c h w"], shares: Float[Tensor, "b 2"]
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Return the released code's frequencies of maps: magnitudes inside and outside of a box.

    Args:
        x: The maps.
        shares: Half-sides of the box of frequencies, in [0, 1] of floor(pixels / 128).
    """
    inside = []
    for side, share in zip(x.shape[-2:], shares.unbind(1), strict=True):
        half = (side // _BOX_PX * share).floor()[:, None]
        signed = torch.fft.fftfreq(side, 1 / side, dtype=x.dtype, device=x.device).round()
        inside.append((signed >= -half) & (signed < half))
    mask = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    spectrum = torch.fft.fft2(x)
    return torch.fft.ifft2(spectrum * mask).abs(), torch.fft.ifft2(spectrum * ~mask).abs()


class AdaIR(Restormer):
    """A Restormer with a frequency block behind the latent and behind two scales of the decoder.

    The shares of low frequencies and the gates of channels depend on all that is shown, so that
    a tile of a photograph is restored a little differently than the same pixels in the whole.
    """

    def __init__(self, config: AdaIRConfig) -> None:
        super().__init__(config)
        for scale in range(SCALES, 0, -1):
            width, heads = config.width << scale, config.heads[_HEADS]
            block = FrequencyBlock(width, heads, config.mask)
            self.add_module(f"fre{SCALES + 1 - scale}", block)

    def before_up(
        self,
        x: Float[Tensor, "b c h w"],
        scale: int,
        image: Float[Tensor, "b 3 height width"],
    ) -> Float[Tensor, "b c h w"]:
        """Change the features by the frequencies of the degraded image."""
        y: Tensor = self.get_submodule(f"fre{SCALES + 1 - scale}")(x, image)
        return y


def build(config: AdaIRConfig, fast: bool) -> AdaIR:  # noqa: ARG001, FBT001 - one form
    """Make an AdaIR with fresh weights."""
    return AdaIR(config)


SPEC = BackboneSpec(
    config=AdaIRConfig(),
    build=build,
    last=("output",),
    precisions=("bfloat16",),
    unused=tuple(f"fre{place}.{part}" for place in (1, 2, 3) for part in ("conv.", "score_gen.")),
)
