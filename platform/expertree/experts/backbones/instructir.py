"""InstructIR, written from the paper, with the names of the published weights.

Conde, Geigle, Timofte, InstructIR: High-Quality Image Restoration Following Human Instructions,
ECCV 2024 (paper 003): a NAFNet with a block behind each of its scales that a sentence gates. The
sentence goes through a frozen encoder (`sentences.py`) and a head, which is also taught to say what
the sentence names. Without a sentence a classifier of the extractor's embedding says it instead.
"""

import dataclasses
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from expertree.experts.backbones.kinds import KINDS, targets
from expertree.experts.backbones.nafnet import NAFNet, NAFNetConfig, block_of
from expertree.experts.backbones.padding import pad_to_multiple
from expertree.experts.backbones.spec import (
    BackboneConfig,
    BackboneSpec,
    PixelLoss,
    config_inside,
    uncompiled,
)
from expertree.experts.batches import Batch
from expertree.experts.conditions import NOTHING, Condition, Informed, Source, told
from expertree.experts.losses import steepness
from expertree.experts.sentences import HASHING, prototype


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InstructIRConfig(BackboneConfig):
    """An InstructIR's sizes; those of the paper by default.

    Attributes:
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down; each scale halves the sides.
        middle: Blocks at the smallest scale.
        decoder: Blocks at each scale on the way up.
        text: The encoder of sentences: `hashing`, or a model of sentence-transformers.
        text_dim: Length of its embeddings.
        told_width: Numbers that the blocks are gated by.
        embed_dim: Length of the extractor's embeddings.
    """

    name: str = dataclasses.field(default="instructir", init=False)
    width: int = 32
    encoder: tuple[int, ...] = (2, 2, 4, 8)
    middle: int = 4
    decoder: tuple[int, ...] = (2, 2, 2, 2)
    text: str = HASHING
    text_dim: int = 384
    told_width: int = 256
    embed_dim: int = 512

    def __post_init__(self) -> None:
        """Raise ValueError unless it is an InstructIR."""
        _ = self.nafnet
        if min(self.text_dim, self.told_width, self.embed_dim) < 1:
            raise ValueError(f"instructir needs positive text_dim, told_width, embed_dim; {self}")

    @property
    def nafnet(self) -> NAFNetConfig:
        """The same without instructions."""
        return config_inside(self, NAFNetConfig)

    @property
    def multiple_px(self) -> int:
        """Each scale of the encoder halves the sides."""
        return self.nafnet.multiple_px

    @property
    def told(self) -> tuple[Source, ...]:
        """What somebody says is wrong, and from where it is predicted if nobody does."""
        return ("embedding", "sentence")

    @property
    def told_dim(self) -> int:
        """Length of the extractor's embeddings."""
        return self.embed_dim

    @property
    def sentence_encoder(self) -> str:
        """The encoder of sentences."""
        return self.text


