"""Restore an image: judge it once, choose one expert or none, run it, in tiles if need be."""

import contextlib
import dataclasses
import functools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Self, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from expertree.embedding import look
from expertree.experts.adapter import Adapter
from expertree.experts.backbones.nafnet_layers import set_window
from expertree.experts.choices import run_network, shares_of
from expertree.experts.conditions import NOTHING, WINDOW, Condition, window_of
from expertree.experts.telling import tell
from expertree.hierarchy import ROOT, Tree
from expertree.images.arrays import ImageU8
from expertree.images.io import to_float, to_u8
from expertree.images.mixing import mix
from expertree.images.tiling import OnTile, Operator, TilePlan
from expertree.restorer.bundle import Bundle, open_bundle
from expertree.restorer.engines import EngineName, open_engine
from expertree.restorer.hub import fetch_bundle
from expertree.restorer.shipped import SHIPPED, find_bundle
from expertree.restorer.switching import SwitchedNetwork
from expertree.restorer.tiles import OVERLAP_PX, Tiled, restore_here
from expertree.routing import (
    AUTOMATIC,
    Route,
    RouterOutput,
    Wish,
    choose,
    measure,
    points_of,
)

ImageT = TypeVar("ImageT", ImageU8, Tensor)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Restoration(Generic[ImageT]):
    """A restored image, and what was done to it.

    Attributes:
        image: Image of the type, shape and range of the input.
        route: The expert that restored it, and the probabilities behind the choice. If it has no
            expert, the image is the input's pixels.
        num_tiles: Tiles it was restored in; 1 for the whole image at once, 0 if no expert ran.
        num_retries: Times that memory ran out and the tiles were halved.
        seconds: Seconds by stage: `route`, and `restore` if an expert ran.
        layers: For each layer of its network that has experts of its own, the share of tiles that
            each has taken; empty for networks without such layers.
    """

    image: ImageT
    route: Route
    num_tiles: int
    num_retries: int
    seconds: Mapping[str, float]
    layers: tuple[tuple[float, ...], ...] = ()


