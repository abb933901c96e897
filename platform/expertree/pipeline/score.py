"""The stage that scores experts and classical methods, a stored column for each patch set.

What routers read of each patch beside its embedding is measured here too, as one more column.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeAlias

import cv2
import numpy as np
import pyarrow as pa
import torch
from torch import nn

from expertree.classical import methods_of, restore_classically
from expertree.embedding import load_extractor, look, stored_extractor_config
from expertree.errors import ConfigError
from expertree.experts import (
    PairedPatches,
    Restoration,
    load_expert,
    read_patches,
    score_expert,
    score_inputs,
    score_restoration,
)
from expertree.experts.telling import Told
from expertree.experts.weights import read_card
from expertree.images.arrays import ImageU8
from expertree.images.io import to_float, to_u8
from expertree.pipeline.runner import OnDone, Runner
from expertree.pipeline.score_columns import MEASURES_FILE
from expertree.pipeline.stages import sibling
from expertree.pipeline.tables import write_table
from expertree.routing.measures import VERSION, measure
from expertree.storage import Storage

SCORE_BATCH = 4
"""Patches in a batch. On a CPU the activations of four fit its cache; 16 took a fifth longer."""

MEASURE_BATCH = 16

_NETWORK_TIMES = 16
"""About how much longer a network takes for a pixel than a formula does."""

INPUTS = "input"
"""The key of the degraded inputs themselves, in place of an expert's."""

CLASSICAL = "classical"
"""The key of the best classical method of each degradation, in place of an expert's."""

MEASURES = "measures"
"""The key of what routers read beside embeddings, in place of an expert's."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ToldExpert:
    """An expert that is told by name what is wrong with each patch."""

    expert: Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What is measured in each patch for routers: in the windows of an extractor's view.

    Attributes:
        view: A name in `embedding.views.VIEWS`.
        side_px: Side of the view, or of one window.
    """

    view: str
    side_px: int

    @classmethod
    def like(cls, extractor: Storage) -> Self:
        """Return the view of a stored extractor."""
        config = stored_extractor_config(extractor)
        return cls(view=config.view, side_px=config.view_px)

    @property
    def spec(self) -> dict[str, Any]:
        """What measures depend on besides the patches, as plain data."""
        return {"measures": VERSION, "view": self.view, "side_px": self.side_px}


Scored: TypeAlias = Storage | ToldExpert | Measured | Mapping[str, str] | None
"""An expert's directory, with or without a hint, measures, the names of classical methods by
degradation, or None for the inputs."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One network's scores on one patch set, to be made and stored.

    Attributes:
        expert: Expert, classical methods or inputs to score, or what to measure.
        table: Table of the patch set.
        directory: Directory for `scores.parquet`, or for `measures.parquet`.
        spec: Plain data that says what the column is made from.
    """

    expert: Scored
    table: Storage
    directory: Storage
    spec: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Pixels that a network restores, or as many as take the time of what is not one."""
        num_patches, side_px = scored_patches(self.table)
        num_px = num_patches * side_px**2
        is_network = isinstance(self.expert, Storage | ToldExpert)
        return num_px if is_network else num_px // _NETWORK_TIMES


def score(runner: Runner, columns: Sequence[Column], on_done: OnDone) -> None:
    """Score networks on patch sets, several at a time; each column is committed by itself."""
    items = [{"column": column, "size": column.size} for column in columns]
    use_gpu = runner.cluster.use_gpu
    runner.for_each(_Scorer, items, on_done, on_gpu=use_gpu, arguments=(use_gpu,))


def write_scores(
    column: Column, patches: PairedPatches, scores: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Store a column: its scores by name, in the order of the patches."""
    arrays = {"id": patches.ids} | {n: pa.array(v) for n, v in scores.items()}
    write_table(column.directory, "scores.parquet", pa.table(arrays))
    column.directory.commit(dict(column.spec))


