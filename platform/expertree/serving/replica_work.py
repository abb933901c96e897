"""The work of replicas, without Ray: judge images, and run experts on tiles."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.errors import ArtefactError, OptionError
from expertree.experts.conditions import Informed
from expertree.memory import free_cached_memory, is_out_of_memory
from expertree.restorer import Restorer
from expertree.routing import RouterOutput, Wish
from expertree.serving.describe import describe_route
from expertree.serving.engine import Pixels, Routed, to_pixels, to_tensor

Group: TypeAlias = tuple[int, tuple[int, ...], str]
"""Expert, shape and type of tiles that may go through a network together."""

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
    """

    expert: int
    pixels: Pixels
    whole: bool

    @property
    def group(self) -> Group:
        """The group of tiles that may go through the network together."""
        return self.expert, self.pixels.shape, self.pixels.dtype.str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TileResult:
    """The result for a tile.

    Attributes:
        pixels: Restored pixels: like those of a whole image, else float32 `[3, height, width]`; see
            `Tile.whole`. None where memory did not suffice.
        seconds: Seconds that its whole group took in the network.
    """

    pixels: np.ndarray[Any, Any] | None
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RouteRequest:
    """An image to be judged.

    Attributes:
        part: Part of the image that the extractor's view uses; see `views.visible_part`.
        wish: What the caller wants of the choice.
    """

    part: Pixels
    wish: Wish


class Judge:
    """Chooses experts for images, several at a time."""

    def __init__(self, restorer: Restorer, model: str) -> None:
        """Use a restorer's extractor and routers.

        Args:
            restorer: An opened bundle.
            model: Digest of the bundle.
        """
        self._restorer, self._model = restorer, model

    def judge(self, requests: Sequence[RouteRequest]) -> list[Routed | OptionError]:
        """Return the choice for each image, or an `OptionError` where a wish cannot be met.

        The time taken is shared evenly among the images, under `route`.
        """
        begin = time.perf_counter()
        outputs: dict[int, RouterOutput] = {}
        for places in _by_shape(requests):
            images = torch.stack([to_tensor(requests[place].part) for place in places])
            output = self._restorer.judge(images)
            outputs |= {place: output.rows([row]) for row, place in enumerate(places)}
        answers = [
            self._choose(outputs[place], request.wish) for place, request in enumerate(requests)
        ]
        seconds = {"route": (time.perf_counter() - begin) / len(requests)}
        return [
            answer if isinstance(answer, OptionError) else _with_seconds(answer, seconds)
            for answer in answers
        ]

    def _choose(self, output: RouterOutput, wish: Wish) -> Routed | OptionError:
        try:
            (route,) = self._restorer.choose(output, wish)
        except ValueError as error:
            return OptionError(str(error))
        bundle = self._restorer.bundle
        return describe_route(route, bundle.tree, bundle.guide, model=self._model, seconds={})


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
        return [TileResult(pixels=pixels, seconds=seconds) for pixels in found]

    def test(self, expert: int, network: nn.Module | None = None) -> None:
        """Raise unless an expert restores a small image to one of the same size.

        Args:
            expert: The expert, by its node.
            network: Network of the expert; by default the restorer's own.

        Raises:
            ArtefactError: If the values are not finite, the size has changed, or the expert must be
                told of the whole image, which does not travel to replicas.
        """
        ramp = torch.linspace(0.0, 1.0, SELF_TEST_PX)
        hill = ramp.outer(ramp)
        image = torch.stack([hill, ramp.expand_as(hill), 1.0 - hill])
        with self._expert(expert, network) as chosen, torch.inference_mode():
            if isinstance(chosen, Informed):
                raise ArtefactError(
                    f"expert {expert} of {self._restorer.bundle.directory.uri} is told of the "
                    "whole image, which replicas do not see; serve it without Ray"
                )
            restored = self._through(chosen, image[None])[0]
        if restored.shape != image.shape or not bool(restored.isfinite().all()):
            raise ArtefactError(
                f"expert {expert} of {self._restorer.bundle.directory.uri} does not restore a "
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

    def _together(
        self, expert: nn.Module, tiles: Sequence[Tile]
    ) -> list[np.ndarray[Any, Any] | None]:
        try:
            restored = self._through(expert, torch.stack([to_tensor(t.pixels) for t in tiles]))
            return [_as_asked(row, tile) for row, tile in zip(restored, tiles, strict=True)]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        free_cached_memory()
        self.num_memory_retries += 1
        if len(tiles) == 1:
            return [None]
        return [self._together(expert, [tile])[0] for tile in tiles]

    def _through(
        self, expert: nn.Module, batch: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b 3 h w"]:
        return cast("Tensor", expert(batch.to(self._restorer.device))).cpu()


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


def _with_seconds(routed: Routed, seconds: dict[str, float]) -> Routed:
    return dataclasses.replace(routed, seconds=seconds)
