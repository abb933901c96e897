"""The stages of a patch set: make its table, embed it, score experts on it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.classical import VERSION
from expertree.config import fingerprint, to_dict
from expertree.degradation.looks import NATURAL
from expertree.degradation.paired import TrainingPair, plan_pairs
from expertree.degradation.parts import plan_patches, takes_turns
from expertree.degradation.photographs import Photo, Split
from expertree.degradation.ranges import PAPER_RANGES
from expertree.degradation.table import PatchSet
from expertree.pipeline.extractor import embed
from expertree.pipeline.make_patches import Part, degrade
from expertree.pipeline.runner import OnDone
from expertree.pipeline.score import Column, Measured, Scored, ToldExpert, score
from expertree.pipeline.sources import Material, Source
from expertree.pipeline.stages import Workbench, key_of
from expertree.storage import Storage, Written


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Portion:
    """The rows that one source gives to a patch set.

    Attributes:
        source: The source.
        patch_set: The set, with the number of these rows alone.
    """

    source: Source
    patch_set: PatchSet

    @property
    def photos(self) -> list[Photo]:
        """The source's photographs of the set's parts."""
        return self.source.photos_of(*self.patch_set.parts)

    @property
    def pairs(self) -> list[TrainingPair]:
        """The source's pairs of the set's parts."""
        return self.source.pairs_of(*self.patch_set.parts)


def portions(patch_set: PatchSet, material: Material) -> list[Portion]:
    """Divide a set's rows among the sources that have pictures of its parts, by their weights.

    Clean rows are cut from photographs, all others come from photographs and, where the set takes
    pairs, from pairs. Where no such source has a weight, photographs count by their number.

    Returns:
        The portions, in the order of the sources; none is empty. The only source of a set gives
        the set as it is.
    """
    parts = patch_set.parts
    sources = [one for one in material.sources if one.photos_of(*parts) or one.pairs_of(*parts)]
    if not patch_set.takes_pairs:
        sources = [one for one in sources if one.photos]
    if len(sources) == 1 and sources[0].photos:
        return [Portion(source=sources[0], patch_set=patch_set)]
    num_clean = round(patch_set.num_patches * patch_set.clean_fraction)
    num_mixed = round(patch_set.num_patches * patch_set.mixed_fraction)
    num_spoiled = patch_set.num_patches - num_clean
    spoiled = _apportion(num_spoiled, _weights(sources, parts))
    clean = _apportion(num_clean, _weights([one for one in sources if one.photos], parts))
    by_photos = iter(clean)
    found = []
    for source, own in zip(sources, spoiled, strict=True):
        unspoiled = next(by_photos) if source.photos else 0
        # Mixtures are a share of what is synthesised; pairs are what they are.
        mixed = round(num_mixed * own / num_spoiled) if source.photos and num_spoiled else 0
        total = own + unspoiled
        if total:
            rows = dataclasses.replace(
                patch_set,
                num_patches=total,
                mixed_fraction=mixed / total,
                clean_fraction=unspoiled / total,
            )
            found.append(Portion(source=source, patch_set=rows))
    return found


def _weights(sources: Sequence[Source], parts: Sequence[Split]) -> list[float]:
    if any(one.weight for one in sources):
        return [one.weight for one in sources]
    return [float(len(one.photos_of(*parts))) for one in sources]


def _apportion(number: int, weights: Sequence[float]) -> list[int]:
    """Divide a number by weights; what rounding leaves goes to the largest fractions."""
    total = sum(weights)
    exact = [number * weight / total for weight in weights]
    counts = [int(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda place: counts[place] - exact[place])
    for place in order[: number - sum(counts)]:
        counts[place] += 1
    return counts


def table_specs(
    sets: Mapping[str, PatchSet], material: Material, *, seed: int
) -> dict[str, dict[str, Any]]:
    """Return everything that each patch set's table depends on: contents, not folders."""
    specs: dict[str, dict[str, Any]] = {}
    for name, patch_set in sets.items():
        given = portions(patch_set, material)
        photos = [photo for one in given for photo in one.photos]
        specs[name] = {
            "patch_set": _record(patch_set),
            "photographs": sorted((photo.name, photo.sha256) for photo in photos),
            "seed": seed,
        }
        maps = material.maps.of_photos([photo.name for photo in photos]).key
        if maps is not None:
            specs[name]["maps"] = maps
        if len(given) > 1 or given[0].source.label:
            specs[name]["sources"] = [_portion_record(one) for one in given]
        if not all(takes_turns(one.patch_set, len(one.photos)) for one in given if one.photos):
            specs[name]["dealt"] = "kind after kind"
    return specs


