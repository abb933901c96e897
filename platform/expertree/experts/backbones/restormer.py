"""Restormer, written from the paper, with the parameters of the published weights.

Zamir et al., Restormer: Efficient Transformer for High-Resolution Image Restoration, CVPR 2022.
"""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.padding import pad_to_multiple
from expertree.experts.backbones.spec import BackboneConfig, BackboneSpec, Norm

SCALES = 3
"""Times that the sides are halved; the published names leave no choice."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RestormerConfig(BackboneConfig):
    """A Restormer's sizes; those of the paper by default.

    Attributes:
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down; each scale halves the sides.
        middle: Blocks at the smallest scale.
        decoder: Blocks at each scale on the way up.
        heads: Attention heads at each scale on the way down, the smallest scale's last.
        refinement: Blocks at full resolution after the decoder.
        expansion: Channels inside a feed-forward layer over those of its input.
        norm_bias: Whether layer norms centre their input and add a bias.
    """

    name: str = dataclasses.field(default="restormer", init=False)
    width: int = 48
    encoder: tuple[int, ...] = (4, 6, 6)
    middle: int = 8
    decoder: tuple[int, ...] = (6, 6, 4)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    refinement: int = 4
    expansion: float = 2.66
    norm_bias: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError unless it is a Restormer."""
        if (len(self.encoder), len(self.decoder)) != (SCALES, SCALES):
            raise ValueError(
                f"{self.name} needs {SCALES} encoder and {SCALES} decoder scales; got encoder "
                f"{list(self.encoder)} and decoder {list(self.decoder)}"
            )
        if min(*self.encoder, self.middle, *self.decoder, self.refinement) < 0:
            raise ValueError(f"{self.name} needs no negative count of blocks; got {self}")
        if self.width < 2 or self.width % 2 or int(self.width * self.expansion) < 1:
            raise ValueError(
                f"{self.name} needs an even width and an expansion that leaves channels; got width "
                f"{self.width} and expansion {self.expansion}"
            )
        widths = [self.width << scale for scale in range(SCALES + 1)]
        if len(self.heads) != len(widths) or any(
            heads < 1 or width % heads for heads, width in zip(self.heads, widths, strict=True)
        ):
            raise ValueError(
                f"{self.name} needs {SCALES + 1} numbers of heads that divide its channels "
                f"{widths}; got {list(self.heads)}"
            )

    @property
    def multiple_px(self) -> int:
        """Each scale of the encoder halves the sides."""
        return 1 << SCALES


class Affine(nn.Module):
    """A scale and, if there is one, an offset for each channel."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None


class ChannelNorm(Norm):
    """Layer norm of each pixel over its channels.

    Without a bias the pixel is not centred either: it is divided by its standard deviation.
    """

    EPS = 1e-5

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.body = Affine(width, bias=bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise."""
        weight, bias = self.body.weight, self.body.bias
        x = x.permute(0, 2, 3, 1)
        if bias is not None:
            y = F.layer_norm(x, weight.shape, weight, bias, self.EPS)
        else:
            variance = x.var(dim=-1, correction=0, keepdim=True)
            y = x * (variance + self.EPS).rsqrt() * weight
        return y.permute(0, 3, 1, 2)


