"""PromptIR, written from the paper, with the names of the published weights.

Potlapalli et al., PromptIR: Prompting for All-in-One Blind Image Restoration, NeurIPS 2023: a
Restormer whose decoder is told, by learnt pictures that it weighs for each image, what is wrong.
The released code also defines layers that it never uses (215,296 parameters): they are left out.
"""

import dataclasses

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.restormer import (
    SCALES,
    Block,
    RestormerConfig,
    UNet,
    downsampling,
    named,
    upsampling,
)
from expertree.experts.backbones.spec import BackboneConfig, BackboneSpec, config_inside

_PROMPT_HEADS = 2
"""The scale whose number of heads the blocks behind the prompts have, on all scales."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PromptIRConfig(BackboneConfig):
    """A PromptIR's sizes; those of the paper by default.

    Attributes:
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down; each scale halves the sides.
        middle: Blocks at the smallest scale.
        decoder: Blocks at each scale on the way up.
        heads: Attention heads at each scale on the way down, the smallest scale's last.
        refinement: Blocks at full resolution after the decoder.
        expansion: Channels inside a feed-forward layer over those of its input.
        norm_bias: Whether layer norms centre their input and add a bias.
        prompts: Prompts to weigh at each place that has them.
        prompt_widths: Channels of the prompts at each place, the smallest scale's first.
        prompt_px: Sides of the prompts at each place.
    """

    name: str = dataclasses.field(default="promptir", init=False)
    width: int = 48
    encoder: tuple[int, ...] = (4, 6, 6)
    middle: int = 8
    decoder: tuple[int, ...] = (6, 6, 4)
    heads: tuple[int, ...] = (1, 2, 4, 8)
    refinement: int = 4
    expansion: float = 2.66
    norm_bias: bool = True
    prompts: int = 5
    prompt_widths: tuple[int, ...] = (320, 128, 64)
    prompt_px: tuple[int, ...] = (16, 32, 64)

    def __post_init__(self) -> None:
        """Raise ValueError unless it is a PromptIR."""
        _ = self.restormer
        if self.prompts < 1:
            raise ValueError(f"promptir needs at least one prompt; got {self.prompts}")
        for name in ("prompt_widths", "prompt_px"):
            given = getattr(self, name)
            if len(given) != SCALES or min(given) < 1:
                raise ValueError(
                    f"promptir needs {SCALES} positive {name}, the smallest scale's first; got "
                    f"{list(given)}"
                )
        heads = self.heads[_PROMPT_HEADS]
        if strange := [width for width in self.told_widths if width % heads]:
            raise ValueError(
                f"promptir's {heads} heads must divide the channels of features and prompts "
                f"together, {list(self.told_widths)}; they do not divide {strange}"
            )

    @property
    def restormer(self) -> RestormerConfig:
        """The same without prompts."""
        return config_inside(self, RestormerConfig)

    @property
    def feature_widths(self) -> tuple[int, int, int]:
        """Channels of what meets a prompt: of the latent, and of the decoder's scales 3 and 2."""
        return 8 * self.width, 4 * self.width, 2 * self.width

    @property
    def told_widths(self) -> tuple[int, ...]:
        """Channels of those and their prompts together."""
        pairs = zip(self.feature_widths, self.prompt_widths, strict=True)
        return tuple(features + prompt for features, prompt in pairs)

    @property
    def multiple_px(self) -> int:
        """Each scale of the encoder halves the sides."""
        return self.restormer.multiple_px


class Prompt(nn.Module):
    """Learnt pictures, mixed by what the features are on average, and stretched to their size."""

    def __init__(self, count: int, width: int, side_px: int, feature_width: int) -> None:
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, count, width, side_px, side_px))
        self.linear_layer = nn.Linear(feature_width, count)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b prompt h w"]:
        """Make the prompt of some features."""
        shares = self.linear_layer(features.mean(dim=(-2, -1))).softmax(dim=1)
        mixed = torch.einsum("bn,nchw->bchw", shares, self.prompt_param[0])
        prompt: Tensor = self.conv3x3(F.interpolate(mixed, features.shape[-2:], mode="bilinear"))
        return prompt


class PromptIR(UNet):
    """A Restormer with a prompt behind the latent and behind two scales of the decoder.

    Prompts depend on the mean over what is shown, so that a tile of a photograph is restored a
    little differently than the same pixels are within the whole.

    Attributes:
        multiple_px: 8.
    """

    def __init__(self, config: PromptIRConfig) -> None:
        super().__init__()
        self.multiple_px = config.multiple_px
        plain, width = config.restormer, config.width
        widths = [width << scale for scale in range(SCALES + 1)]

        def blocks(count: int, scale: int, channels: int) -> nn.Sequential:
            heads = plain.heads[scale]
            return nn.Sequential(*(Block(channels, heads, plain) for _ in range(count)))

        self.patch_embed = named("proj", nn.Conv2d(3, width, 3, padding=1, bias=False))
        for scale, count in enumerate(config.encoder):
            self.add_module(f"encoder_level{scale + 1}", blocks(count, scale, widths[scale]))
            self.add_module(f"down{scale + 1}_{scale + 2}", downsampling(widths[scale]))
        self.latent = blocks(config.middle, SCALES, widths[SCALES])
        # Behind a prompt all channels are brought to those of the scale below, or its own at last.
        after = (widths[2], widths[2], widths[1])
        for place in range(SCALES):
            scale = SCALES - place
            told = config.told_widths[place]
            prompt = Prompt(
                config.prompts,
                config.prompt_widths[place],
                config.prompt_px[place],
                config.feature_widths[place],
            )
            self.add_module(f"prompt{scale}", prompt)
            self.add_module(f"noise_level{scale}", Block(told, plain.heads[_PROMPT_HEADS], plain))
            self.add_module(
                f"reduce_noise_level{scale}", nn.Conv2d(told, after[place], 1, bias=False)
            )
        for place, count in enumerate(config.decoder):
            scale = SCALES - place
            channels = widths[max(scale - 1, 1)]
            self.add_module(f"up{scale + 1}_{scale}", upsampling(after[place]))
            joined = after[place] // 2 + widths[scale - 1]
            if scale > 1:
                reduce = nn.Conv2d(joined, channels, 1, bias=False)
                self.add_module(f"reduce_chan_level{scale}", reduce)
            self.add_module(f"decoder_level{scale}", blocks(count, scale - 1, channels))
        self.refinement = blocks(config.refinement, 0, widths[1])
        self.output = nn.Conv2d(widths[1], 3, 3, padding=1, bias=False)

    def before_up(
        self,
        x: Float[Tensor, "b c h w"],
        scale: int,
        image: Float[Tensor, "b 3 height width"],  # noqa: ARG002 - prompts know features alone
    ) -> Float[Tensor, "b d h w"]:
        """Put the features beside their prompt, through a block, to fewer channels again."""
        x = torch.cat([x, self.get_submodule(f"prompt{scale}")(x)], dim=1)
        x = self.get_submodule(f"noise_level{scale}")(x)
        told: Tensor = self.get_submodule(f"reduce_noise_level{scale}")(x)
        return told


def build(config: PromptIRConfig, fast: bool) -> PromptIR:  # noqa: ARG001, FBT001 - one form
    """Make a PromptIR with fresh weights."""
    return PromptIR(config)


SPEC = BackboneSpec(
    config=PromptIRConfig(),
    build=build,
    last=("output",),
    precisions=("bfloat16",),
    unused=("chnl_reduce", "reduce_noise_channel_"),
)
