"""Rows of pairs: both sides are cut at one place, and nothing is synthesised."""

from collections import Counter

import numpy as np
import pytest

from expertree.degradation.paired import PAIR, TrainingPair, cut_part, plan_pairs
from expertree.degradation.parts import SCHEMA
from expertree.degradation.photographs import Photo
from expertree.degradation.recipe import NO_RECIPE, Recipe
from expertree.degradation.table import PatchSet
from expertree.images.io import decode_u8


def photo(name, number):
    return Photo(name=name, location="", sha256=f"{number:064x}", width_px=60, height_px=50)


def pair(number, tasks=("rain",)):
    lq, gt = photo(f"input/{number}.png", number), photo(f"target/{number}.png", 100 + number)
    return TrainingPair(name=f"{number}", tasks=tasks, lq=lq, gt=gt)


def rows(num_patches, name="train"):
    return PatchSet(
        name=name,
        part="train",
        severity="in",
        num_patches=num_patches,
        mixed_fraction=0.0,
        patch_px=32,
        tasks=("noise",),
    )


def plan(num_patches, num_pairs=4, seed=0):
    pairs = [pair(number) for number in range(num_pairs)]
    return plan_pairs(rows(num_patches), pairs, seed=seed, label="rain100l")


def sides():
    rng = np.random.default_rng(3)
    clean = rng.integers(0, 200, (50, 60, 3), dtype=np.uint8)
    return clean + np.uint8(7), clean


def test_both_sides_are_cut_at_one_place_and_stored_as_they_are():
    lq, gt = sides()
    for part in plan(9):
        table = cut_part(part, lq, gt)
        assert table.schema.equals(SCHEMA)
        for row in table.to_pylist():
            rain, clean = decode_u8(row["lq"]), decode_u8(row["gt"])
            assert clean.shape == (32, 32, 3)
            assert np.array_equal(rain, clean + np.uint8(7))
            found = np.lib.stride_tricks.sliding_window_view(gt, (32, 32, 3))
            assert (found == clean).all(axis=(3, 4, 5)).any()


def test_a_row_names_its_kind_and_has_neither_degree_nor_recipe():
    part = plan_pairs(rows(1), [pair(0, ("low_light", "raindrop"))], seed=0, label="x")[0]
    row = cut_part(part, *sides()).to_pylist()[0]
    assert (row["kind"], row["tasks"]) == (PAIR, ["low_light", "raindrop"])
    assert row["caption"] == "low-light, raindrop"
    assert row["recipe"] == NO_RECIPE
    with pytest.raises(ValueError, match="not a recipe"):
        Recipe.from_json(row["recipe"])


@pytest.mark.parametrize("num_patches", [2, 4, 11, 700])
def test_every_pair_has_as_many_rows_as_another_or_one_less(num_patches):
    parts = plan(num_patches)
    counts = Counter()
    for part in parts:
        counts[part.pair.name] += part.num_rows
    assert sum(counts.values()) == num_patches
    assert max(counts.values()) - min([*counts.values(), *[0] * (4 - len(counts))]) <= 1


def test_of_more_pairs_than_rows_a_draw_takes_some():
    drawn = [{part.pair.name for part in plan(5, num_pairs=40, seed=seed)} for seed in range(4)]
    assert all(len(names) == 5 for names in drawn)
    assert len({frozenset(names) for names in drawn}) > 1
    assert {part.pair.name for part in plan(5, num_pairs=40, seed=1)} == drawn[1]


def test_rows_depend_on_contents_and_not_on_order_and_no_id_is_twice():
    pairs = [pair(number) for number in range(4)]
    forward = plan_pairs(rows(30), pairs, seed=5, label="a")
    backward = plan_pairs(rows(30), pairs[::-1], seed=5, label="a")
    assert forward == backward
    lq, gt = sides()
    tables = [cut_part(part, lq, gt).to_pylist() for part in forward]
    ids = [row["id"] for table in tables for row in table]
    assert len(set(ids)) == len(ids) == 30
    assert ids == sorted(ids)


def test_sides_that_do_not_fit_are_refused():
    part = plan(1)[0]
    lq, gt = sides()
    with pytest.raises(ValueError, match=r"patches of 32 px cannot be cut from \[50, 59\]"):
        cut_part(part, lq[:, 1:], gt)
    with pytest.raises(ValueError, match="cannot be cut"):
        cut_part(part, lq[:20], gt[:20])
    with pytest.raises(ValueError, match="no pairs of rain100l"):
        plan_pairs(rows(3), [], seed=0, label="rain100l")
