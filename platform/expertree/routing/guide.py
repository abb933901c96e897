"""Instruction mode: names of degradations become a mask over leaves (paper 000, section 3.3).

The guide knows what the training samples of each leaf were made with. Whoever knows what is wrong
with a picture names it, and leaves that hold little of it are pruned before the softmax; hybrid
mode also says how sure that is, which picks the level (paper 000, table N).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from expertree.config import load, to_dict
from expertree.errors import ArtefactError, ConfigError
from expertree.hierarchy import Labels, Tree
from expertree.storage import Storage

VERSION = 1
"""Format of the artefact; a reader refuses any other."""

CONFIDENCES = (0, 1, 2)
"""How sure an instruction is: 0 takes the coarsest level, 2 the finest."""

KEPT_SHARE = 0.5
"""A leaf is pruned when it holds less than this share of what the best leaf holds of a name."""

_FILE = "guide.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Guide:
    """What each leaf was trained on, by name.

    Attributes:
        names: Degradations, then their degrees, for example `noise` and `medium noise`.
        shares: For each leaf and name, the share of the leaf's samples that carry the name, alone
            or among others.
    """

    names: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Raise ValueError unless there are leaves, with a share of each for every name."""
        if not self.shares or {len(row) for row in self.shares} != {len(self.names)}:
            raise ValueError(
                f"the guide has {len(self.names)} names, but rows of "
                f"{sorted({len(row) for row in self.shares})} shares"
            )

    def leaf_mask(self, instruction: Sequence[str]) -> tuple[bool, ...]:
        """Return for each leaf whether an instruction allows it; at least one is allowed.

        Args:
            instruction: Names of what is wrong, all from `names`; several hold together.

        Raises:
            ValueError: If there is no name, or one is unknown; lists those that exist.
        """
        unknown = [name for name in instruction if name not in self.names]
        if unknown or not instruction:
            what = f"unknown degradation '{unknown[0]}'" if unknown else "the instruction is empty"
            raise ValueError(f"{what}; this model knows {', '.join(self.names)}")
        chosen = [self.names.index(name) for name in instruction]
        held = np.array(self.shares)[:, chosen].mean(axis=1)
        return tuple((held >= KEPT_SHARE * held.max()).tolist())


def level_of_confidence(confidence: int, levels: Sequence[int]) -> int:
    """Return the level that a confidence picks: 0 the coarsest, 2 the finest, 1 the middle.

    Args:
        confidence: How sure an instruction is.
        levels: The levels that may be chosen, the coarsest first.

    Raises:
        ValueError: If it is not one of `CONFIDENCES`.
    """
    if confidence not in CONFIDENCES:
        raise ValueError(f"confidence must be 0, 1 or 2, got {confidence!r}")
    return levels[round(confidence / CONFIDENCES[-1] * (len(levels) - 1))]


def make_guide(
    tree: Tree, leaves: Int64[np.ndarray, " samples"], names: Sequence[Sequence[str]]
) -> Guide:
    """Make a guide by counting the names that the samples of each leaf carry.

    Args:
        tree: The tree.
        leaves: The leaf of each training sample.
        names: The names that each sample carries: its degradations and their degrees.

    Raises:
        ValueError: If there are no samples, or the numbers differ.
    """
    if not len(names) or len(leaves) != len(names):
        raise ValueError(f"{len(leaves)} leaves and {len(names)} samples make no guide")
    coded = names if isinstance(names, Labels) else Labels.of([tuple(own) for own in names])
    known = sorted({name for own in coded.values for name in own}, key=_degrees_last)
    place_of = {name: place for place, name in enumerate(known)}
    counts = np.zeros((tree.num_leaves, len(known)))
    for own, by_leaf in zip(coded.values, coded.counts(leaves, tree.num_leaves).T, strict=True):
        counts[:, [place_of[name] for name in own]] += by_leaf[:, None]
    totals = np.bincount(leaves, minlength=tree.num_leaves).clip(min=1)
    shares = (counts / totals[:, None]).round(6)
    return Guide(names=tuple(known), shares=tuple(tuple(row) for row in shares.tolist()))


def merge_guides(one: Guide, other: Guide, *, counts: tuple[Sequence[int], Sequence[int]]) -> Guide:
    """Return the guide of the samples of two, which are to the same leaves.

    Args:
        one: A guide.
        other: Another one.
        counts: Samples of each leaf that each of them describes.
    """
    weights = np.array(counts, dtype=float)
    weights /= weights.sum(axis=0).clip(min=1.0)
    merged = {name: np.zeros(weights.shape[1]) for name in (*one.names, *other.names)}
    for guide, weight in zip((one, other), weights, strict=True):
        for name, shares in zip(guide.names, np.array(guide.shares).T, strict=True):
            merged[name] += shares * weight
    names = sorted((name for name, shares in merged.items() if shares.any()), key=_degrees_last)
    rows = np.stack([merged[name] for name in names], axis=1).round(6)
    return Guide(names=tuple(names), shares=tuple(tuple(row) for row in rows.tolist()))


def save_guide(guide: Guide, directory: Storage) -> None:
    """Write `guide.json`."""
    directory.write_json(_FILE, {"version": VERSION, **to_dict(guide)})


def load_guide(directory: Storage) -> Guide:
    """Read a guide.

    Raises:
        ArtefactError: If it is missing, damaged or of another version.
    """
    data, where = directory.read_json(_FILE), directory.path(_FILE)
    version = data.pop("version", None) if isinstance(data, dict) else None
    if version != VERSION:
        raise ArtefactError(
            f"{where} has format version {version!r}, this program reads {VERSION}; build again"
        )
    try:
        return load(Guide, data)
    except (ConfigError, ValueError) as error:
        raise ArtefactError(f"{where} is damaged: {error}") from error


def _degrees_last(name: str) -> tuple[int, str]:
    return len(name.split()), name
