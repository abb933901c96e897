"""Names of degradations become masks over leaves."""

from pathlib import Path

import numpy as np
import pytest

from expertree.errors import ArtefactError
from expertree.hierarchy import Tree
from expertree.routing import (
    Guide,
    level_of_confidence,
    load_guide,
    make_guide,
    merge_guides,
    save_guide,
)
from expertree.storage import Storage

LEAVES = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
NAMES = [
    *[("noise", "medium noise")] * 3,
    ("rain", "noise", "large rain", "small noise"),
    *[("rain", "large rain")] * 4,
    *[("haze", "thick haze")] * 2,
]


@pytest.fixture
def guide(tree: Tree) -> Guide:
    return make_guide(tree, LEAVES, NAMES)


def test_names_are_degradations_and_then_degrees(guide: Guide) -> None:
    assert guide.names == (
        *("haze", "noise", "rain"),
        *("large rain", "medium noise", "small noise", "thick haze"),
    )
    assert guide.shares[0][:3] == (0.0, 1.0, 0.25)


@pytest.mark.parametrize(
    ("instruction", "mask"),
    [
        (["noise"], (True, False, False)),
        (["large rain"], (False, True, False)),
        (["haze"], (False, False, True)),
        (["noise", "rain"], (True, True, False)),
        (["small noise"], (True, False, False)),
    ],
)
def test_leaves_that_hold_little_of_what_is_named_are_pruned(
    guide: Guide, instruction: list[str], mask: tuple[bool, ...]
) -> None:
    assert guide.leaf_mask(instruction) == mask


def test_unknown_and_missing_names_are_refused(guide: Guide) -> None:
    with pytest.raises(ValueError, match="unknown degradation 'heavy noise'; this model knows"):
        guide.leaf_mask(["noise", "heavy noise"])
    with pytest.raises(ValueError, match="the instruction is empty; this model knows haze, noise"):
        guide.leaf_mask([])


@pytest.mark.parametrize(("num_levels", "levels"), [(1, (0, 0, 0)), (2, (0, 0, 1)), (3, (0, 1, 2))])
def test_a_confidence_is_a_level_of_any_tree(num_levels: int, levels: tuple[int, ...]) -> None:
    assert tuple(level_of_confidence(c, range(num_levels)) for c in (0, 1, 2)) == levels


def test_a_guide_goes_through_storage(guide: Guide, tmp_path: Path) -> None:
    save_guide(guide, Storage.open(tmp_path))
    assert load_guide(Storage.open(tmp_path)) == guide
    data = Storage.open(tmp_path).read_json("guide.json")
    for damaged, message in (
        (data | {"version": 9}, "format version 9"),
        (data | {"names": ["noise"]}, "is damaged"),
    ):
        Storage.open(tmp_path).write_json("guide.json", damaged)
        with pytest.raises(ArtefactError, match=message):
            load_guide(Storage.open(tmp_path))


def test_two_guides_describe_leaves_by_the_samples_of_both() -> None:
    before = Guide(names=("rain", "light rain"), shares=((1.0, 0.5), (0.25, 0.0)))
    new = Guide(names=("noise", "rain"), shares=((0.0, 0.0), (0.75, 0.5)))
    merged = merge_guides(new, before, counts=((0, 10), (7, 30)))
    assert merged.names == ("noise", "rain", "light rain")
    assert merged.shares == ((0.0, 1.0, 0.5), (0.1875, 0.3125, 0.0))
    assert merge_guides(before, before, counts=((1, 2), (3, 4))) == before
    unknown = Guide(names=("rain", "snow"), shares=((0.0, 0.0), (0.0, 0.0)))
    assert merge_guides(unknown, before, counts=((0, 0), (7, 30))) == before  # no name of nothing
