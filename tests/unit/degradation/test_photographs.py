import json
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from expertree.degradation import photographs
from expertree.degradation.photographs import (
    Photo,
    list_photographs,
    load_photo,
    split_photographs,
    split_scenes,
)
from expertree.errors import PhotoError
from expertree.storage import Storage


def save(path, *, side_px=64, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (side_px, side_px + 8, 3), dtype=np.uint8)
    PillowImage.fromarray(pixels).save(path)


def photo(number):
    return Photo(
        name=f"p{number}", location=f"/p{number}", sha256=f"{number:064x}", width_px=9, height_px=9
    )


def test_the_bundled_photographs_are_ten_and_load():
    photos, skipped = list_photographs("bundled", min_side_px=128)
    assert skipped == []
    assert len(photos) == 10
    for found in photos:
        assert load_photo(pickle.loads(pickle.dumps(found))).shape == (
            found.height_px,
            found.width_px,
            3,
        )


def test_a_folder_is_searched_with_its_subfolders(tmp_path):
    for index, name in enumerate(["b.png", "sub/a.jpg", "sub/deep/c.webp", "d.bmp", "e.TIF"]):
        save(tmp_path / name, seed=index)
    photos, skipped = list_photographs(str(tmp_path), min_side_px=64)
    assert [p.name for p in photos] == ["b.png", "d.bmp", "e.TIF", "sub/a.jpg", "sub/deep/c.webp"]
    assert skipped == []
    assert {(p.width_px, p.height_px) for p in photos} == {(72, 64)}


def test_files_that_cannot_be_used_are_named_with_their_reason(tmp_path):
    save(tmp_path / "good.png")
    save(tmp_path / "tiny.png", side_px=20, seed=1)
    save(tmp_path / "whole.jpg", seed=2)
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "lies.png").write_bytes(b"this is text")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "twin.png").write_bytes((tmp_path / "good.png").read_bytes())
    (tmp_path / ".hidden").write_text("passed over")
    photos, skipped = list_photographs(str(tmp_path), min_side_px=64)
    assert [p.name for p in photos] == ["good.png", "whole.jpg"]
    reasons = dict(skipped)
    assert sorted(reasons) == [
        "cut.jpg",
        "empty.png",
        "lies.png",
        "notes.txt",
        "tiny.png",
        "twin.png",
    ]
    assert "truncated" in reasons["cut.jpg"]
    assert reasons["empty.png"] == reasons["lies.png"] == "is not an image that can be read"
    assert reasons["notes.txt"] == "is not an image file"
    assert reasons["tiny.png"] == "is 28 x 20 px, smaller than 64 px"
    assert reasons["twin.png"] == "is a copy of good.png"


def test_a_folder_that_does_not_exist_is_one_clear_sentence(tmp_path):
    with pytest.raises(PhotoError, match="is not a folder; give one that exists, or 'bundled'"):
        list_photographs(str(tmp_path / "nowhere"), min_side_px=64)


def test_an_empty_folder_is_one_clear_sentence(tmp_path):
    with pytest.raises(PhotoError, match=r"^photographs: the folder '.*' has no files$"):
        list_photographs(str(tmp_path), min_side_px=64)


def test_a_folder_without_a_usable_photograph_says_what_is_in_it(tmp_path):
    for index in range(5):
        (tmp_path / f"{index}.txt").write_text("no")
    with pytest.raises(PhotoError) as caught:
        list_photographs(str(tmp_path), min_side_px=64)
    message = str(caught.value)
    assert "none of the 5 files" in message
    assert "0.txt is not an image file" in message
    assert "and 2 more" in message
    assert "\n" not in message


def test_a_photograph_that_changed_or_vanished_is_refused(tmp_path):
    save(tmp_path / "a.png")
    (found,), _ = list_photographs(str(tmp_path), min_side_px=64)
    save(tmp_path / "a.png", seed=1)
    with pytest.raises(PhotoError, match="has changed"):
        load_photo(found)
    (tmp_path / "a.png").unlink()
    with pytest.raises(PhotoError, match="cannot be read"):
        load_photo(found)


