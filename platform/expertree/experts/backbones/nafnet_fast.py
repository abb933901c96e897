"""NAFNet's layers once more, computing the same function with less work in memory.

On a CPU the published block spends most of its time moving activations, not multiplying. Here the
channels are the last dimension, each 1 x 1 convolution is a matrix product, the two halves of
a gate are never joined, and the scales by channel (attention, beta, gamma) are multiplied into
the small weight matrices that follow, not into the activations. Results differ from the published
layers' by rounding only, forward and backward.
"""

from typing import cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.spec import Norm


class ChannelNorm(Norm):
    """spandrel's LayerNorm2d, computed by torch's own kernel, with the same parameters."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.weight = norm.get_parameter("weight")
        self.bias = norm.get_parameter("bias")
        self.eps = cast("float", norm.eps)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise each pixel over its channels."""
        return self.of_channels_last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def of_channels_last(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """The same for a tensor whose last dimension is the channels."""
        return F.layer_norm(x, (self.weight.numel(),), self.weight, self.bias, self.eps)


class FastBlock(nn.Module):
    """spandrel's NAFBlock with the same parameters under the same names."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = _convs(block, "conv1", "conv2", "conv3")
        self.sca = block.get_submodule("sca")
        self.conv4, self.conv5 = _convs(block, "conv4", "conv5")
        self.norm1 = ChannelNorm(block.get_submodule("norm1"))
        self.norm2 = ChannelNorm(block.get_submodule("norm2"))
        self.beta = block.get_parameter("beta")
        self.gamma = block.get_parameter("gamma")

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply both halves of the block, attention by channel and the feed-forward one."""
        return self._feed_forward(self._attention(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def _attention(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        b, h, w, c = x.shape
        left, right = (
            F.conv2d(half.permute(0, 3, 1, 2), weight, bias, padding=1, groups=weight.shape[0])
            for half, weight, bias in zip(
                _halves(self.norm1.of_channels_last(x), self.conv1),
                self.conv2.weight.chunk(2),
                _bias(self.conv2).chunk(2),
                strict=True,
            )
        )
        gated = (left * right).permute(0, 2, 3, 1).reshape(b, h * w, -1)
        (attention,) = _convs(self.sca, "1")
        scale = F.linear(gated.mean(dim=1), attention.weight.flatten(1), attention.bias)
        beta = self.beta.flatten()
        weight = self.conv3.weight.flatten(1) * scale.unsqueeze(1) * beta.unsqueeze(1)
        y = x.reshape(b, h * w, c) + _bias(self.conv3) * beta
        return _add_product(y, gated, weight.mT).view(b, h, w, c)

    def _feed_forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        c = x.shape[-1]
        left, right = _halves(self.norm2.of_channels_last(x), self.conv4)
        gated = (left * right).reshape(1, -1, left.shape[-1])
        gamma = self.gamma.flatten()
        weight = self.conv5.weight.flatten(1) * gamma.unsqueeze(1)
        y = x.reshape(1, -1, c) + _bias(self.conv5) * gamma
        return _add_product(y, gated, weight.mT.unsqueeze(0)).view(x.shape)


class FastUpsampling(nn.Module):
    """spandrel's 1 x 1 convolution and pixel shuffle, without the general shuffle's slow copy."""

    def __init__(self, upsampling: nn.Module) -> None:
        super().__init__()
        self.add_module("0", upsampling.get_submodule("0"))
        self.add_module("1", upsampling.get_submodule("1"))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 2*h 2*w"]:
        """Double the sides and halve the channels."""
        b, _, h, w = x.shape
        (conv,) = _convs(self, "0")
        weight = conv.weight
        # Channel c of the shuffled image at (dy, dx) is channel 4 c + 2 dy + dx before: ordered as
        # (dy, dx, c) the pixels of the result are whole runs of memory.
        ordered = weight.view(-1, 4, weight.shape[1]).transpose(0, 1).flatten(0, 1)
        y = F.linear(x.permute(0, 2, 3, 1), ordered).view(b, h, w, 2, 2, -1)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)
        return y.permute(0, 3, 1, 2)


def _convs(block: nn.Module, *names: str) -> tuple[nn.Conv2d, ...]:
    return tuple(cast("nn.Conv2d", block.get_submodule(name)) for name in names)


def _bias(conv: nn.Conv2d) -> Tensor:
    return cast("Tensor", conv.bias)


def _add_product(
    y: Float[Tensor, "b n c"], left: Float[Tensor, "b n k"], right: Float[Tensor, "b k c"]
) -> Float[Tensor, "b n c"]:
    """Add a product of matrices to `y`, in its memory where the dtypes allow."""
    if left.dtype == y.dtype == right.dtype:
        return y.baddbmm_(left, right)
    return y + left @ right


def _halves(x: Float[Tensor, "b h w c"], conv: nn.Conv2d) -> tuple[Tensor, ...]:
    """The first and the second half of the channels of a 1 x 1 convolution."""
    weights, biases = conv.weight.flatten(1).chunk(2), _bias(conv).chunk(2)
    return tuple(F.linear(x, w, b) for w, b in zip(weights, biases, strict=True))
