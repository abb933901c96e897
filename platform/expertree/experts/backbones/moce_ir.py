"""MoCE-IR, written from the paper, with the names of the published weights.

Zamfir et al., Complexity Experts are Task-Discriminative Learners for Any Image Restoration, CVPR
2025: a U-net of channel attention whose decoder blocks each send an image to one of several experts
of different rank and window (`moce_experts.py`). The released code trains its Laplacian (3,456
parameters), which the paper has fixed: here it is, and published files may bring their own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from expertree.experts.backbones.moce_experts import Experts, Routed
from expertree.experts.backbones.padding import pad_to_multiple
from expertree.experts.backbones.restormer import (
    SCALES,
    Attention,
    ChannelNorm,
    CrossAttention,
    FeedForward,
    downsampling,
    named,
    upsampling,
)
from expertree.experts.backbones.spec import BackboneConfig, BackboneSpec, PixelLoss
from expertree.experts.batches import Batch
from expertree.experts.conditions import NOTHING, Condition
from expertree.experts.losses import steepness

_KERNEL = 7
"""Side of the depth-wise kernels of keys and values where features ask the experts."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MoCEIRConfig(BackboneConfig):
    """A MoCE-IR's sizes, and the weights of its losses; those of the paper by default.

    Attributes:
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down; each scale halves the sides.
        middle: Blocks at the smallest scale.
        decoder: Blocks at each scale on the way up; each of them has experts.
        heads: Attention heads at each scale on the way down, the smallest scale's last.
        refinement: Blocks at full resolution after the decoder.
        expansion: Channels inside a feed-forward layer over those of its input.
        windows: Sides of the experts' windows. The last expert has as many channels as its block,
            each one before half of the next one's.
        gate: What the chosen expert's probability scales. `query`, as published: what asks in an
            attention that normalises it away, so that the pixels never teach the choice. `output`:
            what the attention gives, by which they do.
        balance: Weight of the loss that spreads images over experts, by their size.
        fourier: Weight of the mean absolute error of the unnormalised Fourier transform; larger
            images count more, as published.
    """

    name: str = dataclasses.field(default="moce_ir", init=False)
    width: int = 48
    encoder: tuple[int, ...] = (4, 6, 6)
    middle: int = 8
    decoder: tuple[int, ...] = (4, 4, 2)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    refinement: int = 4
    expansion: float = 2.0
    windows: tuple[int, ...] = (4, 8, 16, 32)
    gate: Literal["query", "output"] = "query"
    balance: float = 0.01
    fourier: float = 0.1

    def __post_init__(self) -> None:
        """Raise ValueError unless it is a MoCE-IR."""
        if (len(self.encoder), len(self.decoder)) != (SCALES, SCALES):
            raise ValueError(
                f"moce_ir needs {SCALES} encoder and {SCALES} decoder scales; got encoder "
                f"{list(self.encoder)} and decoder {list(self.decoder)}"
            )
        if min(*self.encoder, self.middle, self.refinement) < 0 or min(self.decoder) < 1:
            raise ValueError(
                f"moce_ir needs a decoder block at each scale and no negative count; got {self}"
            )
        least = 1 << len(self.windows) - 1 if self.windows else 0
        if len(self.windows) < 2 or min(self.windows) < 1 or self.width < least or self.width % 2:
            raise ValueError(
                f"moce_ir needs two or more positive windows and an even width of at least {least} "
                f"for them; got windows {list(self.windows)} and width {self.width}"
            )
        if len(self.heads) != len(self.widths) or any(
            heads < 1 or width % heads for heads, width in zip(self.heads, self.widths, strict=True)
        ):
            raise ValueError(
                f"moce_ir needs {SCALES + 1} numbers of heads that divide its channels "
                f"{list(self.widths)}; got {list(self.heads)}"
            )
        if min(self.balance, self.fourier) < 0 or int(self.width * self.expansion) < 1:
            raise ValueError(f"moce_ir needs losses with no negative weight; got {self}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each scale, from full resolution on."""
        return tuple(self.width << scale for scale in range(SCALES + 1))

    @property
    def multiple_px(self) -> int:
        """Each scale of the encoder halves the sides."""
        return 1 << SCALES


class Laplacian(nn.Module):
    """The fixed high-pass of each channel: eight times a pixel less its neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        kernel = torch.full((width, 1, 3, 3), -1.0)
        kernel[:, :, 1, 1] = 8.0
        self.register_buffer("weight", kernel)
        self.weight: Tensor

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Filter maps, with zeros around them."""
        return F.conv2d(x, self.weight, padding=1, groups=len(self.weight))


class FrequencyEmbedding(nn.Module):
    """What fine structure the latent has, as a vector: a part of what chooses the experts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.high_conv = nn.Sequential(named("conv", Laplacian(width)), nn.GELU())
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, latent: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c"]:
        """Embed."""
        embedded: Tensor = self.mlp(self.high_conv(latent).mean(dim=(-2, -1)))
        return embedded


class EncoderBlock(nn.Module):
    """Attention, then feed-forward, each with biases, behind a norm and added to its input."""

    def __init__(self, width: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([ChannelNorm(width, bias=True) for _ in range(2)])
        self.mixer = Attention(width, heads, bias=True)
        self.ffn = FeedForward(width, expansion, bias=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply both."""
        x = x + self.mixer(self.norms[0](x))
        y: Tensor = x + self.ffn(self.norms[1](x))
        return y


class DecoderBlock(nn.Module):
    """What an expert made of the features asks what attention made of them; then feed-forward."""

    def __init__(self, width: int, heads: int, config: MoCEIRConfig) -> None:
        super().__init__()
        self.gates_query = config.gate == "query"
        self.norms = nn.ModuleList([ChannelNorm(width, bias=True) for _ in range(2)])
        self.proj = nn.ModuleList([nn.Conv2d(width, width, 1) for _ in range(2)])
        self.shared = Attention(width, heads)
        self.mixer = CrossAttention(width, heads, kernel=_KERNEL)
        self.ffn = FeedForward(width, config.expansion)
        self.adapter = Experts(width, config.windows, config.widths[-1])

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        frequencies: Float[Tensor, "b d"],
        noise: Float[Tensor, "b experts"] | None,
        expert: int | None,
    ) -> tuple[Float[Tensor, "b c h w"], Routed]:
        """Apply all; also return what was chosen."""
        normed = self.norms[0](x)
        shared = self.shared(self.proj[0](normed))
        found, routed = self.adapter(self.proj[1](normed), shared, frequencies, noise, expert)
        share = routed.share[:, None, None, None]
        if self.gates_query:
            x = x + self.mixer(share * found, shared)
        else:
            x = x + share * self.mixer(found, shared)
        return x + self.ffn(self.norms[1](x)), routed


