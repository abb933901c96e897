"""Adapters: an expert's changes to the root's network, and the merging of both.

Only training one (`lora.py`) needs peft; a bundle is opened and used without it.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expertree.experts.backbones import BackboneConfig, Norm, build_backbone

DOWN, UP = "lora_A", "lora_B"
"""Names of the two factors of a layer's change: from its input to `rank` numbers, and from these to
its output."""


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
    """Strength of the change, which is scaled by `alpha / rank`; the paper's."""

    train_norms: bool = False
    """Whether norms of layers and batches are trained too; their statistics stay the root's."""

    def __post_init__(self) -> None:
        """Raise ValueError for a `rank` or `alpha` below 1; it names the field and the value."""
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdapterLayers:
    """The layers of a network that adapters change, by name.

    Attributes:
        factored: Layers that get a change of low rank; their biases stay the root's.
        whole: Layers that are replaced.
    """

    factored: tuple[str, ...]
    whole: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Adapter:
    """One expert's changes to the root's network.

    Attributes:
        config: The settings they were trained with.
        tensors: Tensors with the names and shapes of `adapter_shapes`.
    """

    config: AdapterConfig
    tensors: Mapping[str, Tensor]

    @property
    def changed(self) -> frozenset[str]:
        """Names of the network's tensors that the adapter changes."""
        return frozenset(_changed(name) for name in self.tensors)

    def to(self, device: torch.device) -> "Adapter":
        """Return the adapter on a device."""
        moved = {name: value.to(device) for name, value in self.tensors.items()}
        return dataclasses.replace(self, tensors=moved)


def adapter_layers(network: nn.Module, config: AdapterConfig) -> AdapterLayers:
    """Return the layers that an adapter changes.

    Args:
        network: A backbone in the form that calls every layer as a module.
        config: The adapter's settings.
    """
    factored, whole = [], []
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
            factored.append(name)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or (
            config.train_norms and isinstance(layer, nn.LayerNorm | nn.BatchNorm2d | Norm)
        ):
            whole.append(name)
    return AdapterLayers(factored=tuple(factored), whole=tuple(whole))


def adapter_shapes(backbone: BackboneConfig, config: AdapterConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an adapter's tensors by name.

    There are two factors under a layer's name, or the layer's own parameters. No weights are
    allocated.

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
    """Write the tensors of an expert that differ from the root's.

    The result depends on the root and the adapter alone, to the bit, not on what was there before.

    Args:
        root: The root's tensors.
        adapter: The expert's changes.
        into: Tensors to write to: those that the adapter changes, and no others. They may be the
            root's own.
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
    """Return the name of the network's tensor that an adapter's tensor changes."""
    layer, _, part = name.rpartition(".")
    return f"{layer}.weight" if part in (DOWN, UP) else name


def _matrix(weight: Tensor) -> Tensor:
    """Return a kernel as the matrix from its inputs to its outputs, without a copy."""
    return weight.view(len(weight), -1)
