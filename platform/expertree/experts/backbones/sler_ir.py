"""SLER-IR, written from the paper, which came without code or weights.

Paper 004 (SLER-IR: Spherical Layer-wise Expert Routing): a Restormer each of whose eight stages
exists several times; what is wrong with the whole image decides, stage by stage, which of them
works. What the paper leaves open is settled in METHOD section 4.
"""

import dataclasses
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from expertree.experts.backbones.glgf import Fusion, Injection
from expertree.experts.backbones.padding import pad_to_multiple
from expertree.experts.backbones.restormer import (
    SCALES,
    Block,
    RestormerConfig,
    downsampling,
    named,
    upsampling,
)
from expertree.experts.backbones.spec import (
    BackboneConfig,
    BackboneSpec,
    Phase,
    PixelLoss,
    config_inside,
    uncompiled,
)
from expertree.experts.backbones.spherical import Router, contrast
from expertree.experts.batches import Batch
from expertree.experts.conditions import NOTHING, WINDOW, Condition, Informed, Source, told
from expertree.experts.losses import steepness

STAGES = 2 * SCALES + 2
"""Stages of the network: three on the way down, the latent, three on the way up, refinement."""

INJECTED = tuple(range(SCALES, 2 * SCALES + 1))
"""Stages that receive the prior as they begin: the latent and those on the way up."""

CONTRAST_WEIGHT = 1.0
"""Alpha of the paper's equation 10."""

FIRST_STAGE = 0.16
"""Share of the training in which routes are soft and learnt: the paper's 15 of 95 epochs."""

_LAST_TEMPERATURE = 0.1
_CELLS, _OVERVIEW_PX = 4, 64


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SLERIRConfig(BackboneConfig):
    """A SLER-IR's sizes; those of the paper by default, as far as it states them.

    Attributes:
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down; each scale halves the sides.
        middle: Blocks at the smallest scale.
        decoder: Blocks at each scale on the way up.
        heads: Attention heads at each scale on the way down, the smallest scale's last.
        refinement: Blocks at full resolution after the decoder.
        expansion: Channels inside a feed-forward layer over those of its input.
        norm_bias: Whether layer norms centre their input and add a bias.
        experts: Copies of each stage.
        embed_dim: Length of the extractor's embeddings.
        router_hidden: Numbers inside the router's MLP.
        router_dim: Dimensions of the sphere's space.
        prior_width: Channels of the prior of the whole image; 0 for a network without one.
        fixed_centres: Whether the experts' centres stay where they begin, as far apart as can be.
    """

    name: str = dataclasses.field(default="sler_ir", init=False)
    width: int = 48
    encoder: tuple[int, ...] = (4, 6, 6)
    middle: int = 8
    decoder: tuple[int, ...] = (6, 6, 4)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    refinement: int = 4
    expansion: float = 2.66
    norm_bias: bool = True
    experts: int = 3
    embed_dim: int = 512
    router_hidden: int = 128
    router_dim: int = 64
    prior_width: int = 256
    fixed_centres: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError unless it is a SLER-IR."""
        _ = self.restormer
        if not 2 <= self.experts <= self.router_dim:
            raise ValueError(
                f"sler_ir needs from 2 experts up to as many as router_dim; got {self.experts} and "
                f"{self.router_dim}"
            )
        if min(self.embed_dim, self.router_hidden) < 1:
            raise ValueError(f"sler_ir needs positive sizes of its router; got {self}")
        if self.prior_width < 0 or self.prior_width % 4:
            raise ValueError(
                f"sler_ir needs a prior_width that 4 divides, or 0; got {self.prior_width}"
            )

    @property
    def restormer(self) -> RestormerConfig:
        """The network that one path through the stages is."""
        return config_inside(self, RestormerConfig)

    @property
    def multiple_px(self) -> int:
        """Each scale of the encoder halves the sides."""
        return self.restormer.multiple_px

    @property
    def told(self) -> tuple[Source, ...]:
        """What is wrong with the image; for the prior, also where, and what the image shows."""
        return ("embedding", "cells", "overview") if self.prior_width else ("embedding",)

    @property
    def told_dim(self) -> int:
        """Length of the extractor's embeddings."""
        return self.embed_dim


