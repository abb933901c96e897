"""The list of backbones. A new one is a module beside this file and a line in `BACKBONES`."""

import functools

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from expertree.experts.backbones import nafnet
from expertree.experts.backbones.spec import BackboneConfig, BackboneDescriptor, BackboneSpec

BACKBONES: dict[str, BackboneSpec] = {
    "nafnet": nafnet.SPEC,
}


def build_backbone(config: BackboneConfig, *, fast: bool = True) -> nn.Module:
    """Make a network with fresh weights, drawn from torch's global generator.

    Args:
        config: Its layout.
        fast: False for the form that calls every layer as a module: the same state dict and the
            same function, slower.

    Returns:
        A module from float `[batch, 3, height, width]` in [0, 1] to the same shape, any size. It
        does not clip.

    Raises:
        ValueError: If the name is unknown or the layout impossible.
    """
    check_backbone(config)
    return BACKBONES[config.name].build(config, fast)


def check_backbone(config: BackboneConfig) -> None:
    """Raise ValueError unless `config` can be built."""
    if config.name not in BACKBONES:
        raise ValueError(f"no backbone named {config.name!r}; there are {sorted(BACKBONES)}")
    BACKBONES[config.name].check(config)


@functools.lru_cache(maxsize=64)
def describe_backbone(config: BackboneConfig) -> BackboneDescriptor:
    """Describe a network without allocating its weights.

    Raises:
        ValueError: If it cannot be built.
    """
    with torch.device("meta"):
        network = build_backbone(config, fast=False)
        image = torch.empty(1, 3, 512, 512)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    spec = BACKBONES[config.name]
    multiple = spec.multiple_px(config)
    return BackboneDescriptor(
        num_parameters=sum(p.numel() for p in network.parameters()),
        multiple_px=multiple,
        min_size_px=multiple // 2 + 1,
        multiply_adds_512=counter.get_total_flops() // 2,
        precisions=("float32", *spec.precisions),
    )
