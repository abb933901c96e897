"""The small residual network that looks at photographs, without timm, whose import takes seconds.

It computes what timm's `test_resnet` does and names its weights alike: the extractor is trained
with that one, and whoever only looks with it has no need of timm, torchvision and what they load.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

NAME = "test_resnet"
"""Its name in timm."""

NUM_FEATURES = 96
"""Length of what it returns."""

_STEM = (16, 16, 32)


class SmallResNet(nn.Module):
    """A stem of three convolutions and four residual blocks, at 1/4 to 1/32 of the side."""

    def __init__(self) -> None:
        """Build it with fresh weights."""
        super().__init__()
        first, second, third = _STEM
        self.conv1 = nn.Sequential(
            _conv(3, first, 3, stride=2),
            *(nn.BatchNorm2d(first), nn.ReLU()),
            _conv(first, second, 3),
            *(nn.BatchNorm2d(second), nn.ReLU()),
            _conv(second, third, 3),
        )
        self.bn1 = nn.BatchNorm2d(third)
        self.act1 = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(_Block(32, (32, 32), sides=(3, 3), strides=(1, 1)))
        self.layer2 = nn.Sequential(_Block(32, (48, 48), sides=(3, 3), strides=(2, 1)))
        self.layer3 = nn.Sequential(_Block(48, (48, 48, 192), sides=(1, 3, 1), strides=(1, 2, 1)))
        self.layer4 = nn.Sequential(
            _Block(192, (96, NUM_FEATURES), sides=(3, 3), strides=(2, 1)),
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b features"]:
        """Return the features of normalised images, averaged over their pixels."""
        found = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            found = layer(found)
        features: Tensor = found.mean((-2, -1))
        return features


class _Block(nn.Module):
    """Convolutions, each with a normalisation, and around them a shortcut.

    With two it is timm's BasicBlock, with three its Bottleneck.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        *,
        sides: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        self._length = len(channels)
        before = in_channels
        for number, after in enumerate(channels, start=1):
            side, stride = sides[number - 1], strides[number - 1]
            self.add_module(f"conv{number}", _conv(before, after, side, stride=stride))
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
            before = after
        self.act = nn.ReLU()
        self.downsample: nn.Module | None = None
        if max(strides) > 1 or before != in_channels:
            pool = nn.AvgPool2d(2, stride=2, ceil_mode=True, count_include_pad=False)
            self.downsample = nn.Sequential(
                pool, _conv(in_channels, before, 1), nn.BatchNorm2d(before)
            )

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Return what the block makes of its input."""
        shortcut = images if self.downsample is None else self.downsample(images)
        for number in range(1, self._length + 1):
            images = self.get_submodule(f"conv{number}")(images)
            images = self.get_submodule(f"bn{number}")(images)
            if number < self._length:
                images = self.act(images)
        made: Tensor = self.act(images + shortcut)
        return made


def _conv(in_channels: int, out_channels: int, side: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, side, stride, padding=side // 2, bias=False)
