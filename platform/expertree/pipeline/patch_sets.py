"""The stages of a patch set: make its table, embed it, score experts on it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.classical import VERSION
from expertree.config import to_dict
from expertree.degradation.looks import NATURAL
from expertree.degradation.maps import MapFiles
from expertree.degradation.parts import plan_patches
from expertree.degradation.photographs import Photo, Split
from expertree.degradation.table import PatchSet
from expertree.pipeline.extractor import embed
from expertree.pipeline.make_patches import degrade
from expertree.pipeline.runner import OnDone
from expertree.pipeline.score import Column, Scored, score
from expertree.pipeline.stages import Workbench, key_of
from expertree.storage import Storage, Written


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SplitPhotographs:
    """The photographs of a build, with the split and the maps of each."""

    photos: Sequence[Photo]
    skipped: Sequence[tuple[str, str]]
    splits: Mapping[str, Split]
    maps: MapFiles

    def photos_of(self, part: Split) -> list[Photo]:
        """Return the photographs of one split."""
        return [photo for photo in self.photos if self.splits[photo.name] == part]

    def photos_for(self, patch_set: PatchSet) -> list[Photo]:
        """Return the photographs that a patch set is cut from."""
        parts = (patch_set.part, *patch_set.also)
        return [photo for photo in self.photos if self.splits[photo.name] in parts]


def table_specs(
    sets: Mapping[str, PatchSet], material: SplitPhotographs, *, seed: int
) -> dict[str, dict[str, Any]]:
    """Return everything that each patch set's table depends on: contents, not folders."""
    specs: dict[str, dict[str, Any]] = {}
    for name, patch_set in sets.items():
        photos = material.photos_for(patch_set)
        specs[name] = {
            "patch_set": _record(patch_set),
            "photographs": sorted((photo.name, photo.sha256) for photo in photos),
            "seed": seed,
        }
        maps = material.maps.of_photos([photo.name for photo in photos]).key
        if maps is not None:
            specs[name]["maps"] = maps
    return specs


def _record(patch_set: PatchSet) -> dict[str, Any]:
    """Return the set as plain data; newer fields at their defaults are left out, to keep keys."""
    record = to_dict(patch_set)
    if patch_set.clean_fraction == 0.0:
        del record["clean_fraction"]
    if patch_set.looks == NATURAL:
        del record["looks"]
    if not patch_set.also:
        del record["also"]
    if patch_set.scored_px is None:
        del record["scored_px"]
    return record


def make_tables(
    bench: Workbench, sets: Mapping[str, PatchSet], material: SplitPhotographs, *, seed: int
) -> dict[str, Storage]:
    """Return the table of each patch set, from the store or made now."""

    def make(missing: Mapping[str, Storage], on_done: OnDone) -> Mapping[Storage, Written]:
        plans = {
            name: plan_patches(
                sets[name], material.photos_for(sets[name]), seed=seed, maps=material.maps
            )
            for name in missing
        }
        wanted = [(plans[name], result) for name, result in missing.items()]
        return degrade(bench.runner, wanted, on_done)

    specs = table_specs(sets, material, seed=seed)
    return bench.run_many("degrade", specs, make)


def embed_tables(
    bench: Workbench, tables: Mapping[str, Storage], extractor: Storage
) -> dict[str, Storage]:
    """Return the embeddings of each patch set, from the store or made now."""
    specs = {
        name: {"table": key_of(table), "extractor": key_of(extractor)}
        for name, table in tables.items()
    }

    def make(missing: Mapping[str, Storage], on_done: OnDone) -> Mapping[Storage, Written]:
        wanted = [(tables[name], result) for name, result in missing.items()]
        return embed(bench.runner, wanted, extractor, on_done)

    return bench.run_many("embed", specs, make)


def score_tables(
    bench: Workbench,
    tables: Mapping[str, Storage],
    experts: Mapping[str, Scored],
    wanted: Sequence[tuple[str, str]],
) -> dict[tuple[str, str], Storage]:
    """Return scores by (expert's key, patch set), from the store or made now.

    Args:
        bench: The workbench.
        tables: Table of each patch set, by name.
        experts: Experts, classical methods or inputs to score, by key.
        wanted: Pairs of an expert's key and the patch set to score it on.
    """
    specs = {
        (key, name): _scored_by(key, experts[key]) | {"table": key_of(tables[name])}
        for key, name in wanted
    }

    def make(missing: Mapping[tuple[str, str], Storage], on_done: OnDone) -> None:
        columns = [
            Column(expert=experts[key], table=tables[name], directory=result, spec=specs[key, name])
            for (key, name), result in missing.items()
        ]
        score(bench.runner, columns, on_done)

    return bench.run_many("score", specs, make)


def _scored_by(key: str, scored: Scored) -> dict[str, Any]:
    """Return what scores depend on besides the patches."""
    if not isinstance(scored, Mapping):
        return {"expert": key}
    return {"expert": key, "methods": VERSION, "chosen": dict(scored)}