class Stage(nn.Module):
    """Copies of a stage of blocks, each with weights of its own; rows go through one, or all."""

    def __init__(self, count: int, width: int, heads: int, config: SLERIRConfig) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(*(Block(width, heads, config.restormer) for _ in range(count)))
            for _ in range(config.experts)
        )

    def forward(
        self, x: Float[Tensor, "b c h w"], shares: Float[Tensor, "b experts"], *, soft: bool
    ) -> Float[Tensor, "b c h w"]:
        """Send rows through the expert with the largest share, or mix what all make of them.

        Mixed, the router learns from every expert and the weights of the chosen one alone learn:
        the others' outputs are computed without gradients.
        """
        chosen = [0] * len(x) if x.is_meta else shares.argmax(dim=1).tolist()
        numbers = range(len(self.experts))
        own = [[row for row, one in enumerate(chosen) if one == number] for number in numbers]
        if not soft:
            hard = [(rows, self._expert(number, x, rows)) for number, rows in enumerate(own)]
            return _by_rows(hard)
        weighed: list[Tensor] = []
        for number, rows in enumerate(own):
            others = [row for row, one in enumerate(chosen) if one != number]
            with torch.no_grad():
                aside = self._expert(number, x, others)
            found = _by_rows([(rows, self._expert(number, x, rows)), (others, aside)])
            weighed.append(shares[:, number, None, None, None] * found)
        return torch.stack(weighed).sum(dim=0)

    def _expert(
        self, number: int, x: Float[Tensor, "b c h w"], rows: list[int]
    ) -> Float[Tensor, "rows c h w"]:
        """Send some rows through one expert."""
        if not rows:
            return x[:0]
        restored: Tensor = self.experts[number](x if len(rows) == len(x) else x[rows])
        return restored


def _by_rows(parts: list[tuple[list[int], Tensor]]) -> Float[Tensor, "b c h w"]:
    """Put rows that were computed apart in order again."""
    if len(present := [part for part in parts if part[0]]) == 1:
        return present[0][1]
    found = {row: value for rows, part in present for row, value in zip(rows, part, strict=True)}
    return torch.stack([found[row] for row in range(len(found))])


