"""The work of replicas, without Ray: judge images, and run experts on tiles."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from expertree.errors import ArtefactError, ExpertreeError, MemoryShortageError, OptionError
from expertree.experts.choices import run_network
from expertree.experts.conditions import NOTHING, Condition
from expertree.hierarchy import ROOT
from expertree.memory import free_cached_memory, is_out_of_memory
from expertree.restorer import Restorer
from expertree.routing import AUTOMATIC, Route, RouterOutput, Wish
from expertree.serving.describe import describe_route
from expertree.serving.engine import Pixels, Routed, to_pixels, to_tensor

Group: TypeAlias = tuple[int, tuple[int, ...], str, tuple[str, ...]]
"""Expert, shape, type, and names of what they are told, of tiles that may go through a network
together; what they are told may differ."""

Telling: TypeAlias = Mapping[str, np.ndarray[Any, Any]]
"""A condition of one image, as it travels between processes; see `experts.conditions`."""

SELF_TEST_PX = 64
"""Sides of the image that every expert must restore before a replica counts as healthy."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tile:
    """A part of an image for an expert.

    Attributes:
        expert: The expert, by its node.
        pixels: Pixels of that part, as the caller sent them.
        whole: Whether it is the whole image. Then the answer has the pixels' type and range; else
            it is the network's own output, to be blended with others before anything is rounded.
        told: What the expert is told of the whole image, and where the part lies in it; nothing
            for most experts.
    """

    expert: int
    pixels: Pixels
    whole: bool
    told: Telling = dataclasses.field(default_factory=dict)

    @property
    def group(self) -> Group:
        """The group of tiles that may go through the network together."""
        return self.expert, self.pixels.shape, self.pixels.dtype.str, tuple(sorted(self.told))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TileResult:
    """The result for a tile.

    Attributes:
        pixels: Restored pixels: like those of a whole image, else float32 `[3, height, width]`; see
            `Tile.whole`. None where memory did not suffice.
        seconds: Seconds that its whole group took in the network.
        chosen: int64 `[1, layers, experts]`, ones where a layer of the network has taken an expert
            of its own for the tile; None where layers have none.
    """

    pixels: np.ndarray[Any, Any] | None
    seconds: float
    chosen: np.ndarray[Any, Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RouteRequest:
    """An image to be judged.

    Attributes:
        part: Part of the image that the extractor's view uses; see `views.visible_part`.
        wish: What the caller wants of the choice.
        tells: Whether the chosen expert will restore the image, and must be told of it.
        whole: All of the image, where experts are told of more than the view shows.
    """

    part: Pixels
    wish: Wish
    tells: bool = False
    whole: Pixels | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """An image that was judged.

    Attributes:
        routed: The choice.
        told: What the chosen expert is to be told, if it was asked for.
    """

    routed: Routed
    told: Telling


class Judge:
    """Chooses experts for images, several at a time, and finds what they are told of them."""

    def __init__(self, restorer: Restorer, model: str) -> None:
        """Use a restorer's extractor and routers.

        Args:
            restorer: An opened bundle.
            model: Digest of the bundle.
        """
        self._restorer, self._model = restorer, model

    def test(self) -> None:
        """Raise unless sentences can be read, where the bundle's networks take them.

        Raises:
            ConfigError: If their encoder cannot be loaded; says what to install.
        """
        if self._restorer.bundle.outline.sentence_encoder is not None:
            self._restorer.tell(ROOT, _test_image()[None], Wish(words="remove the noise"))

    def judge(self, requests: Sequence[RouteRequest]) -> list[Judged | ExpertreeError]:
        """Return the choice for each image, or an error that concerns it alone.

        These are `OptionError` where a wish cannot be met, and `MemoryShortageError` where an image
        is too large to be looked at. The time taken is shared evenly, under `route`.
        """
        begin = time.perf_counter()
        outputs: dict[int, RouterOutput] = {}
        for places in _by_shape(requests):
            images = torch.stack([to_tensor(requests[place].part) for place in places])
            output = self._restorer.judge(images)
            outputs |= {place: output.rows([row]) for row, place in enumerate(places)}
        answers = [self._answer(outputs[place], own) for place, own in enumerate(requests)]
        seconds = {"route": (time.perf_counter() - begin) / len(requests)}
        return [
            answer if isinstance(answer, ExpertreeError) else _with_seconds(answer, seconds)
            for answer in answers
        ]

    def _answer(self, output: RouterOutput, request: RouteRequest) -> Judged | ExpertreeError:
        try:
            (route,) = self._restorer.choose(output, request.wish)
        except ValueError as error:
            return OptionError(str(error))
        try:
            told = self._tell(route, request) if request.tells else NOTHING
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            free_cached_memory()
            return MemoryShortageError("there is not enough memory to look at all of the image")
        bundle = self._restorer.bundle
        routed = describe_route(route, bundle.tree, bundle.guide, model=self._model, seconds={})
        return Judged(routed=routed, told={name: own.cpu().numpy() for name, own in told.items()})

    def _tell(self, route: Route, request: RouteRequest) -> Condition:
        """Return what the chosen expert is told of one image, to the bit as `Restorer` tells it."""
        if route.expert is None:
            return NOTHING
        pixels = request.part if request.whole is None else request.whole
        return self._restorer.tell(route.expert, to_tensor(pixels)[None], request.wish)


class TileWorker:
    """Runs experts on groups of tiles."""

    def __init__(self, restorer: Restorer) -> None:
        """Use a restorer's experts.

        Args:
            restorer: An opened bundle.
        """
        self._restorer = restorer
        self.num_memory_retries = 0

    def run(self, tiles: Sequence[Tile], network: nn.Module | None = None) -> list[TileResult]:
        """Restore tiles of one group, together if memory allows, else one by one.

        Args:
            tiles: One or more, of one group.
            network: Network of their expert; by default the restorer's own.
        """
        begin = time.perf_counter()
        with self._expert(tiles[0].expert, network) as expert, torch.inference_mode():
            found = self._together(expert, tiles)
        seconds = time.perf_counter() - begin
        return [dataclasses.replace(result, seconds=seconds) for result in found]

    def test(self, expert: int, network: nn.Module | None = None) -> None:
        """Raise unless an expert restores a small image to one of the same size.

        Args:
            expert: The expert, by its node.
            network: Network of the expert; by default the restorer's own.

        Raises:
            ArtefactError: If the values are not finite, or the size has changed.
        """
        image = _test_image()
        told = self._restorer.tell(expert, image[None], AUTOMATIC)
        with self._expert(expert, network) as chosen, torch.inference_mode():
            restored = self._through(chosen, image[None], told)[0][0]
        if restored.shape != image.shape or not bool(restored.isfinite().all()):
            raise ArtefactError(
                f"expert {expert} of {self._restorer.bundle.directory.where()} does not restore a "
                f"{SELF_TEST_PX} x {SELF_TEST_PX} image: its values are not finite, or its size is "
                f"{list(restored.shape)}; the bundle is not served"
            )

    @contextlib.contextmanager
    def _expert(self, node: int, network: nn.Module | None) -> Iterator[nn.Module]:
        if network is not None:
            yield network
        else:
            with self._restorer.expert(node) as own:
                yield own

    def _together(self, expert: nn.Module, tiles: Sequence[Tile]) -> list[TileResult]:
        try:
            batch = torch.stack([to_tensor(tile.pixels) for tile in tiles])
            told = _stacked([tile.told for tile in tiles])
            restored, chosen = self._through(expert, batch, told)
            return [
                TileResult(
                    pixels=_as_asked(restored[row], tile),
                    seconds=0.0,
                    chosen=None if chosen is None else chosen[row : row + 1].numpy(),
                )
                for row, tile in enumerate(tiles)
            ]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        free_cached_memory()
        self.num_memory_retries += 1
        if len(tiles) == 1:
            return [TileResult(pixels=None, seconds=0.0)]
        return [self._together(expert, [tile])[0] for tile in tiles]

    def _through(
        self, expert: nn.Module, batch: Float[Tensor, "b 3 h w"], told: Condition
    ) -> tuple[Float[Tensor, "b 3 h w"], Int[Tensor, "b layers experts"] | None]:
        device = self._restorer.device
        condition = {name: own.to(device) for name, own in told.items()}
        restored, chosen = run_network(expert, batch.to(device), condition)
        return restored.cpu(), None if chosen is None else chosen.cpu()


def is_device_lost(device: torch.device) -> bool:
    """Return whether nothing runs on a device any more, in this process; waits for what does.

    An error such as an illegal memory access leaves a GPU so, and only another process helps.
    """
    if device.type != "cuda":
        return False
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError as error:
        return not is_out_of_memory(error)
    return False


def _test_image() -> Float[Tensor, "3 h w"]:
    ramp = torch.linspace(0.0, 1.0, SELF_TEST_PX)
    hill = ramp.outer(ramp)
    return torch.stack([hill, ramp.expand_as(hill), 1.0 - hill])


def _stacked(tellings: Sequence[Telling]) -> Condition:
    """Return the condition of a batch, whose tiles are told of the same things."""
    return {
        name: torch.from_numpy(np.concatenate([own[name] for own in tellings]))
        for name in tellings[0]
    }


def _as_asked(restored: Float[Tensor, "3 h w"], tile: Tile) -> np.ndarray[Any, Any]:
    if tile.whole:
        return to_pixels(restored, tile.pixels.dtype)
    pixels: np.ndarray[Any, Any] = restored.numpy()
    return pixels


def _by_shape(requests: Sequence[RouteRequest]) -> list[list[int]]:
    """Group the places of requests whose parts can be stacked."""
    found: dict[tuple[int, ...], list[int]] = {}
    for place, request in enumerate(requests):
        found.setdefault(request.part.shape, []).append(place)
    return list(found.values())


def _with_seconds(judged: Judged, seconds: dict[str, float]) -> Judged:
    return dataclasses.replace(judged, routed=dataclasses.replace(judged.routed, seconds=seconds))
