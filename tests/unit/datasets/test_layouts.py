"""Each set in each of its layouts is found."""

import cv2
import pytest

from expertree.datasets import (
    DATASETS,
    join_near_copies,
    open_dataset,
    read_pair,
)
from expertree.datasets.weather import CDD11
from expertree.degradation.registry import REGISTRY
from expertree.errors import DatasetError

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
    ("cc15", "test", [f"{side}/d600_iso3200_1.png" for side in ("real", "mean")], {"d600_iso3200"}),
    (
        "gopro",
        "test",
        [f"test/{side}/film1-{n}.png" for n in (1, 2) for side in ("blur", "gt")],
        {"film1"},
    ),
    (
        "lhp_rain",
        "test",
        [f"{side}/{film}_1.png" for film in "ab" for side in ("input", "gt")],
        {"a_1", "b_1"},
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