def write_measures(column: Column, wanted: Measured) -> None:
    """Measure all of each patch, as routers see it, and store the column in the patches' order."""
    patches = read_patches(column.table, column.table.list_files(".parquet"))
    found = [
        measure(patches.lq(rows).float() / 255.0, view=wanted.view, side_px=wanted.side_px).numpy()
        for start in range(0, len(patches), MEASURE_BATCH)
        for rows in [range(start, min(start + MEASURE_BATCH, len(patches)))]
    ]
    values = np.concatenate(found)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    table = pa.table({"id": patches.ids, "measures": lists})
    write_table(column.directory, MEASURES_FILE, table)
    column.directory.commit(dict(column.spec))


def scored_patches(table: Storage) -> tuple[int, int]:
    """Return how many patches a set has, and the side of what experts are scored on in each."""
    patch_set = table.done()["spec"]["patch_set"]
    return patch_set["num_patches"], patch_set.get("scored_px") or patch_set["patch_px"]


def read_to_score(table: Storage) -> PairedPatches:
    """Open the patches of a patch set's table, cut to the middle that its set is scored on."""
    patch_set = table.done()["spec"].get("patch_set", {})
    files = table.list_files(".parquet")
    return read_patches(table, files, middle_px=patch_set.get("scored_px"))


def open_expert(result: Storage) -> nn.Module:
    """Open a stored expert, to be called with whole images alone.

    An adapter is opened with its root, and a network that is told of images with the extractor
    that tells it, both from the same store.

    Raises:
        ArtefactError: If one of them is damaged.
    """
    card = read_card(result)
    root = sibling(result, "expert", card.root.key) if card.root is not None else None
    network = load_expert(result, root=root)
    if card.extractor is None:
        return network
    extractor = load_extractor(sibling(result, "extractor", card.extractor))
    return Told(network, card.backbone, functools.partial(look, extractor)).eval()


def restoration(chosen: Mapping[str, str]) -> Restoration:
    """Return a function that restores an image with the named method of each degradation."""
    by_task = {
        task: next(method for method in methods_of(task) if method.name == name)
        for task, name in chosen.items()
    }
    return lambda image_u8, tasks: restore_classically(image_u8, tasks, by_task)


def told_restoration(expert: nn.Module) -> Restoration:
    """Return a function that restores an image with a network and the names of what is wrong.

    Raises:
        ConfigError: If the network takes no names.
    """
    if not isinstance(expert, Told):
        raise ConfigError(f"a {type(expert).__name__} cannot be told what is wrong with an image")
    device = next(expert.parameters()).device

    def restore(image_u8: ImageU8, tasks: tuple[str, ...]) -> ImageU8:
        with torch.inference_mode():
            return to_u8(expert(to_float(image_u8)[None].to(device), tasks)[0])

    return restore


class PatchWorker:
    """A worker of one thread that keeps the decoded patches of the sets it has met."""

    def __init__(self, use_gpu: bool) -> None:  # noqa: FBT001
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.device = "cuda" if use_gpu else "cpu"
        self._sets: dict[str, PairedPatches] = {}

    def patches(self, table: Storage) -> PairedPatches:
        """Return the patches of a set, as `read_to_score` opens them."""
        if table.uri not in self._sets:
            self._sets[table.uri] = read_to_score(table)
        return self._sets[table.uri]


class _Scorer(PatchWorker):
    """A worker that scores columns."""

    def __call__(self, item: Mapping[str, Any]) -> None:
        column: Column = item["column"]
        if column.directory.is_done():
            return
        if isinstance(column.expert, Measured):
            write_measures(column, column.expert)
            return
        patches = self.patches(column.table)
        if column.expert is None:
            scores = score_inputs(patches)
        elif isinstance(column.expert, Mapping):
            scores = score_restoration(restoration(column.expert), patches)
        elif isinstance(column.expert, ToldExpert):
            expert = open_expert(column.expert.expert).to(self.device)
            scores = score_restoration(told_restoration(expert), patches)
        else:
            expert = open_expert(column.expert).to(self.device)
            scores = score_expert(expert, patches, batch_size=SCORE_BATCH)
        write_scores(column, patches, scores)
