"""A folder that is not the set: what was expected, what was found, what is missing."""

import pytest

from expertree.datasets import (
    open_dataset,
)
from expertree.datasets.weather import CDD11
from expertree.errors import ConfigError, DatasetError


def test_an_unknown_set_or_split_is_answered_with_those_that_exist(tmp_path):
    with pytest.raises(ConfigError, match=r"'rain200' is not known; there are rain100l, .*clean"):
        open_dataset("rain200", tmp_path)
    with pytest.raises(ConfigError, match=r"gopro has no split 'val'; there are test, train"):
        open_dataset("gopro", tmp_path, "val")


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(DatasetError, match=r"rain100l, split test: '.*nothing' is not a folder"):
        open_dataset("rain100l", tmp_path / "nothing")


def test_a_strange_layout_is_told_what_was_expected_and_found(fill):
    root = fill(["photos/1.png", "more/2.png", "3.png"])
    (root / "notes.txt").write_text("")
    with pytest.raises(
        DatasetError,
        match=r"expected images at 'eval15/low/\*' or 'eval15/input/\*' with 'eval15/high/\*' .*; "
        r"found 3.png, more/, notes.txt and 1 more",
    ):
        open_dataset("lol_v1", root)


def test_one_side_alone_is_said(fill):
    root = fill(["eval15/low/1.png", "eval15/low/2.png"])
    with pytest.raises(DatasetError, match=r"has 2 images in 'eval15/low/\*' but none in '.*high"):
        open_dataset("lol_v1", root)


def test_degraded_images_without_a_clean_one_are_counted_and_named(fill):
    names = [f"input/{n}.png" for n in range(6)] + ["target/0.png"]
    with pytest.raises(
        DatasetError,
        match=r"5 of 6 images in 'input/\*' have no partner among the 1 .*: 1.png, .* 2 more",
    ):
        open_dataset("rain100l", fill(names), partial=True)


def test_clean_images_without_a_degraded_one_are_counted_unless_a_part_will_do(fill):
    root = fill(["input/1.png", "target/1.png", "target/2.png"])
    with pytest.raises(DatasetError, match=r"1 of 2 clean images .* no degraded one .*: 2.png"):
        open_dataset("paired", root)
    assert len(open_dataset("paired", root, partial=True)) == 1


def test_an_incomplete_set_is_refused_unless_a_part_will_do(fill):
    root = fill([f"eval15/{side}/{n}.png" for side in ("low", "high") for n in range(14)])
    with pytest.raises(
        DatasetError, match=r"14 images where the whole set has 15 \(found 0, 1, 10"
    ):
        open_dataset("lol_v1", root)
    assert len(open_dataset("lol_v1", root, partial=True)) == 14


def test_a_complete_set_needs_no_permission(fill):
    root = fill([f"eval15/{side}/{n}.png" for side in ("low", "high") for n in range(15)])
    assert len(open_dataset("lol_v1", root)) == 15


def test_missing_combinations_are_named(fill):
    kinds = [kind for kind in ("clear", *CDD11) if kind not in ("haze_snow", "low")]
    root = fill([f"test/{kind}/1.png" for kind in kinds])
    with pytest.raises(DatasetError, match="for 9 of 11 combinations; missing: low, haze_snow"):
        open_dataset("cdd11", root)


def test_two_clean_images_for_one_number_are_refused(fill):
    root = fill(["rainy/rain-1.png", "gt/norain-1.png", "gt/norain-001.png"])
    with pytest.raises(DatasetError, match="both belong to '1'; leave one"):
        open_dataset("rain100l", root)


def test_one_name_twice_is_refused(fill):
    root = fill(["input/1.png", "input/1.jpg", "target/1.png"])
    with pytest.raises(DatasetError, match=r"1 names in 'input/\*' occur more than once: 1"):
        open_dataset("paired", root)
