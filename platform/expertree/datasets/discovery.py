"""Find the known sets below a folder, by their own files or by the names of their folders."""

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from expertree.datasets.layouts import is_written
from expertree.datasets.pairs import Dataset
from expertree.datasets.registry import DATASETS, open_dataset
from expertree.errors import DatasetError
from expertree.images.folders import is_passed_over

MAX_DEPTH = 5
"""Folders below folders that are looked into."""

OnUnreadable: TypeAlias = Callable[[str], None]
"""Callback for each folder that cannot be looked into, with a clause about it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A set that lies below a folder, or what looks like one.

    Attributes:
        name: Name in the registry.
        root: Its folder.
        splits: Its parts that publications measure, as far as they are whole.
        problems: For each part that cannot be measured, what is wrong with it.
    """

    name: str
    root: Path
    splits: tuple[Dataset, ...]
    problems: tuple[str, ...]


def find_datasets(
    folder: str | Path,
    *,
    only: str = "",
    partial: bool = False,
    on_unreadable: OnUnreadable = lambda _: None,
) -> list[Found]:
    """Find the sets that publications measure below a folder; images are read later, one by one.

    A folder is taken for a set's if it holds a file or folder that no other set has, or has the
    set's name in any spelling (`Rain100L`, `rain_100_l`), and if the set's layout is in it. Of
    several folders of one set that with most parts to measure is taken, the nearest of those.

    Args:
        folder: The folder that is searched; hidden folders below it are not, nor those that servers
            and file managers keep, nor pictures that measuring wrote.
        only: Name of one set, to look for no other.
        partial: Whether part of a set is enough; its scores are then not those of the set.
        on_unreadable: Called for each folder that cannot be looked into; it is passed over.

    Returns:
        What was found, in the order of the registry; sets with problems alone included.

    Raises:
        DatasetError: If the folder does not exist.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DatasetError(f"'{folder}' is not a folder, so that no sets lie below it")
    unreadable: dict[str, str] = {}
    best: dict[str, Found] = {}
    for candidate in _folders(root, unreadable):
        for name in _names_of(candidate, unreadable):
            if only in {"", name} and not (name in best and _is_all(best[name])):
                found = _open(name, candidate, partial=partial)
                if name not in best or len(found.splits) > len(best[name].splits):
                    best[name] = found
    for place, reason in unreadable.items():
        on_unreadable(f"'{place}' cannot be looked into: {reason}")
    return [best[name] for name in DATASETS if name in best]


def _is_all(found: Found) -> bool:
    return len(found.splits) == len(DATASETS[found.name].measured)


def _open(name: str, root: Path, *, partial: bool) -> Found:
    splits: list[Dataset] = []
    problems: list[str] = []
    for split in DATASETS[name].measured:
        try:
            splits.append(open_dataset(name, root, split, partial=partial))
        except DatasetError as error:
            problems.append(str(error))
    return Found(name=name, root=root, splits=tuple(splits), problems=tuple(problems))


def _names_of(folder: Path, unreadable: dict[str, str]) -> list[str]:
    """Return the sets that a folder may be: none if it cannot be looked into, which is noted."""
    spelt = re.sub(r"[^a-z0-9]", "", folder.name.lower())
    try:
        return [
            name
            for name, spec in DATASETS.items()
            if spelt in spec.folders or any(_has(folder, mark) for mark in spec.marks)
        ]
    except OSError as error:
        unreadable[str(folder)] = error.strerror or type(error).__name__
        return []


def _has(folder: Path, mark: str) -> bool:
    return (folder / mark).exists() if "*" not in mark else any(folder.glob(mark))


def _folders(root: Path, unreadable: dict[str, str]) -> list[Path]:
    """Return a folder and those below it, the nearest first, then by name."""

    def note(error: OSError) -> None:
        unreadable[str(error.filename)] = error.strerror or type(error).__name__

    found = [root]
    for place, names, _ in os.walk(root, followlinks=True, onerror=note):
        here = Path(place)
        depth = len(here.relative_to(root).parts)
        names[:] = sorted(
            name for name in names if not is_passed_over(name) and not is_written(here / name)
        )
        if depth >= MAX_DEPTH:
            names.clear()
        found += [here / name for name in names]
    return sorted(found, key=lambda path: (len(path.parts), path.as_posix()))
