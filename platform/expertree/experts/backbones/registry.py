"""The list of backbones. A new one is a module beside this file and a line in `BACKBONES`."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from expertree.config import Named
from expertree.experts.backbones import (
    adair,
    airnet,
    instructir,
    lora_ir,
    moce_ir,
    nafnet,
    promptir,
    restormer,
    retinexformer,
    sler_ir,
)
from expertree.experts.backbones.spec import (
    BackboneConfig,
    BackboneDescriptor,
    BackboneSpec,
    Need,
    Objective,
    Phase,
)
from expertree.experts.choices import Choosing

_GOPRO = {"width": 32, "encoder": (1, 1, 1, 28), "middle": 1, "decoder": (1, 1, 1, 1)}
_SIDD = {"width": 32, "encoder": (2, 2, 4, 8), "middle": 12, "decoder": (2, 2, 2, 2)}
# About 6.4 billion multiply-adds for 512 x 512, as others that a CPU trains; for crops of 64 px.
_SMALL = {
    "encoder": (1, 1, 1),
    "middle": 1,
    "decoder": (1, 1, 1),
    "refinement": 1,
    "expansion": 2.0,
}

_ONES = {"encoder": (1, 1, 1), "middle": 1, "decoder": (1, 1, 1)}

BACKBONES: dict[str, BackboneSpec[Any]] = {
    "nafnet": nafnet.SPEC,
    "nafnet_gopro": nafnet.SPEC.with_sizes(**_GOPRO),
    "nafnet_sidd": nafnet.SPEC.with_sizes(**_SIDD),
    # Paper 000, table 7: 17.1 M parameters an expert, which is the GoPro layout.
    "litenaf": nafnet.SPEC.with_sizes(**_GOPRO),
    "restormer": restormer.SPEC,
    # Paper 000, table 7.
    "lite_restormer": restormer.SPEC.with_sizes(width=36),
    "retinexformer": retinexformer.SPEC,
    "promptir": promptir.SPEC,
    "adair": adair.SPEC,
    "adair_small": adair.SPEC.with_sizes(**_SMALL, width=8, heads=(1, 2, 4, 8)),
    "moce_ir": moce_ir.SPEC,
    # The paper's own smaller one.
    "moce_ir_s": moce_ir.SPEC.with_sizes(width=32),
    "moce_ir_small": moce_ir.SPEC.with_sizes(
        **_SMALL, width=10, heads=(1, 2, 2, 4), windows=(2, 4, 8, 16)
    ),
    "airnet": airnet.SPEC,
    "airnet_small": airnet.SPEC.with_sizes(width=12, groups=1, blocks=1, embedding=64, queue=1024),
    "instructir": instructir.SPEC,
    "instructir_small": instructir.SPEC.with_sizes(width=16, **_ONES, told_width=64),
    "lora_ir": lora_ir.SPEC,
    "lora_ir_small": lora_ir.SPEC.with_sizes(
        width=20,
        **_ONES,
        rank=4,
        alpha=8,
        embed_dim=512,
        router_hidden=64,
        router_dim=64,
        gate_hidden=32,
    ),
    "sler_ir": sler_ir.SPEC,
    "sler_ir_small": sler_ir.SPEC.with_sizes(**_SMALL, width=8, router_dim=32, prior_width=64),
}


PRESETS: Named[BackboneConfig] = Named(
    what="backbone", presets={name: spec.config for name, spec in BACKBONES.items()}
)
"""The sizes that each name stands for."""

Backbone = Annotated[BackboneConfig, PRESETS]
"""A network in a configuration: `{name: litenaf, width: 64}` is that name's sizes but for one."""


def backbone_config(name: str, **sizes: Any) -> BackboneConfig:
    """Return the sizes that a name stands for, with others in place of some.

    Args:
        name: A key of `BACKBONES`.
        sizes: Fields of that network's config.

    Raises:
        ValueError: If the name is unknown, the network has no such size, or it cannot be built.
    """
    return dataclasses.replace(PRESETS.preset(name, sizes), **sizes)


