"""The interface between gateways and engines that restore, and the data that passes there.

The gateway decodes photographs and checks options; an engine routes and restores pixels. Everything
that passes between them can be pickled, since an engine may be many processes on many machines.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from expertree.images.arrays import Image, ImageU8
from expertree.images.io import to_float, to_u8
from expertree.images.tiling import OnTile
from expertree.routing import Wish

Pixels: TypeAlias = ImageU8 | Image
"""RGB, `[height, width, 3]`: uint8, or float32 in [0, 1] where 8 bits are not enough."""


def to_tensor(pixels: Pixels) -> Float[Tensor, "3 height width"]:
    """Return pixels as networks take them: float32 CHW in [0, 1]."""
    if pixels.dtype == np.uint8:
        return to_float(pixels)
    planes = np.array(pixels.transpose(2, 0, 1), order="C")  # a copy: torch wants to write
    return torch.from_numpy(planes)


def to_pixels(restored: Float[Tensor, "3 height width"], like: np.dtype[Any]) -> Pixels:
    """Return a restored image in its caller's type, clipped to [0, 1]: HWC, uint8 or float32."""
    if like == np.uint8:
        return to_u8(restored)
    pixels: np.ndarray[Any, Any] = restored.clamp(0.0, 1.0).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """Another expert that could have been chosen for the image.

    Attributes:
        expert: The expert, by its node.
        probability: Probability of all choices that end at this expert, in [0, 1].
    """

    expert: int
    probability: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Routed:
    """The expert that was chosen for an image, if any, and why.

    Attributes:
        model: Digest of the model that chose.
        expert: The chosen expert, by its node; null where the image is better left as it is.
        node: The node that the expert serves here: its own, or one below it with the same samples.
            For an image that is left as it is, `node`, `level`, `leaf` and `path` are those of the
            expert that would have served it.
        level: The chosen level, 0 for the root's.
        leaf: The chosen leaf.
        path: Nodes from the root to `node`, one for each level.
        leaf_probabilities: Probability of each leaf; 0 where an option rules it out.
        level_probabilities: Probability of each level; 0 where an option rules it out.
        confidence: How sure the choice is, in [0, 1]; see `routing.Route`.
        degradations: Share of each degradation in the training samples of the likely leaves, in
            [0, 1], by name, largest first.
        alternatives: The other experts, the likeliest first.
        gain_db: Predicted gain of the expert of `node` over the input, in dB; null where the model
            does not say.
        seconds: Seconds by stage: `queue`, `route`.
    """

    model: str
    expert: int | None
    node: int
    level: int
    leaf: int
    path: tuple[int, ...]
    leaf_probabilities: tuple[float, ...]
    level_probabilities: tuple[float, ...]
    confidence: float
    degradations: Mapping[str, float]
    alternatives: tuple[Alternative, ...]
    gain_db: float | None
    seconds: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RestoredPixels:
    """A restored image.

    Attributes:
        pixels: Pixels of the type and shape of the input; its own where it is left as it is.
        route: The expert that restored it, if any, and why.
        num_tiles: Tiles it was restored in; 1 for the whole image at once, 0 if no expert ran.
        num_retries: Times that memory ran out and the tiles were halved.
        seconds: Seconds by stage: `queue`, `route`, `restore`; for tiles that run at the same time,
            the time that the caller waited.
        layers: For each layer of its network that has experts of its own, the share of tiles that
            each has taken; empty for networks without such layers.
    """

    pixels: Pixels
    route: Routed
    num_tiles: int
    num_retries: int
    seconds: Mapping[str, float]
    layers: tuple[tuple[float, ...], ...] = ()


def untouched(pixels: Pixels, route: Routed) -> RestoredPixels:
    """Return the result for an image that no expert has worked on."""
    return RestoredPixels(
        pixels=pixels, route=route, num_tiles=0, num_retries=0, seconds=dict(route.seconds)
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelNode:
    """One node of the tree, which is a group of training samples.

    Attributes:
        index: Number of the node.
        level: Level of the node; 0 for the root.
        parent: The node that it was cut from; null for the root.
        children: The nodes that were cut from it.
        leaves: Numbers of the leaves below it, or of itself.
        num_samples: Training samples that fell into it.
        expert: The expert that serves it, by that expert's node.
        holds: Share of its samples that carry a degradation, alone or among others, by name.
    """

    index: int
    level: int
    parent: int | None
    children: tuple[int, ...]
    leaves: tuple[int, ...]
    num_samples: int
    expert: int
    holds: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Expert:
    """One expert, which is a restoration network of the tree.

    Attributes:
        node: The node that it is named by.
        levels: Levels on which it serves a node.
        num_samples: Training samples of its node.
        backbone: Kind of its network.
        num_parameters: Scalars in its network.
        num_bytes: Bytes of its files.
        adapter_rank: Rank of its change to the root's network; null for a whole network.
    """

    node: int
    levels: tuple[int, ...]
    num_samples: int
    backbone: str
    num_parameters: int
    num_bytes: int
    adapter_rank: int | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model: its tree and its experts.

    Attributes:
        id: Name of the model in URLs.
        digest: Hash of the model's content; models with equal digests restore alike.
        groups: Number of nodes on each level.
        names: Names that an instruction may have: degradations, then their degrees.
        takes_sentences: Whether its networks are told what is wrong in the caller's own words.
        nodes: Nodes of the tree, by index.
        experts: Experts, in the order of their nodes.
        num_parameters: Scalars in all experts' networks.
        num_bytes: Bytes of the bundle's files.
    """

    id: str
    digest: str
    groups: tuple[int, ...]
    names: tuple[str, ...]
    takes_sentences: bool
    nodes: tuple[ModelNode, ...]
    experts: tuple[Expert, ...]
    num_parameters: int
    num_bytes: int


class Engine(Protocol):
    """Interface of whatever routes and restores; a cancelled call stops its work between tiles.

    All methods may raise, from `expertree.errors`: `OverloadError` where too many wait,
    `UnavailableError` where nothing is loaded or something was lost on the way, `DeadlineError`,
    and `OptionError` for a wish that the model cannot meet. Mixing by `strength` is up to the
    caller.
    """

    async def route(self, pixels: Pixels, wish: Wish) -> Routed:
        """Choose the expert for an image, without restoring it."""
        ...

    async def restore(
        self, pixels: Pixels, wish: Wish, *, on_tile: OnTile | None = None
    ) -> RestoredPixels:
        """Restore an image with one expert, or leave it as it is if that is the choice.

        `on_tile` is called on the event loop; where memory runs out, its counts begin again.

        Raises:
            MemoryShortageError: If memory does not suffice for the smallest tiles, or for the tiles
                that were asked for.
        """
        ...

    async def models(self) -> tuple[Model, ...]:
        """Return the models that are served, the one that answers requests first."""
        ...

    async def ready(self) -> bool:
        """Return whether a request would be answered without waiting for a model to load."""
        ...