class Restorer:
    """A bundle that restores images. Experts are read when an image first needs them.

    Experts that are adapters share one network (see `SwitchedNetwork`): of several threads, one at
    a time restores with it.

    Attributes:
        bundle: The bundle.
        device: Device that the networks run on. Images stay where they are; tiles travel.
        dtype: Type that experts compute in; the choice of one is always made in float32.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        engine: EngineName = "torch",
    ) -> None:
        """Use a bundle; see `load`.

        Raises:
            ConfigError: If there is no such engine for the device and type.
        """
        self.bundle = bundle
        self.device = torch.device(device)
        self.dtype = dtype
        self._extractor = bundle.extractor.to(self.device)
        self._router = bundle.router.to(self.device)
        self._experts: dict[int, nn.Module] = {}
        self._switched: SwitchedNetwork | None = None
        self._reading = threading.RLock()
        self._engine = open_engine(engine, bundle, self.device, dtype)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] = SHIPPED,
        device: str | torch.device = "cpu",
        *,
        dtype: torch.dtype = torch.float32,
        engine: EngineName = "torch",
    ) -> Self:
        """Open a bundle and check all of it; see `open_bundle`.

        Args:
            path: A directory, or the URI of one; by default the model that comes with the package.
            device: Device that the networks run on.
            dtype: Type that experts compute in, such as bfloat16.
            engine: What experts compute by, see `engines`: torch, OpenVINO, or `auto`.

        Raises:
            ArtefactError: If a file is missing or changed, or the parts do not fit; names the file.
            ConfigError: If there is no such engine for the device and type.
        """
        return cls(open_bundle(find_bundle(path)), device=device, dtype=dtype, engine=engine)

    @classmethod
    def from_pretrained(
        cls,
        repository: str,
        *,
        revision: str,
        digest: str | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Open a bundle in a repository of the Hugging Face Hub; see `hub.fetch_bundle`.

        Args:
            repository: Owner and name, `owner/name`.
            revision: The commit, by all its 40 digits.
            digest: Digest that the bundle must have; any if None.
            device: Device that the networks run on.
            dtype: Type that experts compute in, such as bfloat16.

        Raises:
            ArtefactError: If there is no such commit, or no sound bundle in it.
            StorageError: If the Hub cannot be reached and the bundle is not in its cache.
            ValueError: If the repository or revision is not one.
        """
        directory = fetch_bundle(repository, revision=revision, digest=digest)
        return cls(open_bundle(directory), device=device, dtype=dtype)

    @property
    def tree(self) -> Tree:
        """The tree of experts."""
        return self.bundle.tree

    def route(self, image: ImageU8 | Tensor, wish: Wish = AUTOMATIC) -> Route:
        """Choose the expert for an image, or to leave it as it is, without restoring it.

        Args:
            image: Image, as for `restore`.
            wish: What the caller wants of the choice.

        Raises:
            ValueError: If the image is not one, or the level, expert, confidence or a name of the
                instruction does not exist.
        """
        (route,) = self.choose(self.judge(_to_batch(image)), wish)
        return route

    def judge(self, images: Float[Tensor, "b 3 h w"]) -> RouterOutput:
        """Return the routers' output for a batch of images of one size; nothing is chosen yet.

        Args:
            images: RGB in [0, 1].
        """
        with torch.inference_mode():
            images, measures = images.to(self.device), None
            embeddings = self._extractor.embed(images)
            if self._router.shape.num_measures:
                view = self._extractor.config
                found = measure(images, view=view.view, side_px=view.view_px)
                measures = found.cpu().numpy()
            points = points_of(self.tree, embeddings.cpu().numpy(), measures)
            output: RouterOutput = self._router(points.to(self.device))
            return output

    def choose(self, output: RouterOutput, wish: Wish = AUTOMATIC) -> list[Route]:
        """Choose the expert, or none, for each image that `judge` has seen.

        Raises:
            ValueError: As `route`.
        """
        wish = self.bundle.outline.understand(wish)
        return choose(output, self.tree, self.bundle.guide, wish)

    def restore(
        self,
        image: ImageT,
        wish: Wish = AUTOMATIC,
        *,
        overlap_px: int = OVERLAP_PX,
        on_tile: OnTile | None = None,
    ) -> Restoration[ImageT]:
        """Restore an image of any size with one expert, or leave it as it is.

        Args:
            image: RGB: uint8 numpy `[height, width, 3]`, or a float tensor in [0, 1], `[3, height,
                width]` or `[1, 3, height, width]`.
            wish: What the caller wants of the choice and of the work.
            overlap_px: Overlap of neighbouring tiles.
            on_tile: Called after each tile; it may raise to stop. Where memory runs out, its
                counts begin again with smaller tiles.

        Raises:
            ValueError: If the image is not one, the level, expert, confidence or a name of the
                instruction does not exist, or the tiles are too small for their overlap.
        """
        batch, begin = _to_batch(image), time.perf_counter()
        (route,) = self.choose(self.judge(batch), wish)
        routed = time.perf_counter()
        seconds = {"route": routed - begin}
        if route.expert is None or wish.strength == 0.0:
            return Restoration(
                image=_copy(image), route=route, num_tiles=0, num_retries=0, seconds=seconds
            )
        tiled, layers = self._run(route.expert, batch, wish, overlap_px, on_tile)
        restored = mix(image, _like(tiled.image, image), wish.strength)
        return Restoration(
            image=restored,
            route=route,
            num_tiles=tiled.num_tiles,
            num_retries=tiled.num_retries,
            seconds=seconds | {"restore": time.perf_counter() - routed},
            layers=layers,
        )

    @contextlib.contextmanager
    def expert(self, node: int) -> Iterator[nn.Module]:
        """Give the network of an expert, on `device`, which stays that expert until the block ends.

        Raises:
            ArtefactError: If its files have changed since the bundle was opened.
            ValueError: If the tree has no such expert.
        """
        if self._engine is not None or self.bundle.entry(node).adapter is None:
            yield self._whole(node)
        else:
            with self._switching(node).expert(node) as network:
                set_window(network, self.bundle.entry(node).window_px)
                yield network

    def _whole(self, node: int) -> nn.Module:
        with self._reading:
            if node not in self._experts:
                self._experts[node] = self.read_expert(node)
            return self._experts[node]

    def read_expert(self, node: int) -> nn.Module:
        """Read an expert as a network of its own, on `device` or in the engine; it is not kept.

        Raises:
            ArtefactError: If its files have changed since the bundle was opened.
            ExportError: If the engine is asked for by name, and has no form of this network.
            ValueError: If the tree has no such expert.
        """
        network = None if self._engine is None else self._engine.network(node)
        return self.bundle.load_expert(node).to(self.device) if network is None else network

    def _switching(self, node: int) -> SwitchedNetwork:
        """Return the network that adapters share; it is made for the first one, `node`."""
        with self._reading:
            if self._switched is None:
                changed = self._adapter(node).changed
                self._switched = SwitchedNetwork(self._whole(ROOT), changed, self._adapter)
            return self._switched

    def _adapter(self, node: int) -> Adapter:
        return self.bundle.load_adapter(node).to(self.device)

    @torch.inference_mode()
    def _run(
        self,
        node: int,
        batch: Float[Tensor, "1 3 h w"],
        wish: Wish,
        overlap_px: int,
        on_tile: OnTile | None,
    ) -> tuple[Tiled, tuple[tuple[float, ...], ...]]:
        told, chosen = self.tell(node, batch, wish), list[Tensor]()
        sides_px = cast("tuple[int, int]", tuple(batch.shape[-2:]))
        tiled = restore_here(
            functools.partial(self._operator, node, told, sides_px, chosen),
            batch,
            tile_px=wish.tile_px,
            overlap_px=overlap_px,
            multiple_px=self.bundle.entry(node).multiple_px,
            on_tile=on_tile,
        )
        return tiled, shares_of(chosen)

    @torch.inference_mode()
    def tell(self, node: int, images: Float[Tensor, "b 3 h w"], wish: Wish) -> Condition:
        """Return what an expert is told of whole images of one size; most are told nothing.

        Words, or else an instruction, are said to networks that take sentences; the others find out
        for themselves.

        Raises:
            ConfigError: If the encoder of its sentences cannot be loaded.
            ValueError: If the tree has no such expert.
        """
        wish = self.bundle.outline.understand(wish)
        return tell(
            self.bundle.backbone(node),
            images.to(self.device),
            look=functools.partial(look, self._extractor),
            tasks=wish.instruction,
            words=wish.words,
        )

    @contextlib.contextmanager
    def _operator(
        self,
        node: int,
        told: Condition,
        sides_px: tuple[int, int],
        chosen: list[Tensor],
        plan: TilePlan,
    ) -> Iterator[Operator]:
        """Give an expert as an operator on a plan's tiles, which travel to `device` and back.

        What its layers choose for each tile is put into `chosen`, which begins anew.
        """
        places = plan.tiles()
        chosen.clear()

        def condition() -> Condition:
            if not told:
                return NOTHING
            window = window_of(*plan.extent(next(places)), *sides_px).to(self.device)
            return {**told, WINDOW: window}

        with self.expert(node) as expert, self._computing():

            def operate(tile: Tensor) -> Tensor:
                restored, own = run_network(expert, tile.to(self.device), condition())
                if own is not None:
                    chosen.append(own.cpu())
                return restored.to(tile.device)

            yield operate

    def _computing(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which experts compute in `dtype`."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def _to_batch(image: ImageU8 | Tensor) -> Float[Tensor, "1 3 h w"]:
    if isinstance(image, np.ndarray):
        return to_float(image)[None]
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or batch.shape[:2] != (1, 3) or 0 in batch.shape:
        raise ValueError(
            f"expected a float tensor [3, height, width] or [1, 3, height, width], got "
            f"{list(image.shape)}; restore the images of a batch one by one"
        )
    if not batch.is_floating_point() or not (batch.min() >= 0.0 and batch.max() <= 1.0):
        raise ValueError(
            f"expected float values in [0, 1], got {batch.dtype} from {batch.min():.4g} to "
            f"{batch.max():.4g}; divide by the largest value, or clamp"
        )
    return batch.float()


def _copy(image: ImageT) -> ImageT:
    if isinstance(image, np.ndarray):
        return image.copy()
    return image.clone()


def _like(restored: Float[Tensor, "1 3 h w"], image: ImageT) -> ImageT:
    """Return a network's output in the type and shape of an image, clipped to [0, 1]."""
    if isinstance(image, np.ndarray):
        return to_u8(restored[0])
    # The caller may do with it what he likes: a copy of what was made in inference mode, or else,
    # since a photograph may be a gigabyte, the blended tiles' own memory.
    clipped = restored.clamp(0.0, 1.0) if restored.is_inference() else restored.clamp_(0.0, 1.0)
    return clipped.to(image.dtype).reshape(image.shape)
