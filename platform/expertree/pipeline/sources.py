"""Lists what a build is trained on: photographs to spoil, and pairs; each scene in one part."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from expertree.datasets import DATASETS, Dataset, open_dataset
from expertree.degradation.maps import NO_MAPS, MapFiles, list_maps
from expertree.degradation.paired import TrainingPair
from expertree.degradation.parts import slug
from expertree.degradation.photographs import (
    BUNDLED_SOURCE,
    Photo,
    Split,
    choose_photographs,
    examine_files,
    list_photographs,
    load_photo,
)
from expertree.errors import ConfigError, PhotoError
from expertree.pipeline.data_config import PHOTOGRAPHS, SourceConfig
from expertree.pipeline.scenes import Shown, divide, near_copies
from expertree.pipeline.settings import BuildConfig
from expertree.storage import Storage

PARTS: tuple[Split, ...] = ("train", "route", "val")

_CLEAN_SIDES = "clean-sides"
"""Label of the clean sides of pairs, where they stand in for photographs."""

_MOST_NAMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The pictures of one source, photographs or pairs, with the part that each is for.

    Attributes:
        label: Name that its patches' ids have; empty for the only source of photographs.
        weight: Share of the training patches, relative to other sources.
        photos: Clean photographs.
        pairs: Pairs.
        splits: Part of each, by its name.
    """

    label: str
    weight: float
    photos: tuple[Photo, ...] = ()
    pairs: tuple[TrainingPair, ...] = ()
    splits: Mapping[str, Split]

    def photos_of(self, *parts: Split) -> list[Photo]:
        """Return its photographs of some parts."""
        return [photo for photo in self.photos if self.splits[photo.name] in parts]

    def pairs_of(self, *parts: Split) -> list[TrainingPair]:
        """Return its pairs of some parts."""
        return [pair for pair in self.pairs if self.splits[pair.name] in parts]

    def at_least(self, side_px: int) -> "Source":
        """Return the source with the pictures alone that have no shorter side."""
        return dataclasses.replace(
            self,
            photos=tuple(own for own in self.photos if _least_px(own) >= side_px),
            pairs=tuple(own for own in self.pairs if _least_px(own.gt) >= side_px),
        )


