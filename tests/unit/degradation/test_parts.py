"""Which photographs the rows of a table are cut from, however many there are of either."""

import dataclasses
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expertree.degradation.parts import plan_patches, takes_turns
from expertree.degradation.photographs import Photo
from expertree.degradation.registry import DEFAULT_TASKS
from expertree.degradation.table import DegradationConfig


def photographs(num_photos):
    return [
        Photo(
            name=f"{number:05d}.jpg",
            location="",
            sha256=f"{number:064x}",
            width_px=300,
            height_px=200,
        )
        for number in range(num_photos)
    ]


def turns(patch_set, num_photos):
    """The kinds of each photograph's rows where tasks take turns, as plans once were."""
    dealt = [[] for _ in range(num_photos)]
    num_mixed = round(patch_set.num_patches * patch_set.mixed_fraction)
    num_clean = round(patch_set.num_patches * patch_set.clean_fraction)
    for index in range(patch_set.num_patches - num_mixed - num_clean):
        turn, task = divmod(index, len(patch_set.tasks))
        dealt[(turn + task) % num_photos].append(("single", patch_set.tasks[task]))
    for kind, count in (("mixed", num_mixed), ("clean", num_clean)):
        for index in range(count):
            dealt[index % num_photos].append((kind, ""))
    return dealt


def kinds_by_photo(patch_set, photos, seed=0):
    found = {photo.name: [] for photo in sorted(photos, key=lambda photo: photo.name)}
    for part in plan_patches(patch_set, photos, seed=seed):
        for row in part.rows:
            found[part.photo.name].append((row.kind, row.tasks[0] if row.kind == "single" else ""))
    return found


@pytest.mark.parametrize("num_photos", [1, 3, 10])
def test_the_demos_plans_are_what_they_were(num_photos):
    sizes = {"num_train": 2100, "num_extractor": 4200, "num_route": 1440, "num_val_in": 140}
    demo = DegradationConfig(**sizes, num_val_out=140, num_val_clean=40, num_shift=0)
    for patch_set in demo.patch_sets().values():
        found = kinds_by_photo(patch_set, photographs(num_photos))
        assert list(found.values()) == turns(patch_set, num_photos)


@settings(max_examples=50)
@given(
    num_patches=st.integers(1, 300),
    mixed_fraction=st.floats(0, 0.5),
    clean_fraction=st.floats(0, 0.4),
    num_photos=st.integers(1, 150),
)
def test_as_many_photographs_are_used_as_there_are_rows(
    num_patches, mixed_fraction, clean_fraction, num_photos
):
    patch_set = dataclasses.replace(
        DegradationConfig().patch_set("train", "train", "in", num_patches, mixed_fraction),
        clean_fraction=clean_fraction,
    )
    photos = photographs(num_photos)
    found = kinds_by_photo(patch_set, photos)
    before = turns(patch_set, num_photos)
    assert Counter(chain(*found.values())) == Counter(chain(*before))
    assert sum(map(bool, found.values())) == min(num_patches, num_photos)
    assert takes_turns(patch_set, num_photos) == all(before)
    if all(before):
        assert list(found.values()) == before
    else:
        assert all(len(set(rows)) == len(rows) for rows in found.values())
        assert max(map(len, found.values())) - min(map(len, found.values())) <= 1


def test_photographs_of_each_kind_are_spread_over_all_names():
    photos = photographs(2500)
    found = kinds_by_photo(DegradationConfig().patch_sets()["train"], photos)
    assert all(found.values())
    for task in DEFAULT_TASKS:
        places = [place for place, rows in enumerate(found.values()) if ("single", task) in rows]
        assert len(places) == 320
        assert 1000 < np.mean(places) < 1500
    patch_set = DegradationConfig().patch_sets()["val_in"]
    assert kinds_by_photo(patch_set, photos) != kinds_by_photo(patch_set, photos, seed=1)
