"""Which sets lie below a folder."""

import pytest

from expertree.datasets import find_datasets
from expertree.errors import DatasetError


def test_sets_are_known_by_their_folders_names_or_their_own_files(fill):
    root = fill(
        [
            *(f"kodak/kodim{n:02d}.png" for n in range(1, 25)),
            *(f"dark/lol-anything/eval15/{s}/{n}.png" for s in ("low", "high") for n in range(15)),
            *(f"rain/Rain_12/{s}/{n}.png" for s in ("input", "target") for n in range(1, 13)),
            "phone/unpaired_real/a.jpg",
            "phone/holiday/b.jpg",
        ]
    )
    found = {one.name: one for one in find_datasets(root)}
    assert list(found) == ["rain12", "lol_v1", "kodak24", "unpaired"]
    assert found["lol_v1"].root == root / "dark/lol-anything"
    assert [part.split for part in found["kodak24"].splits] == [
        *("noise15", "noise25", "noise50"),
        *("noise15_float", "noise25_float", "noise50_float"),
    ]
    assert all(not one.problems for one in found.values())
    assert [len(part) for part in found["unpaired"].splits] == [1]


def test_what_is_not_whole_is_told_and_may_be_taken(fill):
    root = fill(["Rain100L/input/1.png", "Rain100L/target/1.png"])
    (found,) = find_datasets(root)
    assert (found.splits, len(found.problems)) == ((), 1)
    assert "1 images where the whole set has 100" in found.problems[0]
    (found,) = find_datasets(root, partial=True)
    assert [(part.split, len(part)) for part in found.splits] == [("test", 1)]


def test_of_two_folders_the_one_that_can_be_measured_is_taken(fill):
    whole = [f"b/deep/rain12/{s}/{n}.png" for s in ("input", "target") for n in range(1, 13)]
    root = fill(["a/rain12/input/1.png", *whole])
    (found,) = find_datasets(root)
    assert found.root == root / "b/deep/rain12"
    assert found.splits


def test_one_set_alone_may_be_looked_for(fill):
    root = fill(["photos/a.png", "rain12/input/1.png", "rain12/target/1.png"])
    assert [one.name for one in find_datasets(root, only="rain12", partial=True)] == ["rain12"]
    with pytest.raises(DatasetError, match="is not a folder"):
        find_datasets(root / "nowhere")
