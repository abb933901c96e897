"""Retinexformer, for nodes in which low light dominates: layers by spandrel, padded here.

Cai et al., Retinexformer: One-stage Retinex-based Transformer for Low-light Image Enhancement, ICCV
2023.
"""

import dataclasses

from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.padding import pad_to_multiple
from expertree.experts.backbones.spec import BackboneConfig, BackboneSpec

SCALES = 2
"""Times that the sides are halved; spandrel's network leaves no choice."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RetinexformerConfig(BackboneConfig):
    """A Retinexformer's sizes.

    The default is what the paper trains.

    Attributes:
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down, and as many on the way up.
        middle: Blocks at the smallest scale.
        stages: Whole networks in a row.
    """

    name: str = dataclasses.field(default="retinexformer", init=False)
    width: int = 40
    encoder: tuple[int, ...] = (1, 2)
    middle: int = 2
    stages: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError unless it is a Retinexformer."""
        if len(self.encoder) != SCALES:
            raise ValueError(
                f"retinexformer needs {SCALES} encoder scales; got {list(self.encoder)}"
            )
        fewest = min(self.width, self.stages, 1 + self.middle, *(1 + n for n in self.encoder))
        if self.width % 4 or fewest < 1:
            raise ValueError(
                "retinexformer needs a width that is a multiple of 4 (it estimates the light "
                f"in 4 groups), a stage and no negative count of blocks; got {self}"
            )

    @property
    def multiple_px(self) -> int:
        """Each scale of the encoder halves the sides."""
        return 1 << SCALES


class Retinexformer(nn.Module):
    """Brightens an image by an illumination it estimates, then restores what that brings up.

    Attributes:
        multiple_px: 4.
    """

    def __init__(self, config: RetinexformerConfig) -> None:
        # It takes seconds to load, as it loads every network that it knows.
        from spandrel.architectures.RetinexFormer import (  # noqa: PLC0415
            RetinexFormer as SpandrelRetinexFormer,
        )

        super().__init__()
        self.multiple_px = config.multiple_px
        source: nn.Module = SpandrelRetinexFormer(
            n_feat=config.width, stage=config.stages, num_blocks=[*config.encoder, config.middle]
        )
        self.body = source.get_submodule("body")

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Restore images: float RGB in [0, 1], any size; the result is not clipped."""
        height, width = image.shape[-2:]
        restored: Tensor = self.body(pad_to_multiple(image, self.multiple_px))
        return restored[..., :height, :width]


def build(config: RetinexformerConfig, fast: bool) -> Retinexformer:  # noqa: ARG001, FBT001 - one form
    """Make a Retinexformer with fresh weights."""
    return Retinexformer(config)


SPEC = BackboneSpec(
    config=RetinexformerConfig(),
    build=build,
    # Each stage brightens its input by what the estimator's last layer gives, and adds the other's.
    last=("estimator.conv2", "denoiser.mapping"),
    precisions=("bfloat16",),
)
