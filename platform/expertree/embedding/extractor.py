"""The extractor network, which turns a batch of images into a batch of embeddings."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from expertree.embedding.captions import CaptionTower
from expertree.embedding.clip import ClipConfig, build_clip
from expertree.embedding.controller import ContentTower, controller_of, states_of
from expertree.embedding.heads import HEADS
from expertree.embedding.recipe import ExtractorRecipe
from expertree.embedding.sliding import SlidingTower
from expertree.embedding.views import SPREAD, VIEWS, windows
from expertree.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExtractorConfig:
    """Settings of the extractor: its network, its view of an image and its training."""

    clip: ClipConfig = dataclasses.field(default_factory=ClipConfig)
    """The CLIP model."""

    form: Literal["plain", "controller"] = "plain"
    """How the network is trained: `plain` trains all of it; `controller`, for pretrained ViTs,
    trains a copy that controls the frozen network, as DA-CLIP does (METHOD section 2)."""

    content_captions: str | None = None
    """Folder of BLIP's weights and processor, as transformers saves them, to caption the clean
    images with; without it the content target is the frozen tower's embedding of the clean image.
    Only with the `controller` form."""

    embed_dim: int = 512
    """Length of an embedding, as CLIP ViT-B/32 and the paper have it."""

    view: Literal["spread", "centre_crop", "resize", "full", "sliding"] = "spread"
    """Part of an image that is embedded; a name in `views.VIEWS`. `spread` takes the mean embedding
    of up to nine windows over all of a photograph; `centre_crop` is the paper's and sees only its
    middle. `resize` and `full` are for comparison (paper 000, table I): the first hides fine
    degradations, the second costs time in proportion to the image. `sliding` is LoRA-IR's."""

    view_px: int = 128
    """Side of the view, or of one window of `spread` and `sliding`, in pixels. The paper's is 224,
    cut from photographs; patches of a small run have 128."""

    head: Literal["linear", "spherical", "type"] = "linear"
    """Training objective of the embedding; a name in `heads.HEADS`. `linear` is CLIP's: embeddings
    come near the caption of their degree. `spherical` is SLER-IR's, on the unit sphere; `type` is
    LoRA-IR's and ignores degrees."""

    recipe: ExtractorRecipe = dataclasses.field(default_factory=ExtractorRecipe)
    """Settings of the training."""

    def __post_init__(self) -> None:
        """Raise ValueError for a size below 1, or settings that exclude each other."""
        for name in ("embed_dim", "view_px"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.form == "controller" and self.view == "sliding":
            raise ValueError("form=controller looks at one view of an image; choose another view")
        if self.content_captions is not None and self.form != "controller":
            raise ValueError("content_captions are learnt with form=controller only")


_POSITIONS = ("positional_embedding", "pos_embed")


class Patches(Protocol):
    """Degraded patches and their clean versions, by position."""

    def __len__(self) -> int:
        """Return the number of patches."""
        ...

    def lq(self, indices: Sequence[int]) -> UInt8[Tensor, "b 3 h w"]:
        """Return the degraded patches at some positions, uint8 BCHW, RGB."""
        ...

    def gt(self, indices: Sequence[int]) -> UInt8[Tensor, "b 3 h w"]:
        """Return the clean patches; only training of the `controller` form needs them."""
        ...


class Extractor(nn.Module):
    """Looks at images through its own view and embeds how they are degraded.

    The embedding is the image tower's output before any scaling to length 1, except with the
    `spherical` head: its length carries information that the routers use (METHOD section 2).

    Attributes:
        config: The settings it was built from.
        visual: The image tower.
        captions: The text tower; None where the extractor was loaded to embed images only.
        content: The frozen tower and its links, in the `controller` form; None in the other form,
            or where the extractor was loaded to embed images only.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, config: ExtractorConfig, *, load_weights: bool = True, captions: bool = True
    ) -> None:
        super().__init__()
        clip = build_clip(
            config.clip,
            embed_dim=config.embed_dim,
            side_px=config.view_px,
            load_weights=load_weights,
            captions=captions,
        )
        self.config = config
        visual = _tower(clip.visual, config).to(memory_format=torch.channels_last)
        self.content = ContentTower(visual) if config.form == "controller" else None
        self.visual = controller_of(visual) if self.content is not None else visual
        self.captions: CaptionTower | None = clip.captions
        if self.captions is not None and self.content is not None and config.clip.pretrained:
            self.captions.text.requires_grad_(requires_grad=False)
        self.register_buffer("mean", torch.tensor(clip.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(clip.std).view(1, 3, 1, 1))

    @property
    def embed_dim(self) -> int:
        """Length of an embedding."""
        return self.config.embed_dim

    @property
    def fixed_px(self) -> int | None:
        """The only side of a view that the tower takes, in pixels; None if it takes any."""
        is_fixed = self.config.view != "sliding" and _learnt_positions(self.visual)
        return self.config.view_px if is_fixed else None

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float32[Tensor, "b dim"]:
        """Embed images, with gradients; `embed` is the same without.

        Args:
            images: RGB in [0, 1], BCHW, any height and width.

        Returns:
            float32 [B, embed_dim].
        """
        side_px = self.config.view_px
        if self.config.view == "spread":
            return self.encode_windows(windows(images, side_px, most=SPREAD))
        return self.encode(VIEWS[self.config.view](images, side_px))

    def encode_windows(
        self,
        cut: Float[Tensor, "b n 3 side side"],
        shares: Float[Tensor, " n"] | None = None,
    ) -> Float32[Tensor, "b dim"]:
        """Embed images by windows of them.

        Args:
            cut: The windows of each image.
            shares: What each window counts, 1 together; all the same by default.
        """
        features = self.visual(self._normalised(cut.flatten(0, 1))).unflatten(0, cut.shape[:2])
        if shares is None:
            return self._finished(features.mean(dim=1))
        return self._finished((features * shares[:, None]).sum(dim=1))

    def encode(self, views: Float[Tensor, "b 3 h w"]) -> Float32[Tensor, "b dim"]:
        """Embed images that are views already, or training crops of another size."""
        return self._finished(self.visual(self._normalised(views)))

    def encode_both(
        self, views: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float32[Tensor, "b dim"], Float32[Tensor, "b dim"]]:
        """Embed degradation and content of views, to train the `controller` form.

        Raises:
            ValueError: If the extractor has another form, or was loaded without its content tower.
        """
        inputs = self._normalised(views)
        with states_of(self.visual) as states:
            degradation = self._finished(self.visual(inputs))
        return degradation, self._content_tower()(inputs, states).float()

    @torch.no_grad()
    def encode_clean(self, views: Float[Tensor, "b 3 h w"]) -> Float32[Tensor, "b dim"]:
        """Embed clean views by the frozen tower alone: the targets of content embeddings.

        Raises:
            ValueError: As for `encode_both`.
        """
        clean: Tensor = self._content_tower()(self._normalised(views))
        return clean.float()

    def _normalised(self, views: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return ((views - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def _finished(self, features: Float[Tensor, "b dim"]) -> Float32[Tensor, "b dim"]:
        features = features.float()
        return F.normalize(features, dim=-1) if HEADS[self.config.head].unit_length else features

    def _content_tower(self) -> ContentTower:
        if self.content is None:
            raise ValueError(
                f"the extractor has the form {self.config.form!r} and no content tower in memory; "
                "build form=controller, or load it with captions=True"
            )
        return self.content

    @torch.no_grad()
    def embed(self, images: Float[Tensor, "b 3 h w"]) -> Float32[Tensor, "b dim"]:
        """Embed images without gradients and in evaluation mode, which it leaves on.

        Args:
            images: RGB in [0, 1], BCHW, any height and width, on the extractor's device.

        Returns:
            float32 [B, embed_dim], of length 1 with the `spherical` head only.

        Raises:
            ValueError: If the images are not float BCHW with 3 channels.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"images must be float [batch, 3, height, width] in [0, 1], got {images.dtype} "
                f"{list(images.shape)}"
            )
        return self.eval().forward(images)


