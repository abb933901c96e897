"""Scenes: found by shared clean pictures, films and near copies, and each in one part only."""

import numpy as np
import pytest

from expertree.errors import ConfigError, PhotoError
from expertree.pipeline.scenes import Shown, divide, near_copies


def split(*sources, val=0.3, route=0.2, seed=0):
    return divide(sources, val_fraction=val, route_fraction=route, seed=seed)


def test_ten_hazy_pictures_of_one_room_are_in_one_part():
    rooms = [[f"room {number // 10}"] for number in range(60)]
    parts = split(Shown(label="haze", part=None, keys=rooms))[0]
    assert all(len(set(parts[first : first + 10])) == 1 for first in range(0, 60, 10))
    assert set(parts) == {"train", "route", "val"}


def test_keys_join_across_pictures_and_sources():
    film = Shown(label="film", part=None, keys=[["a", "f"], ["b", "f"], ["c"], ["d"]])
    other = Shown(label="other", part=None, keys=[["b"], ["x"], ["y"], ["z"]])
    for seed in range(8):
        one, two = split(film, other, seed=seed)
        assert one[0] == one[1] == two[0]


def test_a_source_for_validation_replaces_that_share_of_the_others():
    own = Shown(label="own", part=None, keys=[[str(n)] for n in range(10)])
    measured = Shown(label="urban", part="val", keys=[["u"], ["v"]])
    parts, given = split(own, measured)
    assert set(parts) == {"train", "route"}
    assert given == ["val", "val"]


def test_one_scene_in_two_parts_is_refused_and_a_shared_one_keeps_its_given_part():
    one = Shown(label="one", part="train", keys=[["s"], ["t"]])
    two = Shown(label="two", part="val", keys=[["s"]])
    with pytest.raises(ConfigError, match=r"one is for train and two for val, .* same scene"):
        split(one, two)
    divided = Shown(label="three", part=None, keys=[["s"], *([str(n)] for n in range(9))])
    for seed in range(6):
        assert split(divided, two, seed=seed)[0][0] == "val"


def test_too_few_scenes_are_refused_however_many_files_there_are():
    hazy = Shown(label="its", part=None, keys=[["room 1"]] * 10 + [["room 2"]] * 10)
    other = Shown(label="rain", part=None, keys=[["a"], ["b"], ["c"]])
    with pytest.raises(PhotoError, match=r"its, scenes: at least 3 .* but 2 can be used"):
        split(hazy, other)


def test_near_copies_are_found_whatever_their_exposure():
    rng = np.random.default_rng(0)
    rooms = [rng.integers(0, 120, (6, 8, 3)).repeat(10, 0).repeat(10, 1) for _ in range(3)]
    brighter = np.clip(rooms[0] * 1.6 + 10, 0, 255)
    noisy = np.clip(rooms[2] + rng.normal(0, 4, rooms[2].shape), 0, 255)
    images = [image.astype(np.uint8) for image in (*rooms, brighter, noisy)]
    assert near_copies(images, alike=0.93) == [(0, 3), (2, 4)]
