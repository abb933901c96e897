"""Adapters: what an expert changes of the root's network, and putting the two together.

Only training one (`lora.py`) needs peft; a bundle is opened and used without it.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expertree.experts.backbones import BackboneConfig, build_backbone, nafnet_fast, restormer

DOWN, UP = "lora_A", "lora_B"
"""Under a layer's name: the factors of its change, from its input to `rank` numbers and on to its
output."""

NORMS = (nn.LayerNorm, nafnet_fast.ChannelNorm, restormer.ChannelNorm)
"""The norms of all backbones."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """LoRA (Hu et al. 2022): experts as low-rank changes to the root's network.

    The weight W of a linear layer or ungrouped convolution becomes W + alpha / rank * B A, with A
    and B trained and W the root's. Grouped (depth-wise) and transposed convolutions are trained
    whole: in a depth-wise one, two factors would be larger than the layer (METHOD section 4).
    """

    rank: int = 8
    """Rows of A and columns of B; the paper's (paper 000, appendix C)."""

    alpha: int = 16
    """The change is scaled by `alpha / rank`; the paper's."""

    train_norms: bool = False
    """Whether layer norms are trained too."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the field and the value.
        """
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdapterLayers:
    """The layers of a network that adapters change, by name.

    Attributes:
        factored: Get a change of low rank; their biases stay the root's.
        whole: Are replaced.
    """

    factored: tuple[str, ...]
    whole: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Adapter:
    """One expert's changes.

    Attributes:
        config: How they are meant.
        tensors: As `adapter_shapes` says.
    """

    config: AdapterConfig
    tensors: Mapping[str, Tensor]

    @property
    def changed(self) -> frozenset[str]:
        """Names of the network's tensors that it changes."""
        return frozenset(_changed(name) for name in self.tensors)

    def to(self, device: torch.device) -> "Adapter":
        """The same on a device."""
        moved = {name: value.to(device) for name, value in self.tensors.items()}
        return dataclasses.replace(self, tensors=moved)


def adapter_layers(network: nn.Module, config: AdapterConfig) -> AdapterLayers:
    """Decide which layers an adapter changes.

    Args:
        network: A backbone in the form that calls every layer as a module.
        config: How it changes them.
    """
    factored, whole = [], []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            factored.append(name)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or (
            config.train_norms and isinstance(layer, NORMS)
        ):
            whole.append(name)
    return AdapterLayers(factored=tuple(factored), whole=tuple(whole))


def adapter_shapes(backbone: BackboneConfig, config: AdapterConfig) -> dict[str, tuple[int, ...]]:
    """The tensors of an adapter: two factors under each layer's name, or what the layer itself has.

    No weights are allocated.

    Raises:
        ValueError: If the backbone cannot be built.
    """
    with torch.device("meta"):
        network = build_backbone(backbone, fast=False)
    layers = adapter_layers(network, config)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers.factored:
        out, *kernel = network.get_parameter(f"{layer}.weight").shape
        shapes[f"{layer}.{DOWN}"] = (config.rank, *kernel)
        shapes[f"{layer}.{UP}"] = (out, config.rank, *(1 for _ in kernel[1:]))
    for layer in layers.whole:
        for name, value in network.get_submodule(layer).named_parameters():
            shapes[f"{layer}.{name}"] = tuple(value.shape)
    return shapes


def merge(root: Mapping[str, Tensor], adapter: Adapter, into: Mapping[str, Tensor]) -> None:
    """Write what an expert has in place of the root's tensors.

    The result depends on the root and the adapter alone, to the bit, not on what was there before.

    Args:
        root: The root's tensors.
        adapter: The changes.
        into: Tensors that are written: those that the adapter changes, and no others. They may be
            the root's own.
    """
    scale = adapter.config.alpha / adapter.config.rank
    for name, value in adapter.tensors.items():
        layer, _, part = name.rpartition(".")
        if part == UP:
            down, weight = adapter.tensors[f"{layer}.{DOWN}"], into[_changed(name)]
            weight.copy_(root[_changed(name)])
            _matrix(weight).addmm_(_matrix(value), _matrix(down), alpha=scale)
        elif part != DOWN:
            into[name].copy_(value)


def _changed(name: str) -> str:
    """The network's tensor that an adapter's tensor changes."""
    layer, _, part = name.rpartition(".")
    return f"{layer}.weight" if part in (DOWN, UP) else name


def _matrix(weight: Tensor) -> Tensor:
    """A kernel as the matrix from its inputs to its outputs; no copy."""
    return weight.view(len(weight), -1)
