"""What a backbone is: the config of its sizes, and what others may know without building it."""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from torch import Tensor, nn

from expertree.experts.batches import Batch
from expertree.experts.conditions import SEEN, Source

Inner = TypeVar("Inner", bound="BackboneConfig")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackboneConfig(abc.ABC):
    """All sizes of a network: each network has a frozen dataclass of its own below this one.

    It raises ValueError where it cannot be built. Two configs are equal exactly if they are the
    same network, whatever preset they came from. `dataclasses.asdict` of it is what is stored, and
    what results are found by: another field, or another name of one, makes other results.

    Attributes:
        name: The network's key in `registry.BACKBONES`; a class sets it and nobody else can.
    """

    name: str = dataclasses.field(init=False)

    @property
    @abc.abstractmethod
    def multiple_px(self) -> int:
        """The sides' multiple that the network works in (it pads and crops by itself)."""

    @property
    def told(self) -> tuple[Source, ...]:
        """What the network, which is then `Informed`, is told beside pixels: nothing by default."""
        return ()

    @property
    def seen(self) -> tuple[Source, ...]:
        """What of that an extractor finds in the image; the rest is said."""
        return tuple(source for source in self.told if source in SEEN)

    @property
    def told_dim(self) -> int | None:
        """Length of the extractor's embeddings that it takes; None if it takes none."""
        return None

    @property
    def sentence_encoder(self) -> str | None:
        """The encoder of the sentences that it takes (`sentences.py`); None if it takes none."""
        return None


def config_inside(config: BackboneConfig, kind: type[Inner]) -> Inner:
    """Return the config of the smaller network inside another: its sizes of the same names."""
    names = [field.name for field in dataclasses.fields(kind) if field.init]
    return kind(**{name: getattr(config, name) for name in names})


class Norm(nn.Module):
    """A layer norm of a network's own, which adapters find by this class, like `nn.LayerNorm`."""


RowsOfAll: TypeAlias = Callable[[Tensor], Tensor]
"""From this worker's rows to those of all workers, in the workers' order."""


class Joined(nn.Module, abc.ABC):
    """A part of a network whose buffers' mean over workers would be none of its own.

    Where several workers train it, it joins them by itself; it is found by this class.

    Attributes:
        joined: Names of these buffers, each the part's own; all others are averaged.
    """

    joined: tuple[str, ...]

    @abc.abstractmethod
    def join(self, before: Mapping[str, Tensor], rows_of_all: RowsOfAll) -> None:
        """Make these buffers the same in all workers, once each has been through its samples.

        Args:
            before: The buffers before the step, the same in all workers.
            rows_of_all: Gathers rows; all workers must call it alike, with any number of rows.
        """


PixelLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From restored and clean crops to the recipe's loss. What an objective adds to it is multiplied by
`losses.steepness`, so that published weights count as they do beside the mean absolute error."""

Objective: TypeAlias = Callable[[nn.Module, Batch, PixelLoss], Tensor]
"""From the network, a batch and the recipe's loss to the mean loss of the batch: for networks that
are trained on more than the image that they give, by losses inside or by the tasks of the samples.
It must be a mean over samples, since batches are cut into pieces."""


def uncompiled(network: nn.Module) -> nn.Module:
    """Return the network that torch.compile was given, for an objective to call methods of."""
    inner: nn.Module = getattr(network, "_orig_mod", network)
    return inner


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A part of a network's training; each has a learning rate that rises and falls.

    Attributes:
        until: Share of the training's samples at which it ends, in (0, 1].
        still: Beginnings of names of parameters that keep their values in it.
        rate: Factor on the recipe's learning rates in it.
    """

    until: float
    still: tuple[str, ...] = ()
    rate: float = 1.0


ONE_PHASE = (Phase(until=1.0),)

Need = Literal["second"]
"""What an objective wants of a batch beside the pairs: another crop of each degraded patch."""

ONE_WAY: Sequence[Mapping[str, Any]] = ({},)


C = TypeVar("C", bound=BackboneConfig)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BackboneSpec(Generic[C]):
    """One line of the registry.

    Attributes:
        config: The sizes that the name stands for.
        build: Makes the network with fresh weights: float RGB BCHW in, the same out, any height and
            width. Its state dict has the names of the published weights.  The flag asks for the
            fast form, which computes the same; the other form calls every layer as a module, which
            adapters need.
        last: Layers by name, or by the end of it: what they give is all that the network adds to
            its input, so that it is the identity where their weights are zero. Empty if it adds
            nothing to its input: it then starts at random, whatever the recipe says.
        precisions: What it may be trained in, besides float32.
        objective: What it is trained on, where that is more than the loss of its image.
        unused: Beginnings of names in published files whose weights no image ever meets; they are
            passed over.
        beyond: Beginnings of names that published files lack; these stay as they are.
        phases: Parts of its training, in order; the last one ends with it.
        needs: What its objective wants of a batch.
        ways: Keyword arguments of a call of the network, for each way that an image may take
            through it, where they cost differently.
        adaptable: Whether experts may be adapters on it.
        windows: Whether it can take means over windows of large images, see `nafnet_layers`.
        version: Raise it when the same settings would train other weights: stored experts of this
            network are then not taken again.
    """

    config: C
    build: Callable[[C, bool], nn.Module]
    last: tuple[str, ...]
    precisions: tuple[str, ...] = ()
    objective: Objective | None = None
    unused: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ONE_PHASE
    needs: frozenset[Need] = frozenset()
    ways: Callable[[C], Sequence[Mapping[str, Any]]] = lambda _: ONE_WAY
    adaptable: bool = True
    windows: bool = False
    version: int = 1

    def with_sizes(self, **sizes: Any) -> "BackboneSpec[C]":
        """Return the same network with other sizes.

        Raises:
            ValueError: If it cannot be built.
        """
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **sizes))


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
            attention included (papers often leave them out). Where images take different ways,
            that of the one that costs most.
        least_multiply_adds_512: The same of the way that costs least.
        num_active_parameters: Scalars of the layers that run for an image; the most of all ways.
        precisions: float32 and what else it may be trained in.
    """

    num_parameters: int
    multiple_px: int
    min_size_px: int
    multiply_adds_512: int
    least_multiply_adds_512: int
    num_active_parameters: int
    precisions: tuple[str, ...]