class Attention(nn.Module):
    """MDTA: attention between channels, so that its cost is linear in the number of pixels."""

    def __init__(self, width: int, heads: int, *, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=bias)
        self.project_out = nn.Conv2d(width, width, 1, bias=bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Mix the channels of each head by their correlation over the image."""
        b, c, h, w = x.shape
        parts = self.qkv_dwconv(self.qkv(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        query, key, value = parts.unbind(1)
        mixed = mix_channels(query, key, value, self.temperature)
        restored: Tensor = self.project_out(mixed.reshape(b, c, h, w))
        return restored


class CrossAttention(nn.Module):
    """The same with queries from one map, and keys and values from another of its size."""

    def __init__(self, width: int, heads: int, *, kernel: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q = nn.Conv2d(width, width, 1, bias=False)
        self.q_dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.kv = nn.Conv2d(width, 2 * width, 1, bias=False)
        self.kv_dwconv = nn.Conv2d(
            2 * width, 2 * width, kernel, padding=kernel // 2, groups=2 * width, bias=False
        )
        self.project_out = nn.Conv2d(width, width, 1, bias=False)

    def forward(
        self, asks: Float[Tensor, "b c h w"], answers: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Mix the channels of `answers` by how they correlate with those of `asks`."""
        b, c, h, w = asks.shape
        query = self.q_dwconv(self.q(asks)).reshape(b, self.heads, c // self.heads, h * w)
        both = self.kv_dwconv(self.kv(answers)).reshape(b, 2, self.heads, c // self.heads, h * w)
        key, value = both.unbind(1)
        mixed = mix_channels(query, key, value, self.temperature)
        y: Tensor = self.project_out(mixed.reshape(b, c, h, w))
        return y


class FeedForward(nn.Module):
    """GDFN: one half of the channels, through a GELU, gates the other."""

    def __init__(self, width: int, expansion: float, *, bias: bool = False) -> None:
        super().__init__()
        hidden = int(width * expansion)
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Expand, look at the neighbours, gate, contract."""
        gate, value = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        y: Tensor = self.project_out(F.gelu(gate) * value)
        return y


class Block(nn.Module):
    """Attention, then feed-forward, each behind a norm and added to its input."""

    def __init__(self, width: int, heads: int, config: RestormerConfig) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(width, bias=config.norm_bias)
        self.attn = Attention(width, heads)
        self.norm2 = ChannelNorm(width, bias=config.norm_bias)
        self.ffn = FeedForward(width, config.expansion)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply both."""
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.ffn(self.norm2(x))
        return y


class UNet(nn.Module):
    """The way through layers with Restormer's names, which adds what they give to the image.

    Attributes:
        multiple_px: 8.
    """

    multiple_px: int

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore images: float RGB in [0, 1], any size; the result is not clipped."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple_px)
        x = self.get_submodule("patch_embed")(padded)
        skips: list[Tensor] = []
        for scale in range(1, SCALES + 1):
            x = self.get_submodule(f"encoder_level{scale}")(x)
            skips.append(x)
            x = self.get_submodule(f"down{scale}_{scale + 1}")(x)
        x = self.get_submodule("latent")(x)
        for scale in range(SCALES, 0, -1):
            x = self.before_up(x, scale, padded)
            x = self.get_submodule(f"up{scale + 1}_{scale}")(x)
            x = torch.cat([x, skips.pop()], dim=1)
            if scale > 1:
                x = self.get_submodule(f"reduce_chan_level{scale}")(x)
            x = self.get_submodule(f"decoder_level{scale}")(x)
        x = self.get_submodule("refinement")(x)
        restored: Tensor = self.get_submodule("output")(x) + padded
        return restored[..., :height, :width]

    def before_up(
        self,
        x: Float[Tensor, "b c h w"],
        scale: int,  # noqa: ARG002 - what others make of it
        image: Float[Tensor, "b 3 height width"],  # noqa: ARG002
    ) -> Float[Tensor, "b d h w"]:
        """Change the features that go up to a scale: 3 begins with the latent, 1 is the last."""
        return x


class Restormer(UNet):
    """A U-net of channel-attention blocks."""

    def __init__(self, config: RestormerConfig) -> None:
        super().__init__()
        self.multiple_px = config.multiple_px
        widths = [config.width << scale for scale in range(SCALES + 1)]

        def blocks(count: int, scale: int, width: int) -> nn.Sequential:
            return nn.Sequential(*(Block(width, config.heads[scale], config) for _ in range(count)))

        self.patch_embed = named("proj", nn.Conv2d(3, config.width, 3, padding=1, bias=False))
        for scale, count in enumerate(config.encoder):
            self.add_module(f"encoder_level{scale + 1}", blocks(count, scale, widths[scale]))
            self.add_module(f"down{scale + 1}_{scale + 2}", downsampling(widths[scale]))
        self.latent = blocks(config.middle, SCALES, widths[SCALES])
        for scale, count in zip(reversed(range(SCALES)), config.decoder, strict=True):
            # At full resolution the skip is not reduced: the decoder there has twice the channels.
            width = widths[max(scale, 1)]
            self.add_module(f"up{scale + 2}_{scale + 1}", upsampling(widths[scale + 1]))
            if scale > 0:
                reduce = nn.Conv2d(2 * width, width, 1, bias=False)
                self.add_module(f"reduce_chan_level{scale + 1}", reduce)
            self.add_module(f"decoder_level{scale + 1}", blocks(count, scale, width))
        self.refinement = blocks(config.refinement, 0, widths[1])
        self.output = nn.Conv2d(widths[1], 3, 3, padding=1, bias=False)


def build(config: RestormerConfig, fast: bool) -> Restormer:  # noqa: ARG001, FBT001 - one form
    """Make a Restormer with fresh weights."""
    return Restormer(config)


def mix_channels(
    query: Float[Tensor, "b heads c n"],
    key: Float[Tensor, "b heads c n"],
    value: Float[Tensor, "b heads c n"],
    temperature: Float[Tensor, "heads 1 1"],
) -> Float[Tensor, "b heads c n"]:
    """Mix the channels of each head by how the pixels of queries and keys correlate."""
    scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
    return (scores * temperature).softmax(dim=-1) @ value


def named(name: str, layer: nn.Module) -> nn.Sequential:
    """A layer inside a module that gives its parameters one more name."""
    row = nn.Sequential()
    row.add_module(name, layer)
    return row


def downsampling(width: int) -> nn.Sequential:
    """Half the sides, twice the channels."""
    conv = nn.Conv2d(width, width // 2, 3, padding=1, bias=False)
    return named("body", nn.Sequential(conv, nn.PixelUnshuffle(2)))


def upsampling(width: int) -> nn.Sequential:
    """Twice the sides, half the channels."""
    conv = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
    return named("body", nn.Sequential(conv, nn.PixelShuffle(2)))


SPEC = BackboneSpec(
    config=RestormerConfig(),
    build=build,
    last=("output",),
    precisions=("bfloat16",),
)