class Layers(nn.Module):
    """Blocks in a row, under the published names."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply blocks of the encoder."""
        for block in self.layers:
            x = block(x)
        return x


class MoCEIR(nn.Module):
    """A U-net whose decoder blocks each send an image to one expert of several.

    Choices depend on means over all that is shown, so that a tile of a photograph may meet other
    experts than the whole does.

    Attributes:
        sizes: The config.
        multiple_px: 8.
    """

    def __init__(self, config: MoCEIRConfig) -> None:
        super().__init__()
        self.sizes, self.multiple_px = config, config.multiple_px
        widths, heads = config.widths, config.heads

        def blocks(count: int, scale: int) -> Layers:
            make = (
                EncoderBlock(widths[scale], heads[scale], config.expansion) for _ in range(count)
            )
            return Layers(list(make))

        self.patch_embed = named("proj", nn.Conv2d(3, config.width, 3, padding=1, bias=False))
        self.freq_embed = FrequencyEmbedding(widths[SCALES])
        self.enc = nn.ModuleList(
            nn.ModuleList([blocks(count, scale), downsampling(widths[scale])])
            for scale, count in enumerate(config.encoder)
        )
        self.latent = blocks(config.middle, SCALES)
        self.dec = nn.ModuleList()
        for scale, count in zip(reversed(range(SCALES)), config.decoder, strict=True):
            below, width = widths[scale + 1], widths[scale]
            up = [upsampling(below), nn.Conv2d(below, width, 1, bias=False)]
            own = [DecoderBlock(width, heads[scale], config) for _ in range(count)]
            self.dec.append(nn.ModuleList([*up, Layers(own)]))
        self.refinement = blocks(config.refinement, 0)
        self.output = nn.Conv2d(config.width, 3, 3, padding=1, bias=False)

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        noise: Float[Tensor, "b blocks experts"] | None = None,
        expert: int | None = None,
    ) -> Float[Tensor, "b 3 h w"] | tuple[Float[Tensor, "b 3 h w"], Float[Tensor, ""]]:
        """Restore images.

        Args:
            image: Float RGB in [0, 1], any size.
            noise: Standard normal numbers by which choices vary in training; none varies nothing.
            expert: The expert that all blocks send all images to, in place of the router's.

        Returns:
            The images, not clipped; with noise, also the mean loss of balance of all blocks.
        """
        restored, routed = self._restore(image, noise, expert)
        if noise is None:
            return restored
        losses = [one.loss for one in routed if one.loss is not None]
        return restored, torch.stack(losses).mean()

    def restore_and_choose(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition = NOTHING
    ) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b blocks experts"]]:
        """Restore images as `forward`, and return the experts of their decoder blocks.

        Args:
            image: Float RGB in [0, 1], any size.
            condition: Nothing, as this network is told nothing.
        """
        del condition
        restored, routed = self._restore(image, None, None)
        chosen = torch.stack([one.expert for one in routed], dim=1)
        return restored, F.one_hot(chosen, len(self.sizes.windows))

    def _restore(
        self, image: Tensor, noise: Tensor | None, expert: int | None
    ) -> tuple[Tensor, list[Routed]]:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple_px)
        x = self.patch_embed(padded)
        skips: list[Tensor] = []
        for level in self.enc.children():
            blocks, down = level.children()
            skips.append(blocks(x))
            x = down(skips[-1])
        x = self.latent(x)
        frequencies = self.freq_embed(x)
        routed: list[Routed] = []
        for level in self.dec.children():
            up, fuse, blocks = level.children()
            x = fuse(torch.cat([up(x), skips.pop()], dim=1))
            for block in blocks.get_submodule("layers").children():
                own = None if noise is None else noise[:, len(routed)]
                x, one = block(x, frequencies, own, expert)
                routed.append(one)
        restored: Tensor = self.output(self.refinement(x)) + padded
        return restored[..., :height, :width], routed