def _tower(tower: nn.Module, config: ExtractorConfig) -> nn.Module:
    """Return the tower that belongs to the view.

    Raises:
        ConfigError: If the view is `full` and the tower takes images of one size only.
    """
    if config.view == "sliding":
        return SlidingTower(
            tower,
            embed_dim=config.embed_dim,
            side_px=config.view_px,
            frozen=bool(config.clip.pretrained),
        )
    placed = _learnt_positions(tower)
    if config.view == "full" and placed:
        raise ConfigError(
            f"view=full gives the tower images of any size, but this one has learnt its positions "
            f"({placed[0]}) for {config.view_px} px; choose a CNN, or view=sliding"
        )
    return tower


def _learnt_positions(tower: nn.Module) -> list[str]:
    return [name for name, _ in tower.named_parameters() if name.endswith(_POSITIONS)]


def build_extractor(config: ExtractorConfig, *, seed: int = 0) -> Extractor:
    """Build an extractor with pretrained or with random weights.

    Args:
        config: Settings of the extractor.
        seed: Seed of the random weights; the global generator is left alone.

    Returns:
        The extractor, in evaluation mode.

    Raises:
        ConfigError: If the network is unknown, or its weights cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Extractor(config).eval()


def embed_patches(
    extractor: Extractor, patches: Patches, *, batch_size: int = 64
) -> Float32[np.ndarray, "patches dim"]:
    """Embed all patches, batch by batch.

    Returns:
        float32 [patches, embed_dim], in order, not normalised.
    """
    device = extractor.mean.device
    found = np.empty((len(patches), extractor.embed_dim), dtype=np.float32)
    for start in range(0, len(patches), batch_size):
        rows = range(start, min(start + batch_size, len(patches)))
        images = patches.lq(rows).to(device).float() / 255.0
        found[rows.start : rows.stop] = extractor.embed(images).cpu().numpy()
    return found
