"""Each set in each of its layouts, whole and broken."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from expertree.datasets import (
    DATASETS,
    join_near_copies,
    open_dataset,
    read_degraded,
    read_pair,
)
from expertree.datasets.weather import CDD11
from expertree.degradation.registry import REGISTRY
from expertree.errors import ConfigError, DatasetError

SHOT = "0001_001_S6_00100_00060_3200_L"
REAL = "Real_captured/Test"
BLUR = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"
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
paired all         rainy/1.png norain/1.png                                                   1
paired train       train/lq/x.png train/sharp/x.png                                           x
rain100l test      rainy/rain-001.png norain/norain-1.png                              rain-001
rain100h test      test/input/7.png test/groundtruth/norain-7.png                             7
rain200l test      test/rain/X2/norain-3x2.png test/norain/norain-3.png              norain-3x2
rain200h train     train/input/norain-4x2.png train/target/norain-4x2.png            norain-4x2
rain12 test        rainy/rain-003.png groundtruth/norain-3.png                         rain-003
rain12 test        input/003_in.png target/003_GT.png                                    003_in
did test           input/901.png target/901.png                                             901
ddn test           testing/rainy_image/901_14.jpg testing/ground_truth/901.jpg           901_14
ddn train          train/input/1_1.jpg train/target/1_1.jpg                                 1_1
lhp_rain test      test/input/2701.png test/target/2701.png                                2701
outdoor_rain test  test1/in/im_0001_s80_a04.png test1/gt/im_0001.png            im_0001_s80_a04
outdoor_rain train train/input/im_0600_s95_a06.png train/gt/im_0600.png         im_0600_s95_a06
raindrop test_a    test_a/test_a/data/0_rain.png test_a/test_a/gt/0_clean.png            0_rain
raindrop train     train/data/12_rain.png train/gt/12_clean.png                         12_rain
realsnow test      testing/synthetic/a.png testing/gt/a.png                                   a
hide test          test/test-long-shot/1fromGOPR0950.png GT/1fromGOPR0950.png    1fromGOPR0950
hide test          input/2.png target/2.png                                                   2
lol_v1 test        Test/input/1.png Test/target/1.png                                         1
lol_v2_real test   {REAL}/Low/low00690.png {REAL}/Normal/normal00690.png                  low00690
lol_v2_synthetic train Synthetic/Train/Low/r1.png Synthetic/Train/Normal/r1.png              r1
realblur_j test    {BLUR}/scene012/blur/blur_3.png {BLUR}/scene012/gt/gt_3.png        scene012/3
realblur_r test    input/scene012_blur_3.png target/scene012_gt_3.png             scene012_blur_3
sidd val           val/SIDD/input_crops/1.png val/SIDD/target_crops/1.png                     1
sidd train         Data/{SHOT}/1_NOISY_SRGB_010.PNG Data/{SHOT}/1_GT_SRGB_010.PNG {SHOT}/1_SRGB_010
cc15 test          5dmark3_iso3200_1_real.png 5dmark3_iso3200_1_mean.png 5dmark3_iso3200_1_real
nam test           Nam_patches/01_noise.png Nam_patch_GT/01_gt.png                     01_noise
polyu test         CroppedImages/C_5_toy_1_real.JPG CroppedImages/C_5_toy_1_mean.JPG C_5_toy_1_real
polyu test         noisy/Canon5D2_plug_12.jpg clean/Canon5D2_plug_12.jpg     Canon5D2_plug_12
"""

TASKS = {
    **dict.fromkeys(("rain100l", "rain100h", "rain200l", "rain200h", "rain12"), ("rain",)),
    **dict.fromkeys(("did", "ddn", "lhp_rain"), ("rain",)),
    **dict.fromkeys(("sidd", "cc15", "nam", "polyu"), ("noise",)),
    **dict.fromkeys(("gopro", "hide", "realblur_j", "realblur_r"), ("motion_blur",)),
    **dict.fromkeys(("lol_v1", "lol_v2_real", "lol_v2_synthetic"), ("low_light",)),
    "outdoor_rain": ("rain", "haze"),
    "raindrop": (),
    "realsnow": ("snow",),
    **dict.fromkeys(("reside", "sots_indoor", "sots_outdoor"), ("haze",)),
    "snow100k": ("snow",),
    "paired": (),
}


