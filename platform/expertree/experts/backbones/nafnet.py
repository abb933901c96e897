"""NAFNet (Chen et al., Simple Baselines for Image Restoration, ECCV 2022).

Names, shapes and initial values are those of the published weights. Other than the published
network it pads by reflection and works in channels_last; `nafnet_layers` has its layers, in a form
that is fast on a CPU too.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.nafnet_layers import (
    Block,
    FastBlock,
    FastUpsampling,
    Upsampling,
)
from expertree.experts.backbones.padding import pad_to_multiple
from expertree.experts.backbones.spec import BackboneConfig, BackboneSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NAFNetConfig(BackboneConfig):
    """A NAFNet's sizes.

    Attributes:
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down; each scale halves the sides.
        middle: Blocks at the smallest scale.
        decoder: Blocks at each scale on the way up.
    """

    name: str = dataclasses.field(default="nafnet", init=False)
    width: int = 16
    encoder: tuple[int, ...] = (1, 1, 1)
    middle: int = 1
    decoder: tuple[int, ...] = (1, 1, 1)

    def __post_init__(self) -> None:
        """Raise ValueError unless it is a NAFNet."""
        if len(self.encoder) != len(self.decoder) or not self.encoder:
            raise ValueError(
                f"nafnet needs as many decoder scales as encoder scales, at least one; got encoder "
                f"{list(self.encoder)} and decoder {list(self.decoder)}"
            )
        if self.width < 1 or min(self.middle, *self.encoder, *self.decoder) < 0:
            raise ValueError(
                f"nafnet needs a width of at least 1 and no negative count; got {self}"
            )

    @property
    def multiple_px(self) -> int:
        """Each scale of the encoder halves the sides."""
        return 1 << len(self.encoder)


class NAFNet(nn.Module):
    """A U-net of activation-free blocks that adds its output to its input.

    Attributes:
        multiple_px: 2 to the number of scales.
    """

    def __init__(self, config: NAFNetConfig, *, fast: bool) -> None:
        super().__init__()
        self.multiple_px = config.multiple_px
        width, upsampling = config.width, FastUpsampling if fast else Upsampling
        # The order is that of the published network, which the weights are drawn in.
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.middle_blks = nn.Sequential()
        self.ups, self.downs = nn.ModuleList(), nn.ModuleList()
        for count in config.encoder:
            self.encoders.append(_blocks(count, width, fast=fast))
            self.downs.append(nn.Conv2d(width, 2 * width, 2, 2))
            width *= 2
        self.middle_blks.extend(_blocks(config.middle, width, fast=fast))
        for count in config.decoder:
            self.ups.append(upsampling(width))
            width //= 2
            self.decoders.append(_blocks(count, width, fast=fast))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore images: float RGB in [0, 1], any size; the result is not clipped."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple_px)
        padded = padded.contiguous(memory_format=torch.channels_last)
        x = self.intro(padded)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            x = decoder(up(x) + skips.pop())
        restored: Tensor = self.ending(x) + padded
        return restored[..., :height, :width]


def block_of(width: int, *, fast: bool) -> Block:
    """Make one block alone with fresh weights, which begins as the identity."""
    return FastBlock(width) if fast else Block(width)


def build(config: NAFNetConfig, fast: bool) -> NAFNet:  # noqa: FBT001 - BackboneSpec.build
    """Make a NAFNet with fresh weights."""
    return NAFNet(config, fast=fast)


def _blocks(count: int, width: int, *, fast: bool) -> nn.Sequential:
    return nn.Sequential(*(block_of(width, fast=fast) for _ in range(count)))


SPEC = BackboneSpec(
    config=NAFNetConfig(),
    build=build,
    last=("ending",),
    precisions=("bfloat16",),
    windows=True,
)
