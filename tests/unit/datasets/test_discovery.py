"""Which sets lie below a folder."""

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from expertree.datasets import find_datasets, open_dataset
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


def make_grey(root, names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24), dtype=np.uint8)
        assert cv2.imwrite(str(root / name), pixels)


def test_the_grey_images_of_a_set_are_not_taken_for_those_in_colour(fill):
    root = fill([f"testsets/CBSD68/{n:04d}.png" for n in range(68)])
    make_grey(root, [f"testsets/BSD68/{n:04d}.png" for n in range(68)])
    (found,) = find_datasets(root / "testsets")
    assert (found.name, found.root) == ("cbsd68", root / "testsets/CBSD68")
    assert len(found.splits) == 6
    make_grey(root, [f"other/CBSD68/{n:04d}.png" for n in range(68)])
    (found,) = find_datasets(root / "other")
    assert found.splits == ()
    assert "all 68 images of" in found.problems[0]
    assert "are grey, but those of CBSD68 have colour" in found.problems[0]


def test_grey_images_fill_the_grey_columns_of_a_set_and_those_in_colour_all(fill):
    names = [f"LIVE1_gray/{n}.bmp" for n in range(29)]
    root = fill([])
    make_grey(root, names)
    (found,) = find_datasets(root)
    qualities = (10, 20, 30, 40)
    assert [part.split for part in found.splits] == [f"jpeg{q}_grey" for q in qualities]
    assert len(found.problems) == 4
    fill([f"LIVE1_gray/more/live1_color/{n}.bmp" for n in range(29)])
    (found,) = find_datasets(root)
    assert found.root == root / "LIVE1_gray/more/live1_color"
    assert (len(found.splits), found.problems) == (8, ())


@pytest.fixture
def closed(monkeypatch):
    """Make a folder one that its user may not look into, though root runs the tests."""

    def close(folder):
        refused = PermissionError(errno.EACCES, "Permission denied", str(folder))
        stat, scandir = Path.stat, os.scandir

        def stat_outside(path, **options):
            if folder in path.parents:
                raise refused
            return stat(path, **options)

        def scan_outside(place):
            if Path(place) == folder:
                raise refused
            return scandir(place)

        monkeypatch.setattr(Path, "stat", stat_outside)
        monkeypatch.setattr(os, "scandir", scan_outside)

    return close


def test_a_folder_that_cannot_be_looked_into_is_named_and_passed_over(fill, closed):
    root = fill([f"kodak24/kodim{n:02d}.png" for n in range(1, 25)])
    closed(root / "private")
    (root / "private").mkdir()
    (root / "lost+found").mkdir()
    named = []
    (found,) = find_datasets(root, on_unreadable=named.append)
    assert found.name == "kodak24"
    assert named == [f"'{root / 'private'}' cannot be looked into: Permission denied"]


def test_what_servers_keep_beside_sets_is_not_looked_into(fill, closed):
    root = fill(["@eaDir/photos/a.png", "photos/b.png"])
    (root / "lost+found").mkdir()
    closed(root / "lost+found")
    named = []
    (found,) = find_datasets(root, on_unreadable=named.append)
    assert (found.root, named) == (root / "photos", [])


def test_a_set_that_cannot_be_looked_into_is_a_problem_of_that_set(fill, closed):
    root = fill(["kodak24/kodim01.png"])
    closed(root / "kodak24")
    with pytest.raises(
        DatasetError, match=r"split noise25: '.*kodak24' cannot be read: Permission"
    ):
        open_dataset("kodak24", root / "kodak24")