def objective(network: nn.Module, batch: Batch, pixel: PixelLoss) -> Tensor:
    """Return the recipe's loss with those of the Fourier transform and of the experts' balance.

    The balance is one of the samples that go through the network at once: `micro_batch_size` and
    several workers change it.
    """
    config = cast("MoCEIRConfig", network.sizes)
    restored, balance = network(batch.lq, noise_of(batch, config))
    restored = restored.float()
    errors = torch.view_as_real(torch.fft.rfft2(restored - batch.gt)).abs().mean(dim=(1, 2, 3, 4))
    weights = steepness(pixel, restored, batch.gt)
    beside = config.fourier * (weights * errors).mean() + config.balance * weights.mean() * balance
    loss: Tensor = pixel(restored, batch.gt) + beside
    return loss


def noise_of(batch: Batch, config: MoCEIRConfig) -> Float[Tensor, "b blocks experts"]:
    """Return the noise of a batch's choices, from the seeds of its samples."""
    size = (sum(config.decoder), len(config.windows))
    rows = [torch.randn(size, generator=_generator(seed)) for seed in batch.seeds]
    return torch.stack(rows).to(batch.lq.device)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ways(config: MoCEIRConfig) -> list[Mapping[str, Any]]:
    """Return the calls that send an image to the same expert in all blocks."""
    return [{"expert": number} for number in range(len(config.windows))]


def build(config: MoCEIRConfig, fast: bool) -> MoCEIR:  # noqa: ARG001, FBT001 - one form
    """Make a MoCE-IR with fresh weights."""
    return MoCEIR(config)


SPEC = BackboneSpec(
    config=MoCEIRConfig(),
    build=build,
    last=("output",),
    precisions=("bfloat16",),
    objective=objective,
    ways=ways,
    version=3,
)
