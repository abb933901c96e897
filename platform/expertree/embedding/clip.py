"""CLIP models from open_clip: a small one trained from scratch, or a pretrained one by name."""

import dataclasses
import warnings
from collections import OrderedDict
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from expertree.embedding import small_resnet
from expertree.embedding.captions import DEGREE_WORDS, CaptionTower, WordTokenizer
from expertree.errors import ConfigError

_FROM_SCRATCH_MEAN, _FROM_SCRATCH_STD = (0.45, 0.45, 0.45), (0.25, 0.25, 0.25)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipConfig:
    """Settings of the CLIP model that the extractor is made of."""

    name: str = ""
    """An architecture of open_clip, for example `ViT-B-32`; empty for the small model below."""

    pretrained: str = ""
    """Weights to start from: a tag of open_clip (`laion2b_s34b_b79k`), which must be in its cache
    or downloadable, or the path of a file. Only with `name`."""

    image_tower: str = "resnet10t"
    """Image tower of the small model, a name in timm. A CNN learns degradations from scratch much
    faster than a ViT does (METHOD section 2)."""

    text_width: int = 64
    """Width of the small model's text tower; little is enough for two dozen words."""

    text_layers: int = 2
    """Layers of the small model's text tower."""

    text_heads: int = 4
    """Attention heads of the small model's text tower."""

    text_length: int = 16
    """Most tokens in a caption, the one that ends it included; six degrees take 13."""

    words: tuple[str, ...] = DEGREE_WORDS
    """Vocabulary of the small model's text tower."""

    def __post_init__(self) -> None:
        """Raise ValueError for `pretrained` without `name`."""
        if self.pretrained and not self.name:
            raise ValueError(
                f"pretrained is {self.pretrained!r}, but name is empty; name the architecture that "
                "the weights belong to"
            )


class Clip(NamedTuple):
    """The parts of a CLIP model.

    Attributes:
        visual: Image tower: normalised float [B, 3, side, side] to [B, embed_dim].
        captions: Text tower; None where it was not asked for.
        mean: Values to subtract from an image in [0, 1], for R, G and B.
        std: Values to divide it by then, for R, G and B.
    """

    visual: nn.Module
    captions: CaptionTower | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


def build_clip(
    config: ClipConfig, *, embed_dim: int, side_px: int, load_weights: bool, captions: bool = True
) -> Clip:
    """Build a CLIP model.

    Args:
        config: The architecture, and the weights to start from.
        embed_dim: Length of its embeddings.
        side_px: Side of the images that it will see.
        load_weights: Whether to load `config.pretrained`; False where saved weights are loaded
            next.
        captions: Whether the text tower is wanted too. Without it, the small model does without
            open_clip, which loads transformers.

    Raises:
        ConfigError: If the model is unknown, its weights cannot be had, or its embeddings have
            another length.
    """
    if config.name:
        return _named(config, embed_dim=embed_dim, side_px=side_px, load_weights=load_weights)
    if captions:
        return _small(config, embed_dim=embed_dim, side_px=side_px)
    return Clip(
        visual=SmallTower(config, embed_dim),
        captions=None,
        mean=_FROM_SCRATCH_MEAN,
        std=_FROM_SCRATCH_STD,
    )


class SmallTower(nn.Module):
    """The image tower of the small model alone: computes and keeps its weights as open_clip's."""

    def __init__(self, config: ClipConfig, embed_dim: int) -> None:
        """Build it with fresh weights.

        Raises:
            ConfigError: If timm has no such network.
        """
        super().__init__()
        self.trunk, num_features = _trunk(config)
        layers = (
            ("drop", nn.Dropout(0.0)),
            ("proj", nn.Linear(num_features, embed_dim, bias=False)),
        )
        self.head = nn.Sequential(OrderedDict(layers))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim"]:
        """Embed normalised images."""
        embeddings: Tensor = self.head(self.trunk(images))
        return embeddings


def _trunk(config: ClipConfig) -> tuple[nn.Module, int]:
    """Return an image tower without its head, and the length of its features."""
    if config.image_tower == small_resnet.NAME:
        return small_resnet.SmallResNet(), small_resnet.NUM_FEATURES
    import timm  # noqa: PLC0415 - seconds: it loads torchvision

    try:
        trunk: Any = timm.create_model(config.image_tower)
    except RuntimeError as error:
        raise ConfigError(_no_tower(config, error)) from error
    trunk.reset_classifier(0)
    return trunk, trunk.num_features


def _no_tower(config: ClipConfig, error: Exception) -> str:
    return f"image_tower {config.image_tower!r} cannot be built: {error}"


def _small(config: ClipConfig, *, embed_dim: int, side_px: int) -> Clip:
    from open_clip.model import CustomTextCLIP  # noqa: PLC0415 - seconds: it loads transformers

    tokenizer = WordTokenizer(config.words, config.text_length)
    vision: dict[str, Any] = {
        "timm_model_name": config.image_tower,
        "timm_proj": "linear",
        "timm_pool": "",
        "image_size": side_px,
    }
    text: dict[str, Any] = {
        "context_length": config.text_length,
        "vocab_size": tokenizer.vocab_size,
        "width": config.text_width,
        "heads": config.text_heads,
        "layers": config.text_layers,
    }
    try:
        model = CustomTextCLIP(embed_dim, vision, text)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(_no_tower(config, error)) from error
    return Clip(
        visual=model.visual,
        captions=CaptionTower(model.text, tokenizer, model.logit_scale),
        mean=_FROM_SCRATCH_MEAN,
        std=_FROM_SCRATCH_STD,
    )


def _named(config: ClipConfig, *, embed_dim: int, side_px: int, load_weights: bool) -> Clip:
    import open_clip  # noqa: PLC0415 - seconds: it loads transformers

    pretrained = config.pretrained if load_weights else ""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="QuickGELU mismatch")
            model = open_clip.create_model(
                config.name,
                pretrained=pretrained or None,
                force_custom_text=True,
                force_image_size=side_px,
            )
        tokenizer = open_clip.get_tokenizer(config.name)
    except (RuntimeError, OSError, ValueError) as error:
        weights = f" with weights {pretrained!r}" if pretrained else ""
        raise ConfigError(f"CLIP model {config.name!r}{weights} cannot be had: {error}") from error
    found = open_clip.get_model_config(config.name)["embed_dim"]
    if found != embed_dim:
        raise ConfigError(
            f"embed_dim is {embed_dim}, but embeddings of {config.name!r} have length {found}"
        )
    return Clip(
        visual=model.visual,
        captions=CaptionTower(model.text, tokenizer, model.logit_scale),
        mean=tuple(model.visual.preprocess_cfg["mean"]),
        std=tuple(model.visual.preprocess_cfg["std"]),
    )
