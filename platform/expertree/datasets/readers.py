"""Find the pairs of a set: files that belong together, or clean images and a recipe."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from expertree.datasets.layouts import (
    FoundPair,
    Layout,
    Place,
    find_images,
    find_pairs,
    first_names,
)
from expertree.datasets.pairs import Pair, Piece
from expertree.datasets.protocols import RGB, Protocol
from expertree.degradation.recipe import Recipe

Find: TypeAlias = Callable[[Place], list[Pair]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A part of a data set.

    Attributes:
        find: Finds its pairs.
        num_pairs: Number of pairs when nothing is missing; None if that varies.
        protocols: Rules by which it is measured, the usual ones first.
        is_coloured: Whether its clean images are known to have colour: others that are all grey are
            not these.
    """

    find: Find
    num_pairs: int | None = None
    protocols: tuple[Protocol, ...] = (RGB,)
    is_coloured: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """A data set: its parts, how it is measured and how it is recognised.

    Attributes:
        title: Name for people.
        splits: Its parts by name; the first is the usual one.
        measured: The parts that publications measure; none for sets that are only trained on.
        folders: Names that its folder has on people's disks, in lower case and without anything but
            letters and digits.
        marks: Globs of files or folders that no other set has.
        kinds: Folders of its degraded images that are published apart, each a column of its own.
        is_alike: Whether several of its pairs may show one scene without saying so in their names;
            see `join_near_copies`.
        family: Name that sets have in common which call the same scenes by the same names.
    """

    title: str
    splits: Mapping[str, Split]
    measured: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    is_alike: bool = False
    family: str = ""


def pairs_of_files(tasks: tuple[str, ...], *layouts: Layout) -> Find:
    """Return a function that finds pairs of files in one of some layouts."""

    def find(place: Place) -> list[Pair]:
        return [_pair(found, tasks) for found in find_pairs(place, layouts)]

    return find


def clean_images(*globs: str) -> Find:
    """Return a function that finds clean images, without degraded ones."""

    def find(place: Place) -> list[Pair]:
        images = find_images(place, globs)
        names = [name_in(place.root, path) for path in images]
        return [
            Pair(name=name, gt=path, scene=name) for name, path in zip(names, images, strict=True)
        ]

    return find


def photographs(*globs: str, tasks: tuple[str, ...] = ()) -> Find:
    """Return a function that finds degraded images whose clean ones nobody has."""

    def find(place: Place) -> list[Pair]:
        images = find_images(place, globs)
        names = [name_in(place.root, path) for path in images]
        return [
            Pair(name=name, gt=None, lq=path, tasks=tasks, scene=name)
            for name, path in zip(names, images, strict=True)
        ]

    return find


def halves(tasks: tuple[str, ...], *globs: str) -> Find:
    """Return a function that finds pictures whose left half is degraded and right half clean."""

    def find(place: Place) -> list[Pair]:
        images = find_images(place, globs)
        names = [name_in(place.root, path) for path in images]
        return [
            Pair(
                name=name,
                gt=path,
                lq=path,
                tasks=tasks,
                scene=path.stem,
                gt_piece=Piece(half="right"),
                lq_piece=Piece(half="left"),
            )
            for name, path in zip(names, images, strict=True)
        ]

    return find


def made_of(clean: Find, protocol: Protocol) -> Find:
    """Return a function that finds clean images and gives each a recipe to degrade it.

    The recipe's seed depends on the set, the split and the image's name alone.
    """
    tasks = tuple(protocol.degradation)

    def find(place: Place) -> list[Pair]:
        return [
            dataclasses.replace(
                pair,
                tasks=tasks,
                recipe=Recipe(
                    tasks=tasks,
                    parameters=protocol.degradation,
                    seed=_seed_of(f"{place.dataset}/{place.split}/{Path(pair.name).name}"),
                ),
            )
            for pair in clean(place)
        ]

    return find


def one_of(where: Callable[[Place], int], *finds: Find) -> Find:
    """Return a function that finds pairs with one of several, by what lies in the folder.

    Args:
        where: Function of the place to the number of the one to take.
        finds: The functions to choose from.
    """
    return lambda place: finds[where(place)](place)


def combinations(kinds: Mapping[str, tuple[str, ...]], folders: Sequence[str]) -> Find:
    """Return a function that finds folders of degraded images that share clean ones in `clear`.

    Args:
        kinds: Degradations of each folder, by its name.
        folders: Folders that may hold them all, in the order in which they are tried.
    """

    def find(place: Place) -> list[Pair]:
        present = [folder for folder in folders if (place.root / folder).is_dir()]
        folder = place.root / (present[0] if present else folders[0])
        missing = [name for name in kinds if not (folder / name).is_dir()]
        if missing:
            raise place.error(
                f"'{folder}' has folders for {len(kinds) - len(missing)} of {len(kinds)} "
                f"combinations; missing: {first_names(missing)}"
            )
        return [
            dataclasses.replace(_pair(found, tasks), name=f"{kind}/{found.name}")
            for kind, tasks in kinds.items()
            for found in find_pairs(
                dataclasses.replace(place, root=folder),
                [Layout(lq=(f"{kind}/*",), gt=("clear/*",))],
            )
        ]

    return find


def name_in(root: Path, path: Path) -> str:
    """Return an image's path below a folder, without its suffix."""
    return path.relative_to(root).with_suffix("").as_posix()


def _pair(found: FoundPair, tasks: tuple[str, ...]) -> Pair:
    return Pair(name=found.name, gt=found.gt, lq=found.lq, tasks=tasks, scene=found.scene)


def _seed_of(text: str) -> int:
    data = text.encode(errors="surrogateescape")  # names of files may be no text
    return int.from_bytes(hashlib.sha256(data).digest()[:8]) >> 1