@given(
    num_photos=st.integers(3, 60),
    val_fraction=st.floats(0.01, 0.6),
    route_fraction=st.floats(0.01, 0.39),
    seed=st.integers(0, 1000),
)
def test_every_photograph_is_on_one_side_and_every_side_has_one(
    num_photos, val_fraction, route_fraction, seed
):
    photos = [photo(number) for number in range(num_photos)]
    fractions = {"val_fraction": val_fraction, "route_fraction": route_fraction}
    splits = split_photographs(photos, **fractions, seed=seed)
    assert sorted(splits) == sorted(p.name for p in photos)
    assert set(splits.values()) == {"train", "route", "val"}
    assert split_photographs(photos[::-1], **fractions, seed=seed) == splits


def test_the_split_has_the_asked_for_sizes():
    photos = [photo(number) for number in range(100)]
    splits = split_photographs(photos, val_fraction=0.2, route_fraction=0.1, seed=0)
    counts = {part: list(splits.values()).count(part) for part in ("train", "route", "val")}
    assert counts == {"train": 70, "route": 10, "val": 20}


def test_another_seed_gives_another_split():
    photos = [photo(number) for number in range(30)]
    first, second = (
        split_photographs(photos, val_fraction=0.3, route_fraction=0.2, seed=seed)
        for seed in (0, 1)
    )
    assert first != second


@pytest.mark.parametrize("num_photos", [1, 2])
def test_too_few_photographs_says_how_many_are_needed(num_photos):
    photos = [photo(number) for number in range(num_photos)]
    with pytest.raises(PhotoError, match=f"at least 3 are needed .* but {num_photos} can be used"):
        split_photographs(photos, val_fraction=0.3, route_fraction=0.2, seed=0)


@pytest.mark.parametrize(("val", "route"), [(0.0, 0.2), (0.5, 0.5), (0.3, -0.1)])
def test_fractions_that_leave_nothing_are_refused(val, route):
    with pytest.raises(ValueError, match="below 1 together"):
        split_photographs([photo(0)] * 9, val_fraction=val, route_fraction=route, seed=0)


def test_files_that_were_not_touched_are_not_read_again(tmp_path, monkeypatch):
    folder, known = tmp_path / "photos", Storage.open(tmp_path / "known")
    for index in range(4):
        save(folder / f"{index}.png", seed=index, side_px=64 if index else 20)
    (folder / "bad.png").write_bytes(b"this is text")
    first = list_photographs(str(folder), min_side_px=64, known=known)
    read = []
    decode = photographs.decode_photo_u8
    monkeypatch.setattr(
        photographs, "decode_photo_u8", lambda data: read.append(data) or decode(data)
    )
    assert list_photographs(str(folder), min_side_px=64, known=known) == first
    assert read == [b"this is text"]
    smaller, _ = list_photographs(str(folder), min_side_px=16, known=known)
    assert [p.name for p in smaller] == ["0.png", "1.png", "2.png", "3.png"]
    save(folder / "2.png", seed=9)
    (folder / "3.png").unlink()
    save(folder / "4.png", seed=4)
    again = list_photographs(str(folder), min_side_px=64, known=known)
    assert again == list_photographs(str(folder), min_side_px=64)
    assert len(json.loads(known.read_bytes(known.list_files()[0]))["files"]) == 4


def test_another_file_of_the_same_length_and_time_is_seen(tmp_path):
    path, known = tmp_path / "photos" / "a.bmp", Storage.open(tmp_path / "known")
    hashes = []
    for seed in (0, 1):
        save(path, seed=seed)
        os.utime(path, ns=(10**18, 10**18))
        (found,), _ = list_photographs(str(path.parent), min_side_px=64, known=known)
        hashes.append(found.sha256)
        load_photo(found)
    assert hashes[0] != hashes[1]


def test_a_share_of_nothing_leaves_a_part_out_and_needs_fewer_scenes():
    scenes = [f"{number}" for number in range(10)]
    some = split_scenes(scenes, val_fraction=0.0, route_fraction=0.3, seed=0, what="rain")
    assert sorted(some.values()) == ["route"] * 3 + ["train"] * 7
    assert split_scenes(["a"], val_fraction=0.0, route_fraction=0.0, seed=0, what="rain") == {
        "a": "train"
    }
    with pytest.raises(PhotoError, match=r"rain: at least 2 .*experts and to validate\), but"):
        split_scenes(["a"], val_fraction=0.3, route_fraction=0.0, seed=0, what="rain")
