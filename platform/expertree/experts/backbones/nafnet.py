"""NAFNet (Chen et al., Simple Baselines for Image Restoration, ECCV 2022), layers by spandrel.

spandrel builds the layers, so that names, shapes and initial values are those of the published
weights. This module joins them: it pads by reflection, works in channels_last, replaces the norm,
whose autograd function is slow, and has a fast form whose blocks are `nafnet_fast.FastBlock`.
"""

import torch
from jaxtyping import Float
from spandrel.architectures.NAFNet import NAFNet as SpandrelNAFNet
from spandrel.architectures.NAFNet.__arch.arch_util import LayerNorm2d
from spandrel.architectures.NAFNet.__arch.NAFNet_arch import NAFBlock
from torch import Tensor, nn

from expertree.experts.backbones.nafnet_fast import ChannelNorm, FastBlock, FastUpsampling
from expertree.experts.backbones.padding import pad_to_multiple
from expertree.experts.backbones.spec import BackboneConfig, BackboneSpec


class NAFNet(nn.Module):
    """A U-net of activation-free blocks that adds its output to its input.

    Attributes:
        multiple_px: 2 to the number of scales.
    """

    def __init__(self, config: BackboneConfig, *, fast: bool) -> None:
        super().__init__()
        source: nn.Module = SpandrelNAFNet(
            width=config.width,
            enc_blk_nums=list(config.encoder),
            middle_blk_num=config.middle,
            dec_blk_nums=list(config.decoder),
        )
        self.multiple_px = multiple_px(config)
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


def check(config: BackboneConfig) -> None:
    """Raise ValueError unless the layout is a NAFNet."""
    if len(config.encoder) != len(config.decoder) or not config.encoder:
        raise ValueError(
            f"nafnet needs as many decoder scales as encoder scales, at least one; got encoder "
            f"{list(config.encoder)} and decoder {list(config.decoder)}"
        )
    numbers = (
        config.width,
        1 + config.middle,
        *(1 + n for n in (*config.encoder, *config.decoder)),
    )
    if min(numbers) < 1:
        raise ValueError(f"nafnet needs a width of at least 1 and no negative count; got {config}")


def build(config: BackboneConfig, fast: bool) -> NAFNet:  # noqa: FBT001 - BackboneSpec.build
    """Make a NAFNet with fresh weights."""
    return NAFNet(config, fast=fast)


def multiple_px(config: BackboneConfig) -> int:
    """The multiple of the sides: each scale of the encoder halves them."""
    return 1 << len(config.encoder)


def _with_own_layers(layer: nn.Module, *, fast: bool) -> nn.Module:
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


SPEC = BackboneSpec(build=build, check=check, multiple_px=multiple_px, precisions=("bfloat16",))