class SLERIR(Informed):
    """A Restormer whose stages are chosen by what is wrong with the whole image.

    Its channels' attention depends on all that is shown, so that a tile of a photograph is restored
    a little differently than the same pixels are within the whole. Its route and its prior do not.

    Attributes:
        multiple_px: 8.
        config: Its sizes.
    """

    def __init__(self, config: SLERIRConfig) -> None:
        super().__init__()
        self.multiple_px, self.config = config.multiple_px, config
        width, heads = config.width, config.heads
        widths = [width << scale for scale in range(SCALES + 1)]
        self.router = Router(
            config.embed_dim, config.router_hidden, config.router_dim, STAGES, config.experts
        )
        self.patch_embed = named("proj", nn.Conv2d(3, width, 3, padding=1, bias=False))
        # On the way up, full resolution has twice the channels, as in Restormer.
        places = [
            *((count, n, widths[n]) for n, count in enumerate((*config.encoder, config.middle))),
            *((config.decoder[SCALES - 1 - n], n, widths[max(n, 1)]) for n in (2, 1, 0)),
            (config.refinement, 0, widths[1]),
        ]
        self.stages = nn.ModuleList(
            Stage(count, channels, heads[scale], config) for count, scale, channels in places
        )
        self.downs = nn.ModuleList(downsampling(widths[scale]) for scale in range(SCALES))
        self.ups = nn.ModuleList(upsampling(widths[scale]) for scale in (3, 2, 1))
        self.reduces = nn.ModuleList(
            nn.Conv2d(2 * widths[scale], widths[scale], 1, bias=False) for scale in (2, 1)
        )
        self.output = nn.Conv2d(widths[1], 3, 3, padding=1, bias=False)
        self.fusion = self.injections = None
        if config.prior_width:
            self.fusion = Fusion(config.prior_width, config.embed_dim)
            self.injections = nn.ModuleList(
                Injection(places[stage][2], heads[places[stage][1]], config.prior_width)
                for stage in INJECTED
            )

    def forward(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition = NOTHING
    ) -> Float[Tensor, "b 3 h w"]:
        """Restore images: float RGB in [0, 1], any size; the result is not clipped."""
        return self._restore(image, condition, self._cosines(image, condition), soft=False)

    def restore_and_choose(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition = NOTHING
    ) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b layers experts"]]:
        """Restore images as `forward`, and return the experts of their stages."""
        cosines = self._cosines(image, condition)
        taken = F.one_hot(cosines.argmax(dim=-1), self.config.experts)
        return self._restore(image, condition, cosines, soft=False), taken

    def learn(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition, temperature: float
    ) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b layers dim"]]:
        """Restore images by all experts, weighed; return the routing vectors, too.

        Args:
            image: Images.
            condition: What is known of them.
            temperature: What the cosines are divided by before the softmax of equation 2.
        """
        vectors = self._vectors(image, condition)
        shares = (self.router.cosines(vectors) / temperature).softmax(dim=-1)
        return self._restore(image, condition, shares, soft=True), vectors

    def _vectors(self, image: Tensor, condition: Condition) -> Float[Tensor, "b layers dim"]:
        embedding = told(condition, "embedding", image, self.config.embed_dim)
        vectors: Tensor = self.router(embedding)
        return vectors

    def _cosines(self, image: Tensor, condition: Condition) -> Float[Tensor, "b layers experts"]:
        return self.router.cosines(self._vectors(image, condition))

    def _restore(
        self,
        image: Float[Tensor, "b 3 h w"],
        condition: Condition,
        shares: Float[Tensor, "b layers experts"],
        *,
        soft: bool,
    ) -> Float[Tensor, "b 3 h w"]:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple_px)
        prior = self._prior(image, condition)
        window = _window(condition, image, padded)

        def stage(number: int, x: Tensor) -> Tensor:
            if prior is not None and self.injections is not None and number in INJECTED:
                x = self.injections[number - INJECTED[0]](x, prior, window)
            restored: Tensor = self.stages[number](x, shares[:, number], soft=soft)
            return restored

        x = self.patch_embed(padded)
        skips: list[Tensor] = []
        for scale, down in enumerate(self.downs):
            x = stage(scale, x)
            skips.append(x)
            x = down(x)
        x = stage(SCALES, x)
        for turn, up in enumerate(self.ups):
            x = torch.cat([up(x), skips.pop()], dim=1)
            if turn < len(self.reduces):
                x = self.reduces[turn](x)
            x = stage(SCALES + 1 + turn, x)
        restored: Tensor = self.output(stage(STAGES - 1, x)) + padded
        return restored[..., :height, :width]

    def _prior(self, image: Tensor, condition: Condition) -> Float[Tensor, "b c 8 8"] | None:
        if self.fusion is None:
            return None
        cells = told(condition, "cells", image, _CELLS**2, self.config.embed_dim)
        overview = told(condition, "overview", image, 3, _OVERVIEW_PX, _OVERVIEW_PX)
        prior: Tensor = self.fusion(overview, cells)
        return prior


def _window(condition: Condition, image: Tensor, padded: Tensor) -> Float[Tensor, "b 4"]:
    """Return where padded pixels lie in their image, which they may leave by a little."""
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0], device=image.device).expand(len(image), 4)
    window = condition.get(WINDOW, whole)
    begin, end = window[:, :2], window[:, 2:]
    larger = [padded.shape[side] / image.shape[side] for side in (-2, -1)]
    return torch.cat([begin, begin + (end - begin) * window.new_tensor(larger)], dim=1)


def objective(network: nn.Module, batch: Batch, pixel: PixelLoss) -> Float[Tensor, ""]:
    """Return the loss of a batch: at first with soft routes and contrast, then of the image alone.

    While routes are soft the temperature falls from 1 to 0.1, so that they end nearly as hard as
    they go on, and the centres follow what goes through the network at once.
    """
    if batch.phase > 0:
        return pixel(network(batch.lq, batch.condition).float(), batch.gt)
    temperature = _LAST_TEMPERATURE**batch.progress
    learner = cast("SLERIR", uncompiled(network))
    restored, vectors = learner.learn(batch.lq, batch.condition, temperature)
    if not learner.config.fixed_centres:
        learner.router.follow(vectors)
    restored = restored.float()
    weight = CONTRAST_WEIGHT * steepness(pixel, restored, batch.gt).mean()
    return pixel(restored, batch.gt) + weight * contrast(vectors, batch.tasks)


def build(config: SLERIRConfig, fast: bool) -> SLERIR:  # noqa: ARG001, FBT001 - one form
    """Make a SLER-IR with fresh weights."""
    return SLERIR(config)


SPEC = BackboneSpec(
    config=SLERIRConfig(),
    build=build,
    last=("output",),
    precisions=("bfloat16",),
    objective=objective,
    phases=(Phase(until=FIRST_STAGE), Phase(until=1.0, still=("router.",))),
    version=5,
)
