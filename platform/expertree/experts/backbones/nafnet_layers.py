"""NAFNet's layers in two forms: as published, and fast, which computes the same on a CPU.

Names, shapes and initial values are those of the published network, drawn in its order. On a CPU
the published block spends most of its time moving activations, not multiplying. In the fast form
the channels are the last dimension, each 1 x 1 convolution is a matrix product, the two halves of
a gate are never joined, and the scales by channel (attention, beta, gamma) are multiplied into
the small weight matrices that follow, not into the activations. The forms differ by rounding only,
forward and backward.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.local_means import weigh_locally, whole_cells
from expertree.experts.backbones.spec import Norm

_EPS = 1e-6


class ChannelNorm(Norm):
    """The published LayerNorm2d, by torch's own kernel: its autograd function is slow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = _EPS

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise each pixel over its channels."""
        return self.of_channels_last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def of_channels_last(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """The same for a tensor whose last dimension is the channels."""
        return F.layer_norm(x, (self.weight.numel(),), self.weight, self.bias, self.eps)


class Block(nn.Module):
    """A block with attention by channel and a feed-forward half; it begins as the identity.

    The gate of both is the product of the two halves of the channels: there is no other activation.

    Attributes:
        window: Side of the windows whose means weigh the channels, in the block's own pixels; None
            for the mean of all pixels.
    """

    window: int | None

    def __init__(self, width: int) -> None:
        super().__init__()
        self.window = None
        wide = 2 * width
        self.conv1 = nn.Conv2d(width, wide, 1)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.conv4 = nn.Conv2d(width, wide, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.norm1 = ChannelNorm(width)
        self.norm2 = ChannelNorm(width)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply both halves of the block."""
        gated = _gate(self.conv2(self.conv1(self.norm1(x))))
        weights = self.sca(gated) if self._sees_all(x) else self._local_weights(gated)
        y = x + self.conv3(gated * weights) * self.beta
        restored: Tensor = y + self.conv5(_gate(self.conv4(self.norm2(y)))) * self.gamma
        return restored

    def _sees_all(self, x: Float[Tensor, "b c h w"]) -> bool:
        """Return whether one window holds all of an image; a trace is of images of any size."""
        if self.window is None:
            return True
        is_traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        return not is_traced and max(x.shape[2:]) <= self.window

    def _local_weights(self, gated: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return weigh_locally(gated, self.sca[1], cast("int", self.window))


def set_window(network: nn.Module, side_px: int | None) -> bool:
    """Have the blocks of a network weigh channels by means over windows, or over all of an image.

    Channels double where sides halve, from the width of the first layer, `intro`, on: so blocks say
    by their width what scale they are on.

    Args:
        network: A network, some of whose layers may be `Block`s.
        side_px: Side of the windows in pixels of the image; None for all of it. Each scale rounds
            it up, to whole cells.

    Returns:
        Whether it has such blocks; another network stays as it is.
    """
    blocks = _blocks(network)
    for block, scale in blocks:
        block.window = None if side_px is None else whole_cells(-(-side_px // scale))
    return bool(blocks)


def window_of(network: nn.Module) -> int | None:
    """Return the side in pixels that `set_window` has set; None for all of an image.

    Where that was no whole number of cells, it is a little larger, and means the same.
    """
    own = [(scale, block.window) for block, scale in _blocks(network) if block.window is not None]
    return min((scale * window for scale, window in own), default=None)


def _blocks(network: nn.Module) -> list[tuple[Block, int]]:
    """Return the blocks of a network, and the pixels of an image along a side of one of theirs."""
    blocks = [layer for layer in network.modules() if isinstance(layer, Block)]
    if not blocks:
        return []
    first = next(own for name, own in network.named_modules() if f".{name}".endswith(".intro"))
    width = first.get_parameter("weight").shape[0]
    return [(own, own.norm1.weight.numel() // width) for own in blocks]


def _gate(x: Float[Tensor, "b wide h w"]) -> Float[Tensor, "b c h w"]:
    left, right = x.chunk(2, dim=1)
    return left * right


class FastBlock(Block):
    """A block in its fast form."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply both halves of the block."""
        attend = self._attention if self._sees_all(x) else self._local_attention
        return self._feed_forward(attend(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def _gated(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
        left, right = (
            F.conv2d(half.permute(0, 3, 1, 2), weight, bias, padding=1, groups=weight.shape[0])
            for half, weight, bias in zip(
                _halves(self.norm1.of_channels_last(x), self.conv1),
                self.conv2.weight.chunk(2),
                _bias(self.conv2).chunk(2),
                strict=True,
            )
        )
        return left * right

    def _attention(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        b, h, w, c = x.shape
        gated = self._gated(x).permute(0, 2, 3, 1).reshape(b, h * w, -1)
        attention = cast("nn.Conv2d", self.sca[1])
        scale = F.linear(gated.mean(dim=1), attention.weight.flatten(1), attention.bias)
        beta = self.beta.flatten()
        weight = self.conv3.weight.flatten(1) * scale.unsqueeze(1) * beta.unsqueeze(1)
        y = x.reshape(b, h * w, c) + _bias(self.conv3) * beta
        return _add_product(y, gated, weight.mT).view(b, h, w, c)

    def _local_attention(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        gated = self._gated(x)
        weighed = (gated * self._local_weights(gated)).permute(0, 2, 3, 1)
        beta = self.beta.flatten()
        weight = self.conv3.weight.flatten(1) * beta.unsqueeze(1)
        return x + F.linear(weighed, weight, _bias(self.conv3) * beta)

    def _feed_forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        c = x.shape[-1]
        left, right = _halves(self.norm2.of_channels_last(x), self.conv4)
        gated = (left * right).reshape(1, -1, left.shape[-1])
        gamma = self.gamma.flatten()
        weight = self.conv5.weight.flatten(1) * gamma.unsqueeze(1)
        y = x.reshape(1, -1, c) + _bias(self.conv5) * gamma
        return _add_product(y, gated, weight.mT.unsqueeze(0)).view(x.shape)


class Upsampling(nn.Sequential):
    """A 1 x 1 convolution and a pixel shuffle, which double the sides and halve the channels."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Conv2d(width, 2 * width, 1, bias=False), nn.PixelShuffle(2))


class FastUpsampling(Upsampling):
    """The same without the general shuffle's slow copy."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 2*h 2*w"]:
        """Double the sides and halve the channels."""
        b, _, h, w = x.shape
        weight = cast("nn.Conv2d", self[0]).weight
        # Channel c of the shuffled image at (dy, dx) is channel 4 c + 2 dy + dx before: ordered as
        # (dy, dx, c) the pixels of the result are whole runs of memory.
        ordered = weight.view(-1, 4, weight.shape[1]).transpose(0, 1).flatten(0, 1)
        y = F.linear(x.permute(0, 2, 3, 1), ordered).view(b, h, w, 2, 2, -1)
        y = y.permute(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, -1)
        return y.permute(0, 3, 1, 2)


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
