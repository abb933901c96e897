"""Sets that are known by name: what is read of them and how it is measured."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from expertree.datasets import (
    DATASETS,
    find_datasets,
    open_dataset,
    read_degraded,
    read_pair,
)
from expertree.degradation.photographs import list_photographs
from expertree.errors import DatasetError


@pytest.mark.parametrize(
    ("name", "split", "task", "value"),
    [
        ("cbsd68", "noise15", "noise", {"sigma": 15.0}),
        ("urban100", "noise50", "noise", {"sigma": 50.0}),
        ("live1", "jpeg10", "jpeg", {"quality": 10}),
    ],
)
def test_what_is_made_does_not_depend_on_where_the_images_lie(fill, name, split, task, value):
    root = fill(["0000.png", "0001.png", "elsewhere/0000.png", "elsewhere/0001.png"])
    (root / "elsewhere/0000.png").write_bytes((root / "0000.png").read_bytes())
    first, second = open_dataset(name, root, split, partial=True)
    again, _ = open_dataset(name, root / "elsewhere", split, partial=True)
    assert first.recipe.parameters == {task: value}
    assert first.tasks == (task,)
    assert first.recipe == again.recipe != second.recipe
    protocol = DATASETS[name].splits[split].protocols[0]
    lq, gt = read_pair(first, protocol)
    assert (lq != gt).any()
    assert (read_pair(again, protocol)[0] == lq).all()


def test_noise_is_drawn_for_names_that_are_no_text_and_stays_that_of_others(fill):
    root = fill(["0000.png", "é.png"])
    odd = root / os.fsdecode(b"\xe9.png")
    odd.write_bytes((root / "0000.png").read_bytes())
    seeds = {
        pair.name: pair.recipe.seed
        for pair in open_dataset("cbsd68", root, "noise15", partial=True)
    }
    assert seeds["0000"] == 8537068788110676209
    assert seeds["é"] == 1037084648251027368
    assert len(set(seeds.values())) == 3


def test_every_set_says_how_it_is_measured():
    assert len(DATASETS) == 41
    usual = {
        name: spec.splits[next(iter(spec.splits))].protocols for name, spec in DATASETS.items()
    }
    luma = {name for name, protocols in usual.items() if protocols[0].channels == "y"}
    rain = {"rain100h", "rain200l", "rain200h", "rain12", "did", "ddn"}
    assert luma == rain | {"outdoor_rain", "raindrop"}
    assert [protocol.name for protocol in usual["rain100l"]] == ["rgb16", "y"]
    assert usual["sots_indoor"][0].gt_has_frame
    for spec in DATASETS.values():
        assert set(spec.measured) <= set(spec.splits)
        assert not spec.measured or spec.folders
        for split in spec.splits.values():
            names = [protocol.name for protocol in split.protocols]
            assert len(set(names)) == len(names)


def test_two_images_in_one_picture_are_taken_apart(fill):
    root = fill(["DID-MDN-test/1.png"], height_px=20, width_px=48)
    (pair,) = open_dataset("did", root, partial=True)
    whole = cv2.imread(str(root / "DID-MDN-test/1.png"))[..., ::-1]
    lq, gt = read_pair(pair, DATASETS["did"].splits["test"].protocols[0])
    assert (lq == whole[:, :24]).all()
    assert (gt == whole[:, 24:]).all()


def test_blocks_in_matlab_files_are_read(tmp_path):
    rng = np.random.default_rng(0)
    blocks = {
        name: rng.integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
        for name in ("ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb")
    }
    noisy, clean = blocks
    savemat(tmp_path / f"{noisy}.mat", {noisy: blocks[noisy]})
    with pytest.raises(DatasetError, match=r"but no 'ValidationGtBlocksSrgb\.mat'"):
        open_dataset("sidd", tmp_path, partial=True)
    savemat(tmp_path / f"{clean}.mat", {clean: blocks[clean]})
    dataset = open_dataset("sidd", tmp_path, partial=True)
    assert [pair.name for pair in dataset][:4] == ["00_00", "00_01", "00_02", "01_00"]
    lq, gt = read_pair(dataset.pairs[4], dataset.protocol)
    assert (lq == blocks[noisy][1, 1]).all()
    assert (gt == blocks[clean][1, 1]).all()


NOISY, CLEAN = "ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb"


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("damage", ["empty", "page", "cut", "head", "newer"])
def test_a_matlab_file_that_cannot_be_read_is_a_problem_of_its_set(tmp_path, is_packed, damage):
    blocks = np.random.default_rng(0).integers(0, 256, (1, 2, 16, 16, 3), dtype=np.uint8)
    for name in (NOISY, CLEAN):
        savemat(tmp_path / f"{name}.mat", {name: blocks}, do_compression=is_packed)
    whole = open_dataset("sidd", tmp_path, partial=True)
    path = tmp_path / f"{NOISY}.mat"
    data = path.read_bytes()
    newer = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(500)
    path.write_bytes(
        {
            "empty": b"",
            "page": b"<html>not found</html>" * 20,
            "cut": data[: len(data) // 2],
            "head": data[:140],
            "newer": newer,
        }[damage]
    )
    message = "version that is not read" if damage == "newer" else "no MATLAB file that can be read"
    if damage != "cut":  # whose head is whole
        with pytest.raises(DatasetError, match=rf"split val: '.*{NOISY}\.mat' is .*{message}"):
            open_dataset("sidd", tmp_path, partial=True)
        (found,) = find_datasets(tmp_path, partial=True)
        assert len(found.problems) == 1
    with pytest.raises(DatasetError, match=rf"'.*{NOISY}\.mat' is .*{message}"):
        read_pair(whole.pairs[0], whole.protocol)


def test_photographs_without_clean_images_are_found_and_cannot_be_measured(fill):
    dataset = open_dataset("dnd", fill(["DND_patches/01_noise.png"]))
    (pair,) = dataset
    assert pair.gt is None
    assert read_degraded(pair).shape == (20, 24, 3)
    with pytest.raises(DatasetError, match="has no clean image"):
        read_pair(pair, dataset.protocol)
    matlab = fill(["else/images_srgb/notes.png"]) / "else" / "images_srgb"
    (matlab / "notes.png").rename(matlab / "0001.mat")
    with pytest.raises(DatasetError, match=r"version 7.3 .* as a PNG into 'png_srgb'"):
        open_dataset("dnd", matlab.parent)


def test_hidden_files_and_others_are_passed_over(fill):
    root = fill(["input/1.png", "target/1.png", "input/._1.png", "target/._1.png"])
    (root / "input" / "Thumbs.db").write_text("")
    assert len(open_dataset("paired", root)) == 1


def test_all_below_a_folder_is_what_photographs_are_found_by(fill):
    root = fill(
        [
            "all/a/1.png",
            "other/2.png",
            "other/deep/3.png",
            "all/@eaDir/1.png/THUMB.jpg",
            "all/4.png",
        ]
    )
    (root / "all/b").symlink_to(root / "other", target_is_directory=True)
    (root / "other/back").symlink_to(root / "all", target_is_directory=True)
    names = ["4", "a/1", "b/2", "b/deep/3"]
    for name, split in (("clean", "clean"), ("unpaired", "all")):
        assert [pair.name for pair in open_dataset(name, root / "all", split)] == names
    photos, _ = list_photographs(str(root / "all"), min_side_px=1)
    assert sorted(photo.name.removesuffix(".png") for photo in photos) == names


def test_linked_parts_of_outdoor_haze_are_found(fill):
    root = fill(["disk/0005_0.8_0.04.jpg", "OTS/clear/clear_images/0005.jpg"])
    (root / "OTS/hazy").mkdir()
    (root / "OTS/hazy/part1").symlink_to(root / "disk", target_is_directory=True)
    assert [pair.name for pair in open_dataset("reside", root, "ots")] == ["0005_0.8_0.04"]


DATA = Path(os.environ.get("EXPERTREE_DATA", "nothing"))


@pytest.mark.skipif(not DATA.is_dir(), reason="EXPERTREE_DATA does not name a folder of images")
@pytest.mark.parametrize(
    ("name", "folder", "split", "number"),
    [
        ("paired", "derain", "train", 12),
        ("paired", "derain", "val", 3),
        ("paired", "lowlight", "train", 7),
        ("paired", "lowlight", "val", 2),
        ("paired", "denoise_real", "train", 50),
        ("paired", "denoise_real", "val", 10),
        ("reside", "dehaze/its_indoor", "its", 4),
        ("reside", "dehaze/ots_outdoor", "ots", 2),
        ("paired", "dehaze/revide_real", "all", 3),
        ("paired", "raindrop", "all", 2),
    ],
)
def test_real_pairs_go_through_the_readers(name, folder, split, number):
    dataset = open_dataset(name, DATA / folder, split, partial=True)
    assert len(dataset) == number
    lq, gt = read_pair(dataset.pairs[0], dataset.protocol)
    assert lq.shape == gt.shape
    assert (lq != gt).any()
