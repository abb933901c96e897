"""What a backbone is: the config that names it, and what others may know without building it."""

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from torch import Tensor, nn

from expertree.experts.batches import Batch


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackboneConfig:
    """A network by name, and what differs from the sizes that the name stands for.

    A field that is null takes the size that goes with the name; a field that the kind does not have
    is refused. So another name alone is another whole network.

    Attributes:
        name: A key of `registry.BACKBONES`. The default is the small NAFNet of the demo, which
            a CPU trains in minutes.
        width: Channels at full resolution.
        encoder: Blocks at each scale on the way down; each scale halves the sides.
        middle: Blocks at the smallest scale.
        decoder: Blocks at each scale on the way up.
        heads: Attention heads at each scale on the way down, the smallest scale's last.
        refinement: Blocks at full resolution after the decoder.
        expansion: Channels inside a feed-forward layer over those of its input.
        norm_bias: Whether layer norms centre their input and add a bias.
        stages: Whole networks in a row.
        prompts: Prompts to weigh at each place that has them.
        prompt_widths: Channels of the prompts at each place, the smallest scale's first.
        prompt_px: Sides of the prompts at each place.
    """

    name: str = "nafnet"
    width: int | None = None
    encoder: tuple[int, ...] | None = None
    middle: int | None = None
    decoder: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    refinement: int | None = None
    expansion: float | None = None
    norm_bias: bool | None = None
    stages: int | None = None
    prompts: int | None = None
    prompt_widths: tuple[int, ...] | None = None
    prompt_px: tuple[int, ...] | None = None


PixelLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From restored and clean crops to the recipe's loss."""

Objective: TypeAlias = Callable[[nn.Module, Batch, PixelLoss], Tensor]
"""From the network, a batch and the recipe's loss to the mean loss of the batch: for networks that
are trained on more than the image that they give, by losses inside or by the tasks of the samples.
It must be a mean over samples, since batches are cut into pieces."""


class Layout(Protocol):
    """All sizes of one kind: a frozen dataclass whose fields are some of `BackboneConfig`'s.

    It raises ValueError where it cannot be built.
    """

    @property
    def multiple_px(self) -> int:
        """The sides' multiple that the network works in (it pads and crops by itself)."""


L = TypeVar("L", bound=Layout)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSpec(Generic[L]):
    """One line of the registry.

    Attributes:
        kind: The name under which results are stored: several names may stand for sizes of one
            kind.
        layout: The sizes that the name stands for.
        build: Makes the network with fresh weights: float RGB BCHW in, the same out, any height and
            width. Its state dict has the names of the published weights.  The flag asks for the
            fast form, which computes the same; the other form calls every layer as a module, which
            adapters need.
        last: Layers by name, or by the end of it: what they give is all that the network adds to
            its input, so that it is the identity where their weights are zero.
        precisions: What it may be trained in, besides float32.
        objective: What it is trained on, where that is more than the loss of its image.
        unused: Beginnings of names in published files whose weights no image ever meets; they are
            passed over.
    """

    kind: str
    layout: L
    build: Callable[[L, bool], nn.Module]
    last: tuple[str, ...]
    precisions: tuple[str, ...] = ()
    objective: Objective | None = None
    unused: tuple[str, ...] = ()

    def with_layout(self, **sizes: Any) -> "BackboneSpec[L]":
        """The same kind with other sizes.

        Raises:
            ValueError: If it cannot be built.
        """
        layout: Any = self.layout
        return dataclasses.replace(self, layout=dataclasses.replace(layout, **sizes))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackboneDescriptor:
    """What a planner, a bundle and a report say about a network.

    Attributes:
        num_parameters: Trainable scalars.
        multiple_px: The sides' multiple that the network pads to by itself; tiles should be a
            multiple of it.
        min_size_px: The smallest side for which its padding is pure reflection; smaller images work
            too, padded by their border.
        multiply_adds_512: Multiplications with addition for one 512 x 512 image, the products of
            attention included (papers often leave them out).
        precisions: float32 and what else it may be trained in.
    """

    num_parameters: int
    multiple_px: int
    min_size_px: int
    multiply_adds_512: int
    precisions: tuple[str, ...]
