"""Each set in each of its layouts, whole and broken."""

import os
from pathlib import Path

import pytest

from expertree.datasets import DATASETS, open_dataset, read_pair
from expertree.datasets.readers import CDD11
from expertree.degradation.registry import REGISTRY
from expertree.errors import ConfigError, DatasetError

SNOW = "media/jdway/GameSSD/overlapping/test/Snow100K-S"
UPDATED = "rain_data_test_Light"

# Set and split; degraded file and clean file; name.
LAYOUTS = f"""
rain100l test      rainy/rain-001.png norain-001.png                                   rain-001
rain100l test      rain-001.png norain-001.png                                         rain-001
rain100l test      input/1.png target/1.png                                            1
rain100l test      test/input/rain-001_rainy.png test/target/rain-001_gt.png     rain-001_rainy
rain100l test      {UPDATED}/rain/X2/norain-1x2.png {UPDATED}/norain/norain-1.png    norain-1x2
rain100l train     train/rainy/rain-7.png train/gt/norain-7.png                          rain-7
rain100h test      rain/norain-22.png norain/norain-22.png                            norain-22
reside its         ITS/hazy/1_2_0.97842.png ITS/clear/1.png                         1_2_0.97842
reside its         hazy/1_2_0.97842.png clear/1.png                                 1_2_0.97842
reside ots         hazy/part1/0005_0.8_0.04.jpg clear/clear_images/0005.jpg       0005_0.8_0.04
sots_indoor test   indoor/nyuhaze500/hazy/1400_1.png indoor/nyuhaze500/gt/1400.png       1400_1
sots_indoor test   hazy/1400_1.png gt/1400.png                                           1400_1
sots_outdoor test  outdoor/hazy/0001_0.8_0.2.jpg outdoor/gt/0001.png               0001_0.8_0.2
sots_outdoor test  input/0001_0.8_0.2.jpg target/0001.png                          0001_0.8_0.2
gopro test         test/GOPR0384/blur/000001.png test/GOPR0384/sharp/000001.png GOPR0384/000001
gopro train        train/input/a-1.png train/target/a-1.png                                 a-1
lol_v1 test        eval15/low/1.png eval15/high/1.png                                         1
lol_v1 train       our485/low/2.png our485/high/2.png                                         2
snow100k L         test/Snow100K-L/synthetic/a.jpg test/Snow100K-L/gt/a.jpg                   a
snow100k S         {SNOW}/synthetic/a.jpg {SNOW}/gt/a.jpg                                     a
snow100k train     all/synthetic/a.jpg all/gt/a.jpg                                           a
paired all         noisy/a.png clean/a.jpg                                                    a
paired val         val/low/10.png val/normal/10.png                                          10
"""

TASKS = {
    **dict.fromkeys(("rain100l", "rain100h"), ("rain",)),
    **dict.fromkeys(("reside", "sots_indoor", "sots_outdoor"), ("haze",)),
    "gopro": ("motion_blur",),
    "lol_v1": ("low_light",),
    "snow100k": ("snow",),
    "paired": (),
}


@pytest.mark.parametrize("line", LAYOUTS.strip().splitlines())
def test_pairs_are_found_in_each_layout(fill, line):
    name, split, lq, gt, pair_name = line.split()
    root = fill([lq, gt])
    (pair,) = open_dataset(name, root, split, partial=True)
    assert (pair.lq, pair.gt, pair.name) == (root / lq, root / gt, pair_name)
    assert pair.tasks == TASKS[name]
    assert pair.recipe is None
    assert set(pair.tasks) <= set(REGISTRY)


CLEAN = [
    ("bsd400", "images/train/8049.jpg"),
    ("bsd400", "8049.jpg"),
    ("cbsd68", "CBSD68/original_png/0000.png"),
    ("cbsd68", "101085.jpg"),
    ("wed", "pristine_images/00001.bmp"),
    ("kodak24", "kodim01.png"),
    ("urban100", "image_SRF_4/img_001_SRF_4_HR.png"),
    ("urban100", "img_001.png"),
    ("live1", "refimgs/bikes.bmp"),
    ("clean", "any/where/a.png"),
]


@pytest.mark.parametrize(("name", "file"), CLEAN)
def test_clean_images_are_found_in_each_layout(fill, name, file):
    root = fill([file])
    (pair,) = open_dataset(name, root, "clean", partial=True)
    assert (pair.gt, pair.lq, pair.recipe, pair.tasks) == (root / file, None, None, ())
    with pytest.raises(DatasetError, match="has no degraded image"):
        read_pair(pair, DATASETS[name].protocol)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_div2k_has_its_two_folders(fill, split):
    root = fill([f"DIV2K_{split}_HR/0801.png"])
    assert [p.name for p in open_dataset("div2k", root, split, partial=True)] == [
        f"DIV2K_{split}_HR/0801"
    ]


def test_flickr2k_is_a_folder(fill):
    root = fill(["Flickr2K_HR/000001.png"])
    assert len(open_dataset("flickr2k", root, partial=True)) == 1


@pytest.mark.parametrize("folder", ["test", "CDD-11_test"])
def test_cdd11_has_eleven_combinations_of_the_same_clean_images(fill, folder):
    names = [f"{folder}/{kind}/{n:05d}.png" for kind in ("clear", *CDD11) for n in (1, 2)]
    dataset = open_dataset("cdd11", fill(names), partial=True)
    assert len(dataset) == 22
    assert {pair.name.partition("/")[0]: pair.tasks for pair in dataset} == CDD11
    order = list(REGISTRY)
    for pair in dataset:
        assert list(pair.tasks) == sorted(pair.tasks, key=order.index)
        assert pair.gt.name == pair.lq.name


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
    protocol = DATASETS[name].protocol
    lq, gt = read_pair(first, protocol)
    assert (lq != gt).any()
    assert (read_pair(again, protocol)[0] == lq).all()


def test_every_set_says_how_it_is_measured():
    assert set(DATASETS) == {
        *("rain100l", "rain100h", "reside", "sots_indoor", "sots_outdoor", "bsd400", "cbsd68"),
        *("wed", "kodak24", "urban100", "gopro", "lol_v1", "snow100k", "live1", "cdd11"),
        *("div2k", "flickr2k", "paired", "clean"),
    }
    assert {name for name, spec in DATASETS.items() if spec.protocol.channels == "y"} == {
        "rain100h"
    }
    assert DATASETS["sots_indoor"].protocol.gt_has_frame


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
        match=r"expected images at 'eval15/low/\*' with 'eval15/high/\*'; "
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


def test_hidden_files_and_others_are_passed_over(fill):
    root = fill(["input/1.png", "target/1.png", "input/._1.png", "target/._1.png"])
    (root / "input" / "Thumbs.db").write_text("")
    assert len(open_dataset("paired", root)) == 1


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
