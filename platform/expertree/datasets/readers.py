"""Find the pairs of a set: files that belong together, or clean images and a recipe."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from expertree.datasets.layouts import (
    Layout,
    Place,
    by_first_part,
    by_number,
    by_scene,
    find_images,
    find_pairs,
    first_names,
)
from expertree.datasets.pairs import Pair, Protocol
from expertree.degradation.parameters import Parameters
from expertree.degradation.recipe import Recipe

Find: TypeAlias = Callable[[Place], list[Pair]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A part of a data set.

    Attributes:
        find: Finds its pairs.
        num_pairs: Number of pairs when nothing is missing; None if that varies.
    """

    find: Find
    num_pairs: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """A data set: its parts, and how it is measured.

    Attributes:
        splits: Its parts by name; the first is the usual one.
        protocol: Rules by which it is measured.
    """

    splits: Mapping[str, Split]
    protocol: Protocol = Protocol()


CDD11: Mapping[str, tuple[str, ...]] = {
    "low": ("low_light",),
    "haze": ("haze",),
    "rain": ("rain",),
    "snow": ("snow",),
    "low_haze": ("low_light", "haze"),
    "low_rain": ("low_light", "rain"),
    "low_snow": ("low_light", "snow"),
    "haze_rain": ("rain", "haze"),
    "haze_snow": ("snow", "haze"),
    "low_haze_rain": ("low_light", "rain", "haze"),
    "low_haze_snow": ("low_light", "snow", "haze"),
}
"""Folders of the set CDD-11, and the degradations of each in physical order."""

PAIRED_FOLDERS = (
    ("input", "target"),
    ("lq", "gt"),
    ("low", "high"),
    ("low", "normal"),
    ("noisy", "clean"),
    ("hazy", "clear"),
    ("hazy", "gt"),
    ("blur", "sharp"),
    ("rain", "norain"),
    ("degraded", "clean"),
)
"""Names that the two folders of the set `paired` may have."""


def pairs_of_files(tasks: tuple[str, ...], *layouts: Layout) -> Find:
    """Return a function that finds pairs of files in one of some layouts."""

    def find(place: Place) -> list[Pair]:
        return [
            Pair(name=name, gt=gt, lq=lq, tasks=tasks)
            for name, lq, gt in find_pairs(place, layouts)
        ]

    return find


def clean_images(*globs: str) -> Find:
    """Return a function that finds clean images, without degraded ones."""

    def find(place: Place) -> list[Pair]:
        images = find_images(place, globs)
        return [Pair(name=_name_in(place.root, path), gt=path) for path in images]

    return find


def made_of(clean: Find, task: str, parameters: Parameters) -> Find:
    """Return a function that finds clean images and gives each a recipe to degrade it.

    The recipe's seed depends on the set, the split and the image's name alone.
    """

    def find(place: Place) -> list[Pair]:
        return [
            dataclasses.replace(
                pair,
                tasks=(task,),
                recipe=Recipe(
                    tasks=(task,),
                    parameters={task: parameters},
                    seed=_seed_of(f"{place.dataset}/{place.split}/{Path(pair.name).name}"),
                ),
            )
            for pair in clean(place)
        ]

    return find


def combinations(folders: Sequence[str]) -> Find:
    """Return a function that finds CDD-11's eleven combinations, which share clean images."""

    def find(place: Place) -> list[Pair]:
        present = [folder for folder in folders if (place.root / folder).is_dir()]
        folder = place.root / (present[0] if present else folders[0])
        missing = [name for name in CDD11 if not (folder / name).is_dir()]
        if missing:
            raise place.error(
                f"'{folder}' has folders for {len(CDD11) - len(missing)} of {len(CDD11)} "
                f"combinations; missing: {first_names(missing)}"
            )
        return [
            Pair(name=f"{combination}/{name}", gt=gt, lq=lq, tasks=tasks)
            for combination, tasks in CDD11.items()
            for name, lq, gt in find_pairs(
                dataclasses.replace(place, root=folder),
                [Layout(lq=f"{combination}/*", gt="clear/*")],
            )
        ]

    return find


def noisy_set(num_images: int | None, usual: str, *globs: str) -> DatasetSpec:
    """Return a set of clean images, with splits that add noise of deviation 15, 25 and 50."""
    clean = clean_images(*globs)
    splits = {
        f"noise{sigma}": Split(
            find=made_of(clean, "noise", {"sigma": float(sigma)}), num_pairs=num_images
        )
        for sigma in (15, 25, 50)
    }
    splits["clean"] = Split(find=clean, num_pairs=num_images)
    ordered = {usual: splits[usual], **splits}
    return DatasetSpec(splits=ordered, protocol=Protocol(multiple_px=16))


def jpeg_set(num_images: int, *globs: str) -> DatasetSpec:
    """Return a set of clean images, with splits that code them as JPEG at quality 10 to 40."""
    clean = clean_images(*globs)
    splits = {
        f"jpeg{quality}": Split(
            find=made_of(clean, "jpeg", {"quality": quality}), num_pairs=num_images
        )
        for quality in (10, 20, 30, 40)
    }
    return DatasetSpec(splits={**splits, "clean": Split(find=clean, num_pairs=num_images)})


