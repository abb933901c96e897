"""NAFNet (Chen et al., Simple Baselines for Image Restoration, ECCV 2022), layers by spandrel.

spandrel builds the layers, so that names, shapes and initial values are those of the published
weights. This module joins them: it pads by reflection, works in channels_last, replaces the norm,
whose autograd function is slow, and has a fast form whose blocks are `nafnet_fast.FastBlock`.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.nafnet_fast import ChannelNorm, FastBlock, FastUpsampling
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
        # It takes seconds to load, as it loads every network that it knows.
        from spandrel.architectures.NAFNet import NAFNet as SpandrelNAFNet  # noqa: PLC0415

        super().__init__()
        source: nn.Module = SpandrelNAFNet(
            width=config.width,
            enc_blk_nums=list(config.encoder),
            middle_blk_num=config.middle,
            dec_blk_nums=list(config.decoder),
        )
        self.multiple_px = config.multiple_px
        for name, layer in source.named_children():
            self.add_module(name, _with_own_layers(layer, fast=fast))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore images: float RGB in [0, 1], any size; the result is not clipped."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple_px)
        padded = padded.contiguous(memory_format=torch.channels_last)
        x = self.get_submodule("intro")(padded)
        skips: list[Tensor] = []
        for encoder, down in zip(self._scales("encoders"), self._scales("downs"), strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.get_submodule("middle_blks")(x)
        for decoder, up in zip(self._scales("decoders"), self._scales("ups"), strict=True):
            x = decoder(up(x) + skips.pop())
        restored: Tensor = self.get_submodule("ending")(x) + padded
        return restored[..., :height, :width]

    def _scales(self, name: str) -> list[nn.Module]:
        return list(self.get_submodule(name).children())


def block_of(width: int, *, fast: bool) -> nn.Module:
    """Make one block alone with fresh weights, which begins as the identity."""
    from spandrel.architectures.NAFNet.__arch.NAFNet_arch import NAFBlock  # noqa: PLC0415

    row = _with_own_layers(nn.Sequential(NAFBlock(width)), fast=fast)
    return row.get_submodule("0")


def build(config: NAFNetConfig, fast: bool) -> NAFNet:  # noqa: FBT001 - BackboneSpec.build
    """Make a NAFNet with fresh weights."""
    return NAFNet(config, fast=fast)


def _with_own_layers(layer: nn.Module, *, fast: bool) -> nn.Module:
    from spandrel.architectures.NAFNet.__arch.arch_util import LayerNorm2d  # noqa: PLC0415
    from spandrel.architectures.NAFNet.__arch.NAFNet_arch import NAFBlock  # noqa: PLC0415

    for name, child in layer.named_children():
        if fast and isinstance(child, NAFBlock):
            layer.add_module(name, FastBlock(child))
        elif fast and any(isinstance(part, nn.PixelShuffle) for part in child.children()):
            layer.add_module(name, FastUpsampling(child))
        elif isinstance(child, LayerNorm2d):
            layer.add_module(name, ChannelNorm(child))
        else:
            _with_own_layers(child, fast=fast)
    return layer


SPEC = BackboneSpec(
    config=NAFNetConfig(),
    build=build,
    last=("ending",),
    precisions=("bfloat16",),
)
