"""AirNet, written from the paper, with the names of the published weights.

Li et al., All-In-One Image Restoration for Unknown Corruption, CVPR 2022: a row of blocks whose
convolutions bend and scale with a map of the degradation. The map is the first stage of an encoder
that learns, by contrast (`airnet_encoder.py`), to tell degradations apart. The restored image is
all the network's own: it is not added to the input, so that there is no start at the identity.

Of 8,930,313 parameters in the released code, 1,319,936 are a slow copy of the encoder. The copy
and the queue of its keys are needed in training alone: checkpoints have them, stored experts do
not, and published files' are passed over.
"""

import dataclasses
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.airnet_encoder import SLOPE, Contrast
from expertree.experts.backbones.restormer import named
from expertree.experts.backbones.spec import BackboneConfig, BackboneSpec, Phase, PixelLoss
from expertree.experts.batches import Batch
from expertree.experts.losses import steepness

_TAPS = 9
"""Places that a kernel of 3 x 3 looks at."""

_FIRST_PHASE = 0.1
"""Share of the samples on which the encoder learns alone: the paper's 100 of 1,000 epochs."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AirNetConfig(BackboneConfig):
    """An AirNet's sizes, and those of its contrastive loss; those of the paper by default.

    Attributes:
        width: Channels of the restorer and of the encoder's first stage.
        groups: Groups of blocks.
        blocks: Blocks in a group.
        embedding: Length of the vector by which degradations are told apart.
        queue: Vectors of earlier crops that a crop is told from; the paper's is 256 times its batch
            of 5.
        contrast: Weight of the contrastive loss beside the recipe's.
    """

    name: str = dataclasses.field(default="airnet", init=False)
    width: int = 64
    groups: int = 5
    blocks: int = 5
    embedding: int = 256
    queue: int = 1280
    contrast: float = 0.1

    def __post_init__(self) -> None:
        """Raise ValueError unless it is an AirNet."""
        for name in ("width", "groups", "blocks", "embedding", "queue"):
            if getattr(self, name) < 1:
                raise ValueError(f"airnet needs {name} of at least 1; got {getattr(self, name)}")
        if self.contrast < 0:
            raise ValueError(f"airnet needs no negative weight of contrast; got {self.contrast}")

    @property
    def multiple_px(self) -> int:
        """Any size as it is."""
        return 1


class DeformableConvolution(nn.Module):
    """A convolution whose nine taps are moved and weighed at each pixel, as the features ask.

    It starts as a plain one of half the strength.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        bound = (_TAPS * width) ** -0.5
        self.weight = nn.Parameter(torch.empty(width, width, 3, 3).uniform_(-bound, bound))
        self.conv_offset_mask = nn.Conv2d(2 * width, 3 * _TAPS, 3, padding=1)
        nn.init.zeros_(self.conv_offset_mask.weight)
        if self.conv_offset_mask.bias is not None:
            nn.init.zeros_(self.conv_offset_mask.bias)

    def forward(
        self, x: Float[Tensor, "b c h w"], degradation: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Look at each pixel's surroundings."""
        asked = self.conv_offset_mask(torch.cat([x, degradation], dim=1))
        offsets, shares = asked[:, : 2 * _TAPS], asked[:, 2 * _TAPS :].sigmoid()
        taps = sample_taps(x, offsets) * shares[:, None]
        return torch.einsum("bcthw,oct->bohw", taps, self.weight.flatten(2))


def sample_taps(
    x: Float[Tensor, "b c h w"], offsets: Float[Tensor, "b 18 h w"]
) -> Float[Tensor, "b c 9 h w"]:
    """Return what lies around each pixel, at its nine neighbours moved by offsets.

    Places between pixels are interpolated, those outside are zero. All nine are taken in one
    call, below each other: on a CPU a seventh of the time of torchvision's operator.

    Args:
        x: Maps; bfloat16 is sampled as float32.
        offsets: In pixels, rows before columns, for each neighbour in reading order.
    """
    b, c, h, w = x.shape
    precise = torch.promote_types(x.dtype, torch.float32)
    moved = offsets.to(precise).view(b, _TAPS, 2, h, w)
    around = torch.arange(-1, 2, dtype=precise, device=x.device)
    rows = torch.arange(h, dtype=precise, device=x.device)[:, None]
    columns = torch.arange(w, dtype=precise, device=x.device)
    rows = moved[:, :, 0] + around.repeat_interleave(3)[:, None, None] + rows
    columns = moved[:, :, 1] + around.repeat(3)[:, None, None] + columns
    grid = torch.stack([(2 * columns + 1) / w - 1, (2 * rows + 1) / h - 1], dim=-1)
    taps = F.grid_sample(x.to(precise), grid.view(b, _TAPS * h, w, 2), align_corners=False)
    return taps.view(b, c, _TAPS, h, w)


class Scaling(nn.Module):
    """A factor and an offset for each channel and pixel, from the map of the degradation."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def pointwise() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(width, width, 1, bias=False),
                nn.LeakyReLU(SLOPE),
                nn.Conv2d(width, width, 1, bias=False),
            )

        self.conv_gamma, self.conv_beta = pointwise(), pointwise()

    def forward(
        self, x: Float[Tensor, "b c h w"], degradation: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Scale and shift."""
        y: Tensor = x * self.conv_gamma(degradation) + self.conv_beta(degradation)
        return y


class Guided(nn.Module):
    """DGM: adds to features their deformable convolution and their scaling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dcn = DeformableConvolution(width)
        self.sft = Scaling(width)

    def forward(
        self, x: Float[Tensor, "b c h w"], degradation: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Apply both."""
        y: Tensor = x + self.dcn(x, degradation) + self.sft(x, degradation)
        return y


class Block(nn.Module):
    """DGB: guided layers and convolutions in turn, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dgm1, self.dgm2 = Guided(width), Guided(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], degradation: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Apply all."""
        y = F.leaky_relu(self.dgm1(x, degradation), SLOPE)
        y = F.leaky_relu(self.conv1(y), SLOPE)
        y = F.leaky_relu(self.dgm2(y, degradation), SLOPE)
        restored: Tensor = x + self.conv2(y)
        return restored


class Body(nn.Module):
    """Parts in a row, told the degradation, then a convolution; added to their input."""

    def __init__(self, parts: list[nn.Module], width: int) -> None:
        super().__init__()
        self.body = nn.ModuleList([*parts, nn.Conv2d(width, width, 3, padding=1)])

    def forward(
        self, x: Float[Tensor, "b c h w"], degradation: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Apply all."""
        *parts, last = self.body
        y = x
        for part in parts:
            y = part(y, degradation)
        restored: Tensor = x + last(y)
        return restored


class Restorer(Body):
    """DGRN: from an image and the map of its degradation to the restored image."""

    def __init__(self, config: AirNetConfig) -> None:
        width = config.width
        groups = [
            Body([Block(width) for _ in range(config.blocks)], width) for _ in range(config.groups)
        ]
        super().__init__([*groups], width)
        self.head = nn.Sequential(nn.Conv2d(3, width, 3, padding=1))
        self.tail = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1))

    def forward(
        self, x: Float[Tensor, "b 3 h w"], degradation: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b 3 h w"]:
        """Restore."""
        restored: Tensor = self.tail(super().forward(self.head(x), degradation))
        return restored


class AirNet(nn.Module):
    """The restorer and the encoder whose first stage tells it the degradation.

    In training batches are normalised by their own statistics, later by the average of those.

    Attributes:
        sizes: The config.
        multiple_px: 1.
    """

    def __init__(self, config: AirNetConfig) -> None:
        super().__init__()
        self.sizes, self.multiple_px = config, config.multiple_px
        self.R = Restorer(config)
        self.E = named("E", Contrast(config.width, config.embedding, config.queue))

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        key: Float[Tensor, "b 3 h w"] | None = None,
        *,
        restore: bool = True,
    ) -> Float[Tensor, "b 3 h w"] | tuple[Float[Tensor, "b 3 h w"], Float[Tensor, ""]]:
        """Restore images.

        Args:
            image: Float RGB in [0, 1], any size.
            key: Another crop of each image, of the same degradation, in training.
            restore: Whether to restore; otherwise the image is given back.

        Returns:
            The images, not clipped; with a key, also the contrastive loss.
        """
        degradation = self.get_submodule("E.E.encoder_q.E_pre")(image)
        restored = self.R(image, degradation) if restore else image
        return restored if key is None else (restored, self.E[0](degradation, key))


def objective(network: nn.Module, batch: Batch, pixel: PixelLoss) -> Tensor:
    """Return the contrastive loss, and after the first phase the recipe's with a share of it.

    An adapter, which trains in evaluation mode, leaves the encoder's contrast to its root.

    The contrast is one of the samples that go through the network at once: `micro_batch_size` and
    several workers change it.
    """
    if not network.training:
        return pixel(network(batch.lq).float(), batch.gt)
    restored, contrast = network(batch.lq, batch.second, restore=batch.phase > 0)
    share = cast("AirNetConfig", network.sizes).contrast
    loss: Tensor = contrast
    if batch.phase > 0:
        restored = restored.float()
        weight = share * steepness(pixel, restored, batch.gt).mean()
        loss = pixel(restored, batch.gt) + weight * contrast
    return loss


def build(config: AirNetConfig, fast: bool) -> AirNet:  # noqa: ARG001, FBT001 - one form
    """Make an AirNet with fresh weights."""
    return AirNet(config)


SPEC = BackboneSpec(
    config=AirNetConfig(),
    build=build,
    last=(),
    precisions=("bfloat16",),
    objective=objective,
    unused=("E.E.encoder_k.", "E.E.queue"),
    phases=(Phase(until=_FIRST_PHASE, still=("R.",)), Phase(until=1.0)),
    needs=frozenset({"second"}),
    version=3,
)