def rain_set(weight: str, num_train: int, protocol: Protocol) -> DatasetSpec:
    """Return Rain100L or Rain100H: as first published, as in MPRNet's archive, or as updated."""

    def split(name: str, number: int) -> Split:
        layouts = (
            ("input/*", "target/*"),
            ("rainy/*", "gt/*"),
            ("rain/*", "norain/*"),
            ("rainy/*", "norain-*"),
            ("rain-*", "norain-*"),
        )
        pairs = [
            Layout(lq=lq, gt=gt, lq_key=by_number, gt_key=by_number).inside(folder)
            for folder in (name, "")
            for lq, gt in layouts
        ]
        updated = f"rain_data_{name}_{weight}"
        pairs += [
            Layout(lq=lq, gt="norain/*", lq_key=by_number, gt_key=by_number).inside(updated)
            for lq in ("rain/X2/*", "rain/*")
        ]
        return Split(find=pairs_of_files(("rain",), *pairs), num_pairs=number)

    return DatasetSpec(
        splits={"test": split("test", 100), "train": split("train", num_train)}, protocol=protocol
    )


def hazy_pairs(*folders: tuple[str, str]) -> Find:
    """Return a function that finds hazy images, several for a clear one.

    Partners have the same name up to the first underscore.
    """
    layouts = [
        Layout(lq=lq, gt=gt, lq_key=by_first_part, gt_key=by_first_part) for lq, gt in folders
    ]
    return pairs_of_files(("haze",), *layouts)


def reside_set() -> DatasetSpec:
    """Return RESIDE's training parts, in folders of their own or at the root."""
    indoor = hazy_pairs(
        ("ITS/hazy/*", "ITS/clear/*"),
        ("ITS/train/ITS_haze/*", "ITS/train/ITS_clear/*"),
        ("train/hazy/*", "train/clear/*"),
        ("hazy/*", "clear/*"),
    )
    outdoor = hazy_pairs(
        ("OTS/hazy/**/*", "OTS/clear/**/*"),
        ("OTS/haze/**/*", "OTS/clear/**/*"),
        ("hazy/**/*", "clear/**/*"),
        ("haze/**/*", "clear/**/*"),
    )
    return DatasetSpec(
        splits={"its": Split(find=indoor, num_pairs=13990), "ots": Split(find=outdoor)}
    )


def sots_set(place: str, protocol: Protocol) -> DatasetSpec:
    """Return SOTS indoor or outdoor, as published or as in the all-in-one papers' archive."""
    folders = [f"{place}/nyuhaze500/", f"{place}/", f"SOTS/{place}/", ""]
    find = hazy_pairs(
        *((f"{x}hazy/*", f"{x}gt/*") for x in folders),
        *((f"{x}input/*", f"{x}target/*") for x in folders),
    )
    return DatasetSpec(splits={"test": Split(find=find, num_pairs=500)}, protocol=protocol)


def gopro_split(name: str, number: int) -> Split:
    """Return a part of GoPro: by scenes, as published, or in two folders."""
    by_scenes = Layout(lq="*/blur/*", gt="*/sharp/*", lq_key=by_scene, gt_key=by_scene)
    layouts = (
        dataclasses.replace(by_scenes, name=by_scene),
        Layout(lq="input/*", gt="target/*"),
        Layout(lq="blur/*", gt="sharp/*"),
    )
    find = pairs_of_files(("motion_blur",), *(layout.inside(name) for layout in layouts))
    return Split(find=find, num_pairs=number)


def snow_split(number: int, *folders: str) -> Split:
    """Return a part of Snow100K, in one of some folders."""
    layouts = [Layout(lq="synthetic/*", gt="gt/*").inside(folder) for folder in folders]
    return Split(find=pairs_of_files(("snow",), *layouts), num_pairs=number)


def snow_test_split(size: str, number: int) -> Split:
    """Return a test set of Snow100K, also below the folders that its archive unpacks to."""
    folder = f"Snow100K-{size}"
    return snow_split(
        number, f"test/{folder}", folder, f"media/jdway/GameSSD/overlapping/test/{folder}"
    )


def low_light_split(folder: str, number: int) -> Split:
    """Return a part of LOL."""
    layout = Layout(lq="low/*", gt="high/*").inside(folder)
    return Split(find=pairs_of_files(("low_light",), layout), num_pairs=number)


def paired_set() -> DatasetSpec:
    """Return a set of two folders with usual names, at the root or in a folder for each split."""

    def split(folder: str) -> Split:
        layouts = (Layout(lq=f"{lq}/*", gt=f"{gt}/*").inside(folder) for lq, gt in PAIRED_FOLDERS)
        return Split(find=pairs_of_files((), *layouts))

    folders = {"all": "", "train": "train", "val": "val", "test": "test"}
    return DatasetSpec(splits={name: split(folder) for name, folder in folders.items()})


def _seed_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def _name_in(root: Path, path: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()