def build_backbone(config: BackboneConfig, *, fast: bool = True) -> nn.Module:
    """Make a network with fresh weights, drawn from torch's global generator.

    Args:
        config: The network.
        fast: False for the form that calls every layer as a module: the same state dict and the
            same function, slower.

    Returns:
        A module from float `[batch, 3, height, width]` in [0, 1] to the same shape, any size. It
        does not clip.
    """
    return BACKBONES[config.name].build(config, fast)


def start_at_identity(network: nn.Module, config: BackboneConfig) -> None:
    """Set the last layers of a network to zero, so that it gives its input until it has learnt.

    Gradients still reach every layer: the last ones move with the first step, the others with the
    second.

    Args:
        network: Made by `build_backbone`; changed in place.
        config: Which network it is.
    """
    ends = tuple(f".{name}" for name in BACKBONES[config.name].last)
    for name, layer in network.named_modules():
        if f".{name}".endswith(ends):
            for parameter in layer.parameters(recurse=False):
                nn.init.zeros_(parameter)


def objective_of(config: BackboneConfig) -> Objective | None:
    """Return what a network is trained on, where that is more than the loss of its image."""
    return BACKBONES[config.name].objective


def version_of(config: BackboneConfig) -> int:
    """Return the version of a network's training; see `BackboneSpec`."""
    return BACKBONES[config.name].version


def phases_of(config: BackboneConfig) -> tuple[Phase, ...]:
    """Return the parts of a network's training."""
    return BACKBONES[config.name].phases


def phased(config: BackboneConfig) -> bool:
    """Return whether a network is trained in several phases.

    An expert that starts from another one's weights then has the last of them alone.
    """
    return len(phases_of(config)) > 1


def needs_of(config: BackboneConfig) -> frozenset[Need]:
    """Return what a network's objective wants of a batch beside the pairs."""
    return BACKBONES[config.name].needs


def published_beyond(config: BackboneConfig) -> tuple[str, ...]:
    """Return beginnings of names that published files lack."""
    return BACKBONES[config.name].beyond


def published_unused(config: BackboneConfig) -> tuple[str, ...]:
    """Return beginnings of names in published files whose layers are never used."""
    return BACKBONES[config.name].unused


def has_windows(config: BackboneConfig) -> bool:
    """Return whether a network can take its means over windows of large images."""
    return BACKBONES[config.name].windows


def chooses(config: BackboneConfig) -> bool:
    """Return whether a network sends images to experts of its own, and says to which."""
    with torch.device("meta"):
        return isinstance(build_backbone(config, fast=False), Choosing)


@functools.lru_cache(maxsize=64)
def describe_backbone(config: BackboneConfig) -> BackboneDescriptor:
    """Describe a network without allocating its weights."""
    with torch.device("meta"):
        network = build_backbone(config, fast=False)
        image = torch.empty(1, 3, 512, 512)
    costs, sizes = [], []
    for way in BACKBONES[config.name].ways(config):
        with _called(network) as called, FlopCounterMode(display=False) as counter:
            network(image, **way)
        costs.append(counter.get_total_flops() // 2)
        sizes.append(_size_of(network, called))
    multiple = config.multiple_px
    return BackboneDescriptor(
        num_parameters=sum(p.numel() for p in network.parameters()),
        multiple_px=multiple,
        min_size_px=multiple // 2 + 1,
        multiply_adds_512=max(costs),
        least_multiply_adds_512=min(costs),
        num_active_parameters=max(sizes),
        precisions=("float32", *BACKBONES[config.name].precisions),
    )


@contextlib.contextmanager
def _called(network: nn.Module) -> Iterator[set[str]]:
    """Yield a set that fills with the names of modules that are called; takes no gradients."""
    called: set[str] = set()

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, _arguments: called.add(name)

    hooks = [
        module.register_forward_pre_hook(note(name)) for name, module in network.named_modules()
    ]
    try:
        with torch.no_grad():
            yield called
    finally:
        for hook in hooks:
            hook.remove()


def _size_of(network: nn.Module, called: set[str]) -> int:
    """Return the scalars of modules that were called, or that a called one uses as its own."""
    return sum(
        parameter.numel()
        for name, module in network.named_modules()
        if name in called or name.rpartition(".")[0] in called
        for parameter in module.parameters(recurse=False)
    )