@pytest.mark.parametrize("line", LAYOUTS.strip().splitlines())
def test_pairs_are_found_in_each_layout(fill, line):
    name, split, lq, gt, pair_name = line.split()
    root = fill([lq, gt])
    if BLUR in lq:
        (root / "RealBlur_J_test_list.txt").write_text(f"{gt} {lq}\n")
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
    ("mcmaster", "1.tif"),
    ("classic5", "barbara.bmp"),
    ("clean", "any/where/a.png"),
]


@pytest.mark.parametrize(("name", "file"), CLEAN)
def test_clean_images_are_found_in_each_layout(fill, name, file):
    root = fill([file])
    (pair,) = open_dataset(name, root, "clean", partial=True)
    assert (pair.gt, pair.lq, pair.recipe, pair.tasks) == (root / file, None, None, ())
    with pytest.raises(DatasetError, match="has no degraded image"):
        read_pair(pair, DATASETS[name].splits["clean"].protocols[0])


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
    protocol = DATASETS[name].splits[split].protocols[0]
    lq, gt = read_pair(first, protocol)
    assert (lq != gt).any()
    assert (read_pair(again, protocol)[0] == lq).all()


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


def test_either_side_may_have_any_of_the_usual_names(fill):
    for lq, gt in (("rainy", "norain"), ("input", "gt"), ("rain", "clean"), ("in", "target")):
        root = fill([f"{lq}-{gt}/{lq}/rain-001.png", f"{lq}-{gt}/{gt}/norain-001.png"])
        (pair,) = open_dataset("rain100l", root / f"{lq}-{gt}", partial=True)
        assert (pair.lq.parent.name, pair.gt.parent.name) == (lq, gt)


SCENES = [
    ("sots_indoor", "test", ["hazy/1400_1.png", "hazy/1400_2.png", "gt/1400.png"], {"1400"}),
    ("ddn", "test", ["rainy_image/9_1.jpg", "rainy_image/9_2.jpg", "ground_truth/9.jpg"], {"9"}),
    (
        "gopro",
        "test",
        [f"test/GOPR0384_11_0{part}/{side}/1.png" for part in (0, 5) for side in ("blur", "sharp")],
        {"GOPR0384"},
    ),
    (
        "realblur_r",
        "test",
        [f"test/{side}/scene007_{number}.png" for number in (1, 2) for side in ("input", "target")],
        {"scene007"},
    ),
    (
        "polyu",
        "test",
        [
            f"{camera}_toy_{number}_{side}.JPG"
            for camera, number in (("Canon5D2_5_200_3200", 1), ("Canon600D_4-5_125_1600", 13))
            for side in ("real", "mean")
        ],
        {"toy"},
    ),
    ("cdd11", "test", [f"test/{kind}/1.png" for kind in ("clear", *CDD11)], {"1"}),
    ("sidd", "train", [f"{SHOT}/0001_{side}_SRGB_010.PNG" for side in ("NOISY", "GT")], {"001"}),
]


@pytest.mark.parametrize(("name", "split", "files", "scenes"), SCENES)
def test_images_of_one_scene_say_so(fill, name, split, files, scenes):
    dataset = open_dataset(name, fill(files), split, partial=True)
    assert {pair.scene for pair in dataset} == scenes


def test_near_copies_are_one_scene(fill):
    names = [f"eval15/{side}/{n}.png" for side in ("low", "high") for n in (1, 2, 3)]
    root = fill(names, height_px=60, width_px=80)
    image = cv2.imread(str(root / "eval15/high/1.png"))
    blurred = cv2.GaussianBlur(image, (0, 0), 3)
    cv2.imwrite(str(root / "eval15/high/1.png"), blurred)
    cv2.imwrite(str(root / "eval15/high/3.png"), cv2.add(blurred // 2, 9))
    dataset = open_dataset("lol_v1", root, partial=True)
    assert [pair.scene for pair in dataset] == ["1", "2", "3"]
    assert [pair.scene for pair in join_near_copies(dataset)] == ["1", "2", "1"]


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
