"""What a gateway asks of whatever restores: plain data, and one interface.

The gateway decodes photographs and checks options; an engine routes and restores pixels. Everything
that passes between them can be pickled, since an engine may be many processes on many machines.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from expertree.images.arrays import Image, ImageU8
from expertree.routing import Wish

Pixels: TypeAlias = ImageU8 | Image
"""RGB, `[height, width, 3]`: uint8, or float32 in [0, 1] where 8 bits are not enough."""

OnTile: TypeAlias = Callable[[int, int], None]
"""Told, on the event loop, how many tiles are done and how many there are. Both may start again."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """Another expert that the image could have had.

    Attributes:
        expert: Its node.
        probability: What the gates give all choices that end at it, in [0, 1].
    """

    expert: int
    probability: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Routed:
    """Which expert an image gets, if any, and why.

    Attributes:
        model: Digest of the model that chose.
        expert: The chosen expert, by its node; null where the image is better left as it is.
        node: The node that it serves here: its own or one below it with the same samples. Of an
            image that is left as it is: the one that would serve, like all that follows.
        level: The chosen level, 0 for the root's.
        leaf: The chosen leaf.
        path: Nodes from the root to `node`, one a level.
        leaf_probabilities: One a leaf; 0 where an option rules it out.
        level_probabilities: One a level; 0 where an option rules it out.
        confidence: How sure the choice is, in [0, 1]; see `routing.Route`.
        degradations: How much of each degradation the likely leaves were trained on, in [0, 1], by
            name, most first.
        alternatives: The other experts, the likeliest first.
        gain_db: What the expert of `node` is predicted to gain over the input, in dB; null where
            the model does not say.
        seconds: Time by stage: `queue`, `route`.
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
class Restored:
    """A restored image.

    Attributes:
        pixels: Of the type and shape of the input; the input's own where it is left as it is.
        route: The expert that restored it, if any, and why.
        num_tiles: Tiles it was restored in; 1 for the whole image at once, 0 if no expert ran.
        num_retries: Times that memory ran out and the tiles were halved.
        seconds: Time by stage: `queue`, `route`, `restore`; of tiles that run at the same time,
            what the caller waited for.
    """

    pixels: Pixels
    route: Routed
    num_tiles: int
    num_retries: int
    seconds: Mapping[str, float]


def untouched(pixels: Pixels, route: Routed) -> Restored:
    """An image that no expert has worked on."""
    return Restored(
        pixels=pixels, route=route, num_tiles=0, num_retries=0, seconds=dict(route.seconds)
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ModelNode:
    """One group of the tree.

    Attributes:
        index: Its number.
        level: 0 for the root.
        parent: The group it was cut from; None for the root.
        children: The groups cut from it.
        leaves: The finest groups below it or itself, by leaf number.
        num_samples: Training samples that fell into it.
        expert: The expert that serves it.
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
    """One expert.

    Attributes:
        node: The node that it is named by.
        levels: Levels on which it serves a node.
        num_samples: Samples of its group.
        backbone: Its kind of network.
        num_parameters: Scalars in its network.
        num_bytes: Of its files.
        adapter_rank: Rank of its change to the root's network; None for a whole network.
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
    """What a model is, for whoever asks it.

    Attributes:
        id: Its name in URLs.
        digest: Its name by content; see `Manifest.digest`.
        groups: Groups on each level.
        names: What an instruction may name: degradations, then their degrees.
        nodes: The tree, by index.
        experts: By node.
        num_parameters: Scalars in all experts' networks.
        num_bytes: Of the bundle.
    """

    id: str
    digest: str
    groups: tuple[int, ...]
    names: tuple[str, ...]
    nodes: tuple[ModelNode, ...]
    experts: tuple[Expert, ...]
    num_parameters: int
    num_bytes: int


class Engine(Protocol):
    """What routes and restores. One of its coroutines cancelled stops its work between tiles.

    All may raise, from `expertree.errors`: `OverloadError` where too many wait, `UnavailableError`
    where nothing is loaded or something was lost on the way, `DeadlineError`, `OptionError` for
    a wish that the serving model cannot meet. Mixing by `strength` is up to the caller.
    """

    async def route(self, pixels: Pixels, wish: Wish) -> Routed:
        """Choose the expert for an image, without restoring it."""
        ...

    async def restore(
        self, pixels: Pixels, wish: Wish, *, on_tile: OnTile | None = None
    ) -> Restored:
        """Restore an image with one expert, or leave it as it is if that is the choice.

        Raises:
            MemoryShortageError: If memory does not suffice for the smallest tiles, or for the tiles
                that were asked for.
        """
        ...

    async def models(self) -> tuple[Model, ...]:
        """What is served, the model that answers first."""
        ...

    async def ready(self) -> bool:
        """Whether a request would be answered without waiting for a model to load."""
        ...
