"""The list of backbones. A new one is a module beside this file and a line in `BACKBONES`."""

import dataclasses
import functools
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from expertree.experts.backbones import nafnet, promptir, restormer, retinexformer
from expertree.experts.backbones.spec import (
    BackboneConfig,
    BackboneDescriptor,
    BackboneSpec,
    Objective,
)

_GOPRO = {"width": 32, "encoder": (1, 1, 1, 28), "middle": 1, "decoder": (1, 1, 1, 1)}
_SIDD = {"width": 32, "encoder": (2, 2, 4, 8), "middle": 12, "decoder": (2, 2, 2, 2)}

BACKBONES: dict[str, BackboneSpec[Any]] = {
    "nafnet": nafnet.SPEC,
    "nafnet_gopro": nafnet.SPEC.with_layout(**_GOPRO),
    "nafnet_sidd": nafnet.SPEC.with_layout(**_SIDD),
    # Paper 000, table 7: 17.1 M parameters an expert, which is the GoPro layout.
    "litenaf": nafnet.SPEC.with_layout(**_GOPRO),
    "restormer": restormer.SPEC,
    # Paper 000, table 7.
    "lite_restormer": restormer.SPEC.with_layout(width=36),
    "retinexformer": retinexformer.SPEC,
    "promptir": promptir.SPEC,
}


def build_backbone(config: BackboneConfig, *, fast: bool = True) -> nn.Module:
    """Make a network with fresh weights, drawn from torch's global generator.

    Args:
        config: Which.
        fast: False for the form that calls every layer as a module: the same state dict and the
            same function, slower.

    Returns:
        A module from float `[batch, 3, height, width]` in [0, 1] to the same shape, any size. It
        does not clip.

    Raises:
        ValueError: If the name is unknown or the layout impossible.
    """
    spec = _spec(config)
    return spec.build(spec.layout, fast)


def start_at_identity(network: nn.Module, config: BackboneConfig) -> None:
    """Set the last layers of a network to zero, so that it gives its input until it has learnt.

    Gradients still reach every layer: the last ones move with the first step, the others with the
    second.

    Args:
        network: Made by `build_backbone`; changed in place.
        config: Which network it is.
    """
    ends = tuple(f".{name}" for name in _spec(config).last)
    for name, layer in network.named_modules():
        if f".{name}".endswith(ends):
            for parameter in layer.parameters(recurse=False):
                nn.init.zeros_(parameter)


def objective_of(config: BackboneConfig) -> Objective | None:
    """Return what a network is trained on, where that is more than the loss of its image.

    Raises:
        ValueError: If the name is unknown or the layout impossible.
    """
    return _spec(config).objective


def published_unused(config: BackboneConfig) -> tuple[str, ...]:
    """Beginnings of names in published files that belong to layers which are never used.

    Raises:
        ValueError: If the name is unknown or the layout impossible.
    """
    return _spec(config).unused


def resolve_backbone(config: BackboneConfig) -> BackboneConfig:
    """The same network under its kind's name, with every size given.

    Two configs are the same network exactly if this makes them equal.

    Raises:
        ValueError: If the name is unknown or the layout impossible.
    """
    spec = _spec(config)
    return BackboneConfig(name=spec.kind, **dataclasses.asdict(spec.layout))


def backbone_record(config: BackboneConfig) -> dict[str, Any]:
    """A network as plain data: its kind and all its sizes. What is stored and hashed.

    Raises:
        ValueError: If the name is unknown or the layout impossible.
    """
    resolved = dataclasses.asdict(resolve_backbone(config))
    return {name: value for name, value in resolved.items() if value is not None}


def describe_backbone(config: BackboneConfig) -> BackboneDescriptor:
    """Describe a network without allocating its weights.

    Raises:
        ValueError: If it cannot be built.
    """
    return _describe(resolve_backbone(config))


@functools.lru_cache(maxsize=64)
def _describe(resolved: BackboneConfig) -> BackboneDescriptor:
    spec = _spec(resolved)
    with torch.device("meta"):
        network = build_backbone(resolved, fast=False)
        image = torch.empty(1, 3, 512, 512)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    multiple = spec.layout.multiple_px
    return BackboneDescriptor(
        num_parameters=sum(p.numel() for p in network.parameters()),
        multiple_px=multiple,
        min_size_px=multiple // 2 + 1,
        multiply_adds_512=counter.get_total_flops() // 2,
        precisions=("float32", *spec.precisions),
    )


def _spec(config: BackboneConfig) -> BackboneSpec[Any]:
    if config.name not in BACKBONES:
        raise ValueError(f"no backbone named {config.name!r}; there are {sorted(BACKBONES)}")
    spec = BACKBONES[config.name]
    given = dataclasses.asdict(config)
    sizes = {field: given[field] for field in given if field != "name" and given[field] is not None}
    known = [field.name for field in dataclasses.fields(spec.layout)]
    strange = sorted(sizes.keys() - set(known))
    if strange:
        raise ValueError(
            f"the backbone {config.name!r} has no {', '.join(strange)}; it has {', '.join(known)}"
        )
    return spec.with_layout(**sizes)
