"""What a backbone is: the config that builds it, and what others may know without building it."""

import dataclasses
from collections.abc import Callable

from torch import nn


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackboneConfig:
    """A network's layout. The default is the small one of the demo, which a CPU trains in minutes.

    Attributes:
        name: A key of `registry.BACKBONES`.
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down; each scale halves the sides.
        middle: Blocks at the smallest scale.
        decoder: Blocks at each scale on the way up.
    """

    name: str = "nafnet"
    width: int = 16
    encoder: tuple[int, ...] = (1, 1, 1)
    middle: int = 1
    decoder: tuple[int, ...] = (1, 1, 1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSpec:
    """One line of the registry.

    Attributes:
        build: Makes the network with fresh weights: float RGB BCHW in, the same out, any height and
            width. Its state dict has the names of the published weights.  The flag asks for the
            fast form, which computes the same; the other form calls every layer as a module, which
            adapters need.
        check: Raises ValueError where a config cannot be this network.
        multiple_px: The sides' multiple that the network works in (it pads and crops by itself).
        precisions: What it may be trained in, besides float32.
    """

    build: Callable[[BackboneConfig, bool], nn.Module]
    check: Callable[[BackboneConfig], None]
    multiple_px: Callable[[BackboneConfig], int]
    precisions: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackboneDescriptor:
    """What a planner, a bundle and a report say about a network.

    Attributes:
        num_parameters: Trainable scalars.
        multiple_px: The sides' multiple that the network pads to by itself; tiles should be a
            multiple of it.
        min_size_px: The smallest side for which its padding is pure reflection; smaller images work
            too, padded by their border.
        multiply_adds_512: Multiplications with addition for one 512 x 512 image.
        precisions: float32 and what else it may be trained in.
    """

    num_parameters: int
    multiple_px: int
    min_size_px: int
    multiply_adds_512: int
    precisions: tuple[str, ...]