def _least_px(photo: Photo) -> int:
    return min(photo.width_px, photo.height_px)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """All that a build is trained on.

    Attributes:
        sources: The sources.
        skipped: Name and reason of each file that is not used.
        maps: Real maps of the photographs.
    """

    sources: Sequence[Source]
    skipped: Sequence[tuple[str, str]] = ()
    maps: MapFiles = NO_MAPS

    @property
    def photos(self) -> list[Photo]:
        """The clean photographs of all sources."""
        return [photo for source in self.sources for photo in source.photos]

    def photos_of(self, part: Split) -> list[Photo]:
        """Return the clean photographs of one part."""
        return [photo for source in self.sources for photo in source.photos_of(part)]

    def clean_of(self, part: Split) -> list[Photo]:
        """Return the photographs and the clean sides of pairs of one part."""
        pairs = [pair for source in self.sources for pair in source.pairs_of(part)]
        return [*self.photos_of(part), *(pair.gt for pair in pairs)]

    def at_least(self, side_px: int) -> "Material":
        """Return the material with the pictures alone that have no shorter side."""
        return dataclasses.replace(self, sources=[one.at_least(side_px) for one in self.sources])

    def has_pictures(self, *parts: Split) -> bool:
        """Return whether there are photographs or pairs of some parts."""
        return any(own.photos_of(*parts) or own.pairs_of(*parts) for own in self.sources)

    def kinds(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Return the degradations that are synthesised, then the other kinds of pairs."""
        pairs = (pair for source in self.sources for pair in source.pairs)
        return tuple(dict.fromkeys([*tasks, *(task for pair in pairs for task in pair.tasks)]))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What was found in the folder of a source; `keys` say what each picture shows."""

    config: SourceConfig
    label: str
    photos: tuple[Photo, ...] = ()
    pairs: tuple[TrainingPair, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def weight(self) -> float:
        repeats = self.config.repeats
        counted = 1.0 if repeats is None else repeats * (len(self.photos) or len(self.pairs))
        return self.config.weight * counted


def list_material(config: BuildConfig, *, is_dry: bool = False) -> Material:
    """Find, decode and check all pictures of a build, and give each scene to one part.

    Args:
        config: Configuration of the build.
        is_dry: Whether to leave no notes of the files in the store.

    Raises:
        PhotoError: If pictures cannot be used: damaged, too small, of unequal sizes, too few.
        DatasetError: If a data set is not in its folder, or not whole.
        ConfigError: If a source cannot be trained on, or two of them contradict each other.
    """
    find = _Finder(config, is_dry=is_dry)
    found = [find(source, label) for source, label in zip(*labelled(config), strict=True)]
    found = _name_apart(found)
    parts = divide(
        [Shown(label=one.label, part=one.config.part, keys=_keys(one)) for one in found],
        val_fraction=config.photographs.val_fraction,
        route_fraction=config.photographs.route_fraction,
        seed=config.seed,
    )
    sources = [_source(one, own) for one, own in zip(found, parts, strict=True)]
    photographs = [source for source in sources if source.photos]
    if not photographs:
        sources.append(_clean_sides(sources))
    elif len(photographs) == 1:
        place = sources.index(photographs[0])
        sources[place] = dataclasses.replace(photographs[0], label="")
    material = Material(sources=sources, skipped=[own for one in found for own in one.skipped])
    _check_parts(material)
    patch_px = config.degradation.patch_px
    maps = list_maps(config.photographs.maps, material.photos, patch_px=patch_px)
    return dataclasses.replace(material, maps=maps)


def labelled(config: BuildConfig) -> tuple[list[SourceConfig], list[str]]:
    """Return the sources of a build, their folders whole, and a label for each, none twice."""
    data = config.data
    if not data.sources:
        return [SourceConfig(root=config.photographs.source)], ["photographs"]
    sources = [dataclasses.replace(one, root=_folder(data.root, one.root)) for one in data.sources]
    names = [
        slug(one.root.rstrip("/")) if one.reader == PHOTOGRAPHS else one.reader for one in sources
    ]
    seen: Counter[str] = Counter()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return sources, labels


def missing_folders(config: BuildConfig) -> list[str]:
    """Return each source whose folder is not there: its label and the folder."""
    return [
        f"{label} in {source.root}"
        for source, label in zip(*labelled(config), strict=True)
        if source.root != BUNDLED_SOURCE and not Path(source.root).expanduser().is_dir()
    ]


class _Finder:
    """Finds the pictures of sources, and keeps notes of what was decoded."""

    def __init__(self, config: BuildConfig, *, is_dry: bool) -> None:
        self._min_side_px = config.degradation.patch_px
        self._partial = config.data.partial
        self._known = Storage.open(config.store).sub("photographs")
        self._is_dry = is_dry

    def __call__(self, source: SourceConfig, label: str) -> _Found:
        """Find the pictures of one source."""
        if source.reader == PHOTOGRAPHS:
            photos, skipped = list_photographs(
                source.root, min_side_px=self._min_side_px, known=self._known, is_dry=self._is_dry
            )
            _refuse_tasks(source, label)
            return _Found(config=source, label=label, photos=tuple(photos), skipped=tuple(skipped))
        dataset = open_dataset(source.reader, source.root, source.split, partial=self._partial)
        if any(pair.recipe is not None for pair in dataset):
            raise ConfigError(
                f"data.sources: split {dataset.split} of {source.reader} is made by a recipe, to "
                "measure on; train on its split 'clean', which is spoiled here"
            )
        _refuse_what_is_not_a_file(source, dataset)
        if any(pair.lq is None for pair in dataset):
            return self._clean(source, label, dataset)
        return _Found(config=source, label=label, pairs=tuple(self._pairs(source, label, dataset)))

    def _clean(self, source: SourceConfig, label: str, dataset: Dataset) -> _Found:
        _refuse_tasks(source, label)
        root = Path(source.root).expanduser()
        paths = [pair.gt for pair in dataset if pair.gt is not None]
        files = [(path.relative_to(root).as_posix(), str(path.absolute())) for path in paths]
        photos, skipped = choose_photographs(
            files,
            f"{source.root} {dataset.split}",
            min_side_px=self._min_side_px,
            known=self._known,
            is_dry=self._is_dry,
        )
        return _Found(config=source, label=label, photos=tuple(photos), skipped=tuple(skipped))

    def _pairs(self, source: SourceConfig, label: str, dataset: Dataset) -> Iterator[TrainingPair]:
        kinds = {source.tasks or pair.tasks for pair in dataset}
        if () in kinds:
            raise ConfigError(
                f"data.sources: nothing says what is wrong with the pictures of {label} in "
                f"{source.root}; give its tasks, for example tasks: [noise]"
            )
        root = Path(source.root).expanduser()
        sides = {side: [getattr(pair, side) for pair in dataset] for side in ("lq", "gt")}
        paths = dict.fromkeys(path for side in sides.values() for path in side)
        examined = examine_files(
            [(path.relative_to(root).as_posix(), str(path.absolute())) for path in paths],
            f"{source.root} {dataset.split}",
            min_side_px=self._min_side_px,
            known=self._known,
            is_dry=self._is_dry,
        )
        outcome = dict(zip(paths, examined, strict=True))
        _refuse(
            label,
            source,
            [
                _problem(outcome[lq], outcome[gt], lq, gt)
                for lq, gt in zip(sides["lq"], sides["gt"], strict=True)
            ],
        )
        for pair, lq_path, gt_path in zip(dataset, sides["lq"], sides["gt"], strict=True):
            lq, gt = outcome[lq_path], outcome[gt_path]
            if isinstance(lq, Photo) and isinstance(gt, Photo):
                tasks = source.tasks or pair.tasks
                yield TrainingPair(name=pair.name, tasks=tasks, lq=lq, gt=gt, scene=pair.scene)


def _refuse_what_is_not_a_file(source: SourceConfig, dataset: Dataset) -> None:
    """Refuse a split without clean images, or whose images are parts of files."""
    if any(pair.gt is None for pair in dataset):
        raise ConfigError(
            f"data.sources: split {dataset.split} of {source.reader} has no clean images, so that "
            "nothing can be learnt from it; choose a split that has some"
        )
    if any(pair.lq_piece is not None or pair.gt_piece is not None for pair in dataset):
        raise ConfigError(
            f"data.sources: the images of split {dataset.split} of {source.reader} are parts of "
            "files, which can be measured and not trained on; save each as a file of its own and "
            "give them with the reader 'paired'"
        )


def _problem(lq: Photo | str, gt: Photo | str, lq_path: Path, gt_path: Path) -> str:
    """Return why a pair cannot be used, empty if it can."""
    if isinstance(lq, str):
        return f"{lq_path.name} {lq}"
    if isinstance(gt, str):
        return f"the clean {gt_path.name} {gt}"
    if (lq.width_px, lq.height_px) != (gt.width_px, gt.height_px):
        return (
            f"{lq_path.name} is {lq.width_px} x {lq.height_px} px and its clean {gt_path.name} "
            f"{gt.width_px} x {gt.height_px} px"
        )
    return ""


def _refuse(label: str, source: SourceConfig, problems: Sequence[str]) -> None:
    named = [problem for problem in problems if problem]
    if named:
        more = f"; and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        raise PhotoError(
            f"data.sources: {len(named)} of {len(problems)} pairs of {label} in {source.root} "
            f"cannot be trained on: {'; '.join(named[:_MOST_NAMED])}{more}"
        )


def _refuse_tasks(source: SourceConfig, label: str) -> None:
    if source.tasks:
        raise ConfigError(
            f"data.sources: {label} in {source.root} has clean photographs, whose degradations are "
            "degradation.tasks; leave its tasks out"
        )


def _folder(root: str | None, folder: str) -> str:
    if root is None or folder == BUNDLED_SOURCE:
        return folder
    return (Path(root).expanduser() / folder).as_posix()


def _name_apart(found: Sequence[_Found]) -> list[_Found]:
    """Give photographs of several sources names that are unique among all of them."""
    if sum(bool(one.photos) for one in found) < 2:
        return list(found)
    return [
        dataclasses.replace(
            one,
            photos=tuple(
                dataclasses.replace(photo, name=f"{one.label}/{photo.name}") for photo in one.photos
            ),
            skipped=tuple((f"{one.label}/{name}", reason) for name, reason in one.skipped),
        )
        for one in found
    ]


def _keys(found: _Found) -> list[list[str]]:
    """Return what each picture shows: its clean side, its scene, a near copy of it."""
    keys = [[photo.sha256] for photo in found.photos]
    keys += [[pair.gt.sha256, *_scene_keys(found, pair)] for pair in found.pairs]
    if found.config.alike is not None:
        clean = {pair.gt.sha256: pair.gt for pair in found.pairs}
        clean |= {photo.sha256: photo for photo in found.photos}
        hashes, own = list(clean), {key[0]: place for place, key in enumerate(keys)}
        images = (load_photo(photo) for photo in clean.values())
        for one, other in near_copies(images, alike=found.config.alike):
            keys[own[hashes[one]]].append(hashes[other])
    return keys


def _scene_keys(found: _Found, pair: TrainingPair) -> list[str]:
    """Return the key of a pair's scene, by the pattern of its source or as its reader says."""
    if found.config.scene is not None:
        match = re.search(found.config.scene, pair.name)
        return [f"{found.label}: {'/'.join(match.groups(''))}"] if match else []
    # Sorted after hashes, which name scenes of one clean picture and so decide their parts.
    family = DATASETS[found.config.reader].family or found.label
    return [f"scene {pair.scene} of {family}"] if pair.scene else []


def _source(found: _Found, parts: Sequence[Split]) -> Source:
    names = [*(photo.name for photo in found.photos), *(pair.name for pair in found.pairs)]
    return Source(
        label=found.label,
        weight=found.weight,
        photos=found.photos,
        pairs=found.pairs,
        splits=dict(zip(names, parts, strict=True)),
    )


def _clean_sides(sources: Sequence[Source]) -> Source:
    """Return the clean sides of pairs as photographs: the extractor needs some to spoil."""
    photos: dict[str, Photo] = {}
    splits: dict[str, Split] = {}
    for source in sources:
        for pair in source.pairs:
            if pair.gt.sha256 not in photos:
                name = f"{source.label}/{pair.gt.name}"
                photos[pair.gt.sha256] = dataclasses.replace(pair.gt, name=name)
                splits[name] = source.splits[pair.name]
    return Source(label=_CLEAN_SIDES, weight=0.0, photos=tuple(photos.values()), splits=splits)


def _check_parts(material: Material) -> None:
    for part in PARTS:
        if not material.photos_of(part):
            raise PhotoError(
                f"data.sources: no clean photographs are for {part}, where some are spoiled; give "
                "a source of photographs without `part`, or one more for that part"
            )