class InstructionBlock(nn.Module):
    """ICB: a sentence gates channels of the features, which a block then changes.

    Scale and shift begin at zero, so that it begins as the identity.
    """

    def __init__(self, width: int, told_width: int, *, fast: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(told_width, width)
        self.block = block_of(width, fast=fast)
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(
        self, x: Float[Tensor, "b c h w"], said: Float[Tensor, "b told"]
    ) -> Float[Tensor, "b c h w"]:
        """Add what the block makes of the gated features."""
        gates = self.fc(said).sigmoid()[:, :, None, None]
        changed: Tensor = x + self.block((self.gamma * x + self.beta) * gates)
        return changed


class InstructionHead(nn.Module):
    """From a sentence's embedding to what gates the blocks, and to what the sentence names."""

    def __init__(self, text_dim: int, told_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(text_dim, told_width)
        self.fc2 = nn.Linear(told_width, len(KINDS))

    def forward(
        self, sentence: Float[Tensor, "b text"]
    ) -> tuple[Float[Tensor, "b told"], Float[Tensor, "b classes"]]:
        """Return the gates' input, of length 1, and the logits of `KINDS`."""
        said = F.normalize(self.fc1(sentence), dim=-1)
        return said, self.fc2(said)


class InstructIR(Informed):
    """A NAFNet that is told by a sentence what to do.

    Attributes:
        multiple_px: 2 to the number of scales.
        config: Its sizes.
        prototypes: For each class the mean embedding of its sentences, from which a prediction is
            made where nobody says what is wrong.
    """

    prototypes: Tensor

    def __init__(self, config: InstructIRConfig, *, fast: bool) -> None:
        super().__init__()
        self.multiple_px, self.config = config.multiple_px, config
        scales, width = len(config.encoder), config.width
        for name, layer in NAFNet(config.nafnet, fast=fast).named_children():
            self.add_module(name, layer)
        self.enc_cond, self.dec_cond = (
            nn.ModuleList(
                InstructionBlock(width << scale, config.told_width, fast=fast) for scale in order
            )
            for order in (range(scales), reversed(range(scales)))
        )
        self.head = InstructionHead(config.text_dim, config.told_width)
        self.predictor = nn.Linear(config.embed_dim, len(KINDS))
        self.register_buffer("prototypes", torch.zeros(len(KINDS), config.text_dim))

    def forward(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition = NOTHING
    ) -> Float[Tensor, "b 3 h w"]:
        """Restore images: float RGB in [0, 1], any size; the result is not clipped."""
        said, _ = self.head(self.sentence(image, condition))
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple_px)
        padded = padded.contiguous(memory_format=torch.channels_last)
        x = self.get_submodule("intro")(padded)
        skips: list[Tensor] = []
        for encoder, told_by, down in self._scales("encoders", "enc_cond", "downs"):
            x = told_by(encoder(x), said)
            skips.append(x)
            x = down(x)
        x = self.get_submodule("middle_blks")(x)
        for decoder, told_by, up in self._scales("decoders", "dec_cond", "ups"):
            x = told_by(decoder(up(x) + skips.pop()), said)
        restored: Tensor = self.get_submodule("ending")(x) + padded
        return restored[..., :height, :width]

    def sentence(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition
    ) -> Float[Tensor, "b text"]:
        """Return the embedding of what is said, or else of what is predicted."""
        if "sentence" in condition:
            return condition["sentence"]
        shares = self.predict(image, condition).softmax(dim=-1)
        return F.normalize(shares @ self.prototypes, dim=-1)

    def predict(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition
    ) -> Float[Tensor, "b classes"]:
        """Return logits of `KINDS` by the extractor's embedding of the whole image."""
        embedding = told(condition, "embedding", image, self.config.embed_dim)
        logits: Tensor = self.predictor(F.layer_norm(embedding, embedding.shape[-1:]))
        return logits

    def _scales(self, *names: str) -> list[tuple[nn.Module, ...]]:
        return list(zip(*(self.get_submodule(name).children() for name in names), strict=True))


def objective(network: nn.Module, batch: Batch, pixel: PixelLoss) -> Float[Tensor, ""]:
    """Return the loss of a batch: of the image, of what the sentence names, of the prediction.

    The two cross-entropies have weight 1 and move the head and the predictor alone: the paper
    trains both losses together and gives no weights.
    """
    restored = network(batch.lq, batch.condition)
    learner = cast("InstructIR", uncompiled(network))
    _, named = learner.head(learner.sentence(batch.lq, batch.condition))
    predicted = learner.predict(batch.lq, batch.condition)
    restored = restored.float()
    loss = pixel(restored, batch.gt)
    wanted, known = targets(batch.tasks, KINDS, named.float())
    if known:
        weights = steepness(pixel, restored, batch.gt)[known] / len(batch)
        for logits in (named, predicted):
            errors = F.cross_entropy(logits[known].float(), wanted, reduction="none")
            loss = loss + (weights * errors).sum()
    return loss


def build(config: InstructIRConfig, fast: bool) -> InstructIR:  # noqa: FBT001 - BackboneSpec.build
    """Make an InstructIR with fresh weights, and the prototypes of its encoder."""
    network = InstructIR(config, fast=fast)
    if not network.prototypes.is_meta:
        for row, name in enumerate(KINDS):
            network.prototypes[row] = torch.from_numpy(prototype(config.text, name))
    return network


SPEC = BackboneSpec(
    config=InstructIRConfig(),
    build=build,
    last=("ending",),
    precisions=("bfloat16",),
    windows=True,
    objective=objective,
    beyond=("head.", "predictor.", "prototypes"),
    version=2,
)
