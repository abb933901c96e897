"""Names of files: which images belong together, and which show the same scene."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Key: TypeAlias = Callable[[Path], str]
"""Function of an image's path to what it shares with its partners, or with its scene."""

_NUMBER = re.compile(r"(\d+)(?:x2)?(?:_[a-z]+)?$")


def by_stem(path: Path) -> str:
    """Return the name without its suffix."""
    return path.stem


def by_number(path: Path) -> str:
    """Return the number in the name; without one, the name.

    For example `rain-001`, `norain-1`, `rain-001_rainy` and `norain-001x2`.
    """
    match = _NUMBER.search(path.stem)
    return str(int(match[1])) if match else path.stem


def by_first_part(path: Path) -> str:
    """Return the name up to the first underscore, as in `0001_0.8_0.2` and `0001`."""
    return path.stem.partition("_")[0]


def by_folder(path: Path) -> str:
    """Return the folder above the image's own, and the name: `scene/blur/1` and `scene/sharp/1`."""
    return f"{path.parts[-3]}/{path.stem}"


def above(path: Path) -> str:
    """Return the folder above the image's own: `scene` of `scene/blur/1`."""
    return path.parts[-3]


def matching(pattern: str) -> Key:
    """Return a function that gives the groups of a pattern that a whole name matches.

    A name that does not match is its own key, so that no other belongs to it.

    Args:
        pattern: A regular expression with groups; those that take no part are left out.
    """
    compiled = re.compile(pattern)

    def key(path: Path) -> str:
        match = compiled.fullmatch(path.stem)
        return path.stem if match is None else "/".join(filter(None, match.groups()))

    return key


def numbered_folder(pattern: str) -> Key:
    """Return a function that gives the folder above the image's own, and a name's group."""
    name = matching(pattern)
    return lambda path: f"{path.parts[-3]}/{name(path)}"
