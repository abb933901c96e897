"""LoRA-IR, written from the paper: low-rank experts of a NAFNet, chosen by a router.

Paper 002 (Ai et al., LoRA-IR: Taming Low-Rank Experts for Efficient All-in-One Image Restoration):
a router tells kinds of degradation apart by what an extractor sees in the whole image, made small
and in windows; its features gate the network's channels, its logits choose experts, which are
changes of low rank to the network's weights. It is trained in three phases: the router alone, the
network, the experts. What the paper leaves open is settled in METHOD section 4.
"""

import dataclasses
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from expertree.experts.backbones.kinds import KINDS, targets
from expertree.experts.backbones.nafnet import NAFNet, NAFNetConfig
from expertree.experts.backbones.padding import pad_to_multiple
from expertree.experts.backbones.restormer import ChannelNorm
from expertree.experts.backbones.spec import (
    BackboneConfig,
    BackboneSpec,
    Phase,
    PixelLoss,
    config_inside,
    uncompiled,
)
from expertree.experts.batches import Batch
from expertree.experts.conditions import NOTHING, Condition, Informed, Source, told

_LEAST_SQUEEZED = 4
"""Fewest channels inside a gate; the paper's networks have a sixteenth of all, which is more."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoRAIRConfig(BackboneConfig):
    """A LoRA-IR's sizes; those of the paper by default.

    Attributes:
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down; each scale halves the sides.
        middle: Blocks at the smallest scale.
        decoder: Blocks at each scale on the way up.
        gated_decoder: Whether gates stand before the scales on the way up, as the paper's figure 4
            has them; the released code has them before the others alone.
        kinds: Kinds of degradation that the router tells apart; each has an expert.
        rank: Rank of the experts' changes.
        alpha: Their strength: a change counts `alpha / rank` times.
        top: Experts that are mixed for an image, by the softmax of their logits.
        embed_dim: Length of the extractor's embeddings.
        router_hidden: Numbers inside the router.
        router_dim: Numbers that the router gates channels by.
        gate_hidden: Numbers inside a gate.
    """

    name: str = dataclasses.field(default="lora_ir", init=False)
    width: int = 64
    encoder: tuple[int, ...] = (1, 1, 1, 28)
    middle: int = 1
    decoder: tuple[int, ...] = (1, 1, 1, 1)
    gated_decoder: bool = True
    kinds: tuple[str, ...] = KINDS
    rank: int = 8
    alpha: int = 16
    top: int = 1
    embed_dim: int = 768
    router_hidden: int = 768
    router_dim: int = 384
    gate_hidden: int = 128

    def __post_init__(self) -> None:
        """Raise ValueError unless it is a LoRA-IR."""
        _ = self.nafnet
        if not 1 <= self.top <= len(set(self.kinds)) == len(self.kinds):
            raise ValueError(
                f"lora_ir needs different kinds, and at most as many experts at once; got "
                f"{list(self.kinds)} and top={self.top}"
            )
        sizes = (self.rank, self.alpha, self.embed_dim, self.router_hidden, self.router_dim)
        if min(*sizes, self.gate_hidden) < 1:
            raise ValueError(f"lora_ir needs positive ranks and sizes; got {self}")

    @property
    def nafnet(self) -> NAFNetConfig:
        """The same without gates and experts."""
        return config_inside(self, NAFNetConfig)

    @property
    def multiple_px(self) -> int:
        """Each scale of the encoder halves the sides."""
        return self.nafnet.multiple_px

    @property
    def told(self) -> tuple[Source, ...]:
        """The image in windows, and made small."""
        return ("embedding", "squeezed")

    @property
    def told_dim(self) -> int:
        """Length of the extractor's embeddings."""
        return self.embed_dim