def trained_on(spec: Mapping[str, Any]) -> set[str]:
    """Return the hashes of the clean pictures that a table was made of, by its spec."""
    photos = {sha256 for _, sha256 in spec["photographs"]}
    return photos.union(*(one.get("clean", ()) for one in spec.get("sources", ())))


def _portion_record(portion: Portion) -> dict[str, Any]:
    """Return what a portion's rows depend on; tens of thousands of pairs go in as one hash."""
    own, rows = portion.source, portion.patch_set
    record: dict[str, Any] = {"label": own.label, "num_patches": rows.num_patches}
    if portion.photos:
        fractions = {"mixed": rows.mixed_fraction, "clean_fraction": rows.clean_fraction}
        return record | fractions | {"photographs": sorted(p.sha256 for p in portion.photos)}
    pairs = sorted((p.name, p.lq.sha256, p.gt.sha256, list(p.tasks)) for p in portion.pairs)
    clean = sorted({pair.gt.sha256 for pair in portion.pairs})
    return record | {"pairs": fingerprint(pairs), "clean": clean}


def _record(patch_set: PatchSet) -> dict[str, Any]:
    """Return the set as plain data; newer fields at their defaults are left out, to keep keys."""
    record = to_dict(patch_set)
    del record["takes_pairs"]  # which sources give rows is recorded by source
    if patch_set.clean_fraction == 0.0:
        del record["clean_fraction"]
    if not patch_set.also:
        del record["also"]
    if patch_set.scored_px is None:
        del record["scored_px"]
    if patch_set.smaller_share == 0.0:
        del record["smaller_share"]
    if patch_set.ranges == PAPER_RANGES:
        del record["ranges"]
    else:
        record["ranges"] = _without_linear(record["ranges"])
    if patch_set.looks == NATURAL:
        del record["looks"]
    return record


def _without_linear(ranges: Mapping[str, Any]) -> dict[str, Any]:
    """Return ranges as plain data without their scales, where these are linear."""
    kept = {name: value for name, value in ranges.items() if (name, value) != ("scale", "linear")}
    return {
        name: _without_linear(value) if isinstance(value, Mapping) else value
        for name, value in kept.items()
    }


def make_tables(
    bench: Workbench, sets: Mapping[str, PatchSet], material: Material, *, seed: int
) -> dict[str, Storage]:
    """Return the table of each patch set, from the store or made now."""

    def make(missing: Mapping[str, Storage], on_done: OnDone) -> Mapping[Storage, Written]:
        plans = {name: _plan(sets[name], material, seed) for name in missing}
        wanted = [(plans[name], result) for name, result in missing.items()]
        return degrade(bench.runner, wanted, on_done)

    specs = table_specs(sets, material, seed=seed)
    return bench.run_many("degrade", specs, make)


def _plan(patch_set: PatchSet, material: Material, seed: int) -> list[Part]:
    """Plan every row of a set, source after source."""
    parts: list[Part] = []
    for one in portions(patch_set, material):
        label = one.source.label
        if one.photos:
            photos, maps = one.photos, material.maps
            parts += plan_patches(one.patch_set, photos, seed=seed, maps=maps, label=label)
        else:
            parts += plan_pairs(one.patch_set, one.pairs, seed=seed, label=label)
    return parts


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
    if isinstance(scored, Measured):
        return scored.spec
    if isinstance(scored, ToldExpert):
        return {"expert": key_of(scored.expert), "told": True}
    if not isinstance(scored, Mapping):
        return {"expert": key}
    return {"expert": key, "methods": VERSION, "chosen": dict(scored)}