class Router(nn.Module):
    """The degradation-guided router: features of what is wrong, and logits of its kinds."""

    def __init__(self, config: LoRAIRConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * config.embed_dim, config.router_hidden),
            nn.GELU(),
            nn.Linear(config.router_hidden, config.router_dim),
            nn.GELU(),
        )
        self.head = nn.Linear(config.router_dim, len(config.kinds))

    def forward(
        self, squeezed: Float[Tensor, "b embed"], windows: Float[Tensor, "b embed"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b kinds"]]:
        """Return features and logits of embeddings of the image made small and in windows."""
        seen = [F.layer_norm(part, part.shape[-1:]) for part in (squeezed, windows)]
        features = self.mlp(torch.cat(seen, dim=-1))
        return features, self.head(features)


class Gate(nn.Module):
    """DAM: adds normalised features, weighed by channel by what is wrong with the image."""

    def __init__(self, width: int, config: LoRAIRConfig) -> None:
        super().__init__()
        squeezed = max(width // 16, _LEAST_SQUEEZED)
        self.norm = ChannelNorm(width, bias=True)
        self.weigh = nn.Sequential(
            nn.Linear(config.router_dim, config.gate_hidden),
            nn.GELU(),
            nn.Linear(config.gate_hidden, width),
            nn.Linear(width, squeezed),
            nn.ReLU(),
            nn.Linear(squeezed, width),
            nn.Sigmoid(),
        )
        self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(
        self, x: Float[Tensor, "b c h w"], wrong: Float[Tensor, "b dim"]
    ) -> Float[Tensor, "b c h w"]:
        """Add them; it begins as the identity."""
        gated: Tensor = x + self.beta * self.norm(x) * self.weigh(wrong)[:, :, None, None]
        return gated


class GatedNAFNet(nn.Module):
    """A NAFNet with a gate before each scale."""

    def __init__(self, config: LoRAIRConfig, *, fast: bool) -> None:
        super().__init__()
        scales = range(len(config.encoder))
        for name, layer in NAFNet(config.nafnet, fast=fast).named_children():
            self.add_module(name, layer)
        size = config.router_dim
        self.shared = nn.Sequential(
            nn.Linear(size, size), nn.GELU(), nn.Linear(size, size), nn.GELU()
        )
        down = [config.width << scale for scale in (*scales, len(scales))]
        up = [config.width << scale for scale in reversed(scales)]
        self.gates = nn.ModuleList(
            Gate(width, config) for width in (*down, *(up if config.gated_decoder else ()))
        )

    def forward(
        self, padded: Float[Tensor, "b 3 h w"], features: Float[Tensor, "b dim"]
    ) -> Float[Tensor, "b 3 h w"]:
        """Restore images whose sides are multiples of the network's."""
        wrong = self.shared(features)
        gates = iter(self.gates)
        x = self.get_submodule("intro")(padded)
        skips: list[Tensor] = []
        for encoder, down in self._scales("encoders", "downs"):
            x = encoder(next(gates)(x, wrong))
            skips.append(x)
            x = down(x)
        x = self.get_submodule("middle_blks")(next(gates)(x, wrong))
        for decoder, up in self._scales("decoders", "ups"):
            x = up(x) + skips.pop()
            gate = next(gates, None)
            x = decoder(x if gate is None else gate(x, wrong))
        restored: Tensor = self.get_submodule("ending")(x) + padded
        return restored

    def _scales(self, *names: str) -> list[tuple[nn.Module, ...]]:
        return list(zip(*(self.get_submodule(name).children() for name in names), strict=True))


class Expert(nn.Module):
    """One expert's changes to a network's weights, which begin as none.

    A linear layer or ungrouped convolution gets two factors, the first random and the second zero;
    a depth-wise convolution, for which they would be larger than it is, a change of its own.
    """

    def __init__(self, network: nn.Module, rank: int) -> None:
        super().__init__()
        self.down, self.up, self.whole = (nn.ParameterDict() for _ in range(3))
        for name, layer in network.named_modules():
            key = name.replace(".", "/")
            if not isinstance(layer, nn.Linear | nn.Conv2d):
                continue
            if isinstance(layer, nn.Conv2d) and layer.groups > 1:
                for part, value in layer.named_parameters():
                    self.whole[f"{key}/{part}"] = nn.Parameter(torch.zeros_like(value))
                continue
            out, *kernel = layer.weight.shape
            self.down[key] = nn.Parameter(torch.empty(rank, *kernel))
            self.up[key] = nn.Parameter(torch.zeros(out, rank))
            nn.init.kaiming_uniform_(self.down[key], a=5**0.5)

    def changes(self, scale: float) -> dict[str, Tensor]:
        """Return the changes of weights, by their names in the network."""
        found = {key.replace("/", "."): value for key, value in self.whole.items()}
        for key, up in self.up.items():
            down = self.down[key]
            change = scale * (up @ down.flatten(1))
            found[key.replace("/", ".") + ".weight"] = change.view(len(up), *down.shape[1:])
        return found


class LoRAIR(Informed):
    """A gated NAFNet whose weights change with what is wrong with the whole image.

    Attributes:
        multiple_px: 2 to the number of scales.
        config: Its sizes.
    """

    def __init__(self, config: LoRAIRConfig, *, fast: bool) -> None:
        super().__init__()
        self.multiple_px, self.config = config.multiple_px, config
        self.router = Router(config)
        self.net = GatedNAFNet(config, fast=fast)
        self.experts = nn.ModuleList(Expert(self.net, config.rank) for _ in config.kinds)

    def forward(
        self,
        image: Float[Tensor, "b 3 h w"],
        condition: Condition = NOTHING,
        *,
        plain: bool = False,
    ) -> Float[Tensor, "b 3 h w"]:
        """Restore images: float RGB in [0, 1], any size; the result is not clipped.

        Rows with the same weights of experts go through the network together.

        Args:
            image: Images.
            condition: What is seen in them.
            plain: Whether to leave the experts out.
        """
        features, logits = self.judge(image, condition)
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, self.multiple_px)
        padded = padded.contiguous(memory_format=torch.channels_last)
        if plain or image.is_meta:
            restored: Tensor = self.net(padded, features)
            return restored[..., :height, :width]
        groups: dict[tuple[float, ...], list[int]] = {}
        for row, weights in enumerate(self.weights(logits).tolist()):
            groups.setdefault(tuple(weights), []).append(row)
        found: list[Tensor] = [padded[0]] * len(padded)
        for shares, rows in groups.items():
            part = functional_call(self.net, self._merged(shares), (padded[rows], features[rows]))
            for row, value in zip(rows, part, strict=True):
                found[row] = value
        return torch.stack(found)[..., :height, :width]

    def judge(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b kinds"]]:
        """Return the router's features and logits."""
        squeezed = told(condition, "squeezed", image, self.config.embed_dim)
        windows = told(condition, "embedding", image, self.config.embed_dim)
        features, logits = self.router(squeezed, windows)
        return features, logits

    def restore_and_choose(
        self, image: Float[Tensor, "b 3 h w"], condition: Condition = NOTHING
    ) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b 1 kinds"]]:
        """Restore images as `forward`, and return the expert that weighs most for each."""
        _, logits = self.judge(image, condition)
        heaviest = F.one_hot(logits.argmax(dim=-1, keepdim=True), len(self.config.kinds))
        return self(image, condition), heaviest

    def weights(self, logits: Float[Tensor, "b kinds"]) -> Float[Tensor, "b kinds"]:
        """Return the weights of experts: the softmax of the highest logits, and zeros."""
        highest = logits.detach().float().topk(self.config.top, dim=-1)
        return torch.zeros_like(logits.detach().float()).scatter(
            -1, highest.indices, highest.values.softmax(dim=-1)
        )

    def _merged(self, shares: tuple[float, ...]) -> dict[str, Tensor]:
        """Return the network's parameters with those experts' changes."""
        merged: dict[str, Tensor] = dict(self.net.named_parameters())
        scale = self.config.alpha / self.config.rank
        for share, expert in zip(shares, self.experts, strict=True):
            if share > 0.0:
                for name, change in cast("Expert", expert).changes(scale).items():
                    merged[name] = merged[name] + share * change
        return merged


def objective(network: nn.Module, batch: Batch, pixel: PixelLoss) -> Float[Tensor, ""]:
    """Return the loss of a batch: the router's cross-entropy at first, then that of the image.

    The image is the network's without experts in the second phase, and with them in the third.
    """
    learner = cast("LoRAIR", uncompiled(network))
    if batch.phase > 0:
        restored = network(batch.lq, batch.condition, plain=batch.phase == 1)
        return pixel(restored.float(), batch.gt)
    _, logits = learner.judge(batch.lq, batch.condition)
    wanted, known = targets(batch.tasks, learner.config.kinds, logits.float())
    if not known:
        return 0.0 * logits.float().sum()
    share = len(known) / len(batch)
    return share * F.cross_entropy(logits[known].float(), wanted)


def build(config: LoRAIRConfig, fast: bool) -> LoRAIR:  # noqa: FBT001 - BackboneSpec.build
    """Make a LoRA-IR with fresh weights."""
    return LoRAIR(config, fast=fast)


SPEC = BackboneSpec(
    config=LoRAIRConfig(),
    build=build,
    last=("ending",),
    precisions=("bfloat16",),
    windows=True,
    objective=objective,
    phases=(
        Phase(until=0.05, still=("net.", "experts.")),
        Phase(until=0.68, still=("router.", "experts.")),
        # As published: 1e-4 after 1e-3. At the full rate Muon's steps on the factors blow it up.
        Phase(until=1.0, still=("router.", "net."), rate=0.1),
    ),
    adaptable=False,
    version=4,
)
