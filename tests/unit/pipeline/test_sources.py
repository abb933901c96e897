"""What a build is trained on: sources by reader, split and root, each scene in one part."""

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expertree.config import load
from expertree.datasets.weather import CDD11
from expertree.degradation.maps import NO_MAPS
from expertree.degradation.paired import PairPart
from expertree.degradation.photographs import Photo, split_scenes
from expertree.degradation.table import DegradationConfig
from expertree.errors import ConfigError, DatasetError, PhotoError
from expertree.images.io import encode_png
from expertree.pipeline.data_config import DataConfig
from expertree.pipeline.patch_sets import _plan, portions, table_specs, trained_on
from expertree.pipeline.settings import BuildConfig, PhotographsConfig
from expertree.pipeline.sources import Material, Source, list_material, missing_folders
from expertree.pipeline.stages import stage_key

PATCH_PX = 32


def save(path: Path, seed: int, size: tuple[int, int] = (40, 48), shade: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3))
    path.write_bytes(encode_png((pixels * shade).astype(np.uint8)))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six clean photographs, five rainy pairs, and four rooms with three hazy pictures each."""
    root = tmp_path / "data"
    for number in range(6):
        save(root / "photos" / f"{number}.png", number)
    for number in range(1, 6):
        save(root / "Rain100L/train/input" / f"rain-{number:03d}.png", 100 + number)
        save(root / "Rain100L/train/target" / f"norain-{number:03d}.png", 200 + number)
    for room in range(1, 5):
        save(root / "RESIDE/ITS/clear" / f"{room}.png", 300 + room)
        for depth in range(1, 4):
            save(root / "RESIDE/ITS/hazy" / f"{room}_{depth}_0.9.png", 10 * room + depth, shade=0.5)
    return root


RAIN = {"reader": "rain100l", "split": "train", "root": "Rain100L"}
HAZE = {"reader": "reside", "split": "its", "root": "RESIDE"}
PHOTOS = {"root": "photos"}


def config(data: Path, *sources: dict[str, Any], **more: Any) -> BuildConfig:
    folder = data.parent
    return load(
        BuildConfig,
        {
            "store": str(folder / "store"),
            "output": str(folder / "out"),
            "data": {"root": str(data), "sources": list(sources), "partial": True},
            "degradation": {"patch_px": PATCH_PX, "num_train": 240},
            "experts": {"recipe": {"patch_px": PATCH_PX}},
            **more,
        },
    )


def specs(settings: BuildConfig) -> dict[str, dict[str, Any]]:
    sets = settings.degradation.patch_sets()
    return table_specs(sets, list_material(settings), seed=settings.seed)


def test_a_single_source_of_photographs_has_the_keys_of_its_folder_alone(data: Path) -> None:
    listed = config(data, PHOTOS)
    alone = dataclasses.replace(
        listed,
        data=DataConfig(),
        photographs=PhotographsConfig(source=str(data / "photos")),
    )
    assert specs(listed) == specs(alone)
    assert set(specs(listed)["train"]) == {"patch_set", "photographs", "seed"}


def test_builds_without_pairs_find_the_tables_they_made_before() -> None:
    photos = tuple(
        Photo(name=f"{n}.png", location="", sha256=f"{n:064x}", width_px=300, height_px=200)
        for n in range(3)
    )
    splits = dict(zip((p.name for p in photos), ("train", "route", "val"), strict=True))
    source = Source(label="", weight=1.0, photos=photos, splits=splits)
    material = Material(sources=[source], maps=NO_MAPS)
    config = DegradationConfig(route_smaller_share=0.0)  # nothing was made smaller before
    found = table_specs(config.patch_sets(), material, seed=0)
    keys = {name: stage_key("degrade", spec) for name, spec in found.items()}
    assert {name: keys[name] for name in GOLDEN} == GOLDEN


GOLDEN = {
    "train": "aef1a47aafd9323d2151",
    "extractor": "2fb3ee955ee312c8a646",
    "route": "6d3758c08ddc43f17a94",
    "val_in": "460acc030924b4ea1766",
    "val_out": "b0533fe129da34e2a25f",
    "val_clean": "0da551bde7a9a65e6ac5",
    "shift-0.0000": "cc16da83f8e7c9a6e085",
}
"""Keys of the default sets before there were pairs, for three photographs that never existed."""


def test_tables_whose_rows_are_dealt_anew_have_keys_of_their_own() -> None:
    photos = tuple(
        Photo(name=f"{n}.png", location="", sha256=f"{n:064x}", width_px=300, height_px=200)
        for n in range(70)
    )
    source = Source(label="", weight=1.0, photos=photos, splits={p.name: "val" for p in photos})
    material = Material(sources=[source], maps=NO_MAPS)
    sets = DegradationConfig().patch_sets()
    found = table_specs({name: sets[name] for name in ("val_clean", "val_in")}, material, seed=0)
    # 84 mixed rows reach all photographs in turn, 60 clean ones do not.
    assert {name for name, spec in found.items() if "dealt" in spec} == {"val_clean"}


def test_pairs_of_a_room_are_one_scene_and_every_source_is_in_every_part(data: Path) -> None:
    material = list_material(config(data, PHOTOS, RAIN, HAZE))
    assert [source.label for source in material.sources] == ["", "rain100l", "reside"]
    hazy = material.sources[2]
    rooms = {pair.name.partition("_")[0]: hazy.splits[pair.name] for pair in hazy.pairs}
    assert all(hazy.splits[p.name] == rooms[p.name.partition("_")[0]] for p in hazy.pairs)
    for part in ("train", "route", "val"):
        assert all(one.photos_of(part) or one.pairs_of(part) for one in material.sources)
    assert material.kinds(["noise", "rain"]) == ("noise", "rain", "haze")


def test_rows_follow_the_weights_and_pairs_only_sets_that_take_them(data: Path) -> None:
    weighted = config(data, PHOTOS | {"weight": 2}, RAIN, HAZE | {"weight": 3})
    material = list_material(weighted)
    sets = weighted.degradation.patch_sets()
    rows = {
        one.source.label: one.patch_set.num_patches for one in portions(sets["train"], material)
    }
    assert rows == {"": 80, "rain100l": 40, "reside": 120}
    for name in ("extractor", "val_out", "val_clean"):
        (only,) = portions(sets[name], material)
        assert (only.source.label, only.patch_set) == ("", sets[name])
    route = portions(sets["route"], material)
    assert sum(one.patch_set.num_patches for one in route) == sets["route"].num_patches
    clean = round(route[0].patch_set.num_patches * route[0].patch_set.clean_fraction)
    assert clean == round(sets["route"].num_patches * sets["route"].clean_fraction)


def test_repeats_are_weights_by_the_number_of_pictures(data: Path) -> None:
    counted = config(data, PHOTOS | {"repeats": 3}, RAIN | {"repeats": 120}, HAZE | {"repeats": 1})
    weights = [source.weight for source in list_material(counted).sources]
    assert weights == [18.0, 600.0, 12.0]


def test_photographs_of_no_weight_serve_the_extractor_alone(data: Path) -> None:
    settings = config(data, PHOTOS | {"weight": 0}, RAIN)
    material, sets = list_material(settings), settings.degradation.patch_sets()
    assert [one.source.label for one in portions(sets["train"], material)] == ["rain100l"]
    assert [one.source.label for one in portions(sets["extractor"], material)] == [""]


def test_without_photographs_the_clean_sides_are_spoiled_and_keep_their_scenes(data: Path) -> None:
    settings = config(data, HAZE)
    material = list_material(settings)
    hazy, clean = material.sources
    assert len(clean.photos) == 4
    part_of = {pair.gt.sha256: hazy.splits[pair.name] for pair in hazy.pairs}
    assert {p.sha256: clean.splits[p.name] for p in clean.photos} == part_of
    sets = settings.degradation.patch_sets()
    assert [one.source.label for one in portions(sets["val_out"], material)] == ["clean-sides"]


def test_a_plan_has_every_row_once_whatever_the_sources(data: Path) -> None:
    save_more(data)
    settings = config(data, PHOTOS, {"reader": "clean", "split": "clean", "root": "more"}, RAIN)
    material = list_material(settings)
    assert [source.label for source in material.sources] == ["photos", "clean", "rain100l"]
    for patch_set in settings.degradation.patch_sets().values():
        parts = _plan(patch_set, material, 0)
        assert sum(part.num_rows for part in parts) == patch_set.num_patches
        prefixes = [(part.prefix, part.first) for part in parts if part.num_rows]
        assert len(set(prefixes)) == len(prefixes)
        assert patch_set.takes_pairs or not any(isinstance(part, PairPart) for part in parts)


def test_an_extractor_learns_from_pairs_where_it_is_asked_to(data: Path) -> None:
    save_more(data)
    settings = config(data, PHOTOS, RAIN)
    material = list_material(settings)
    asked = dataclasses.replace(settings.degradation, extractor_pairs=True)
    of_formulas = _plan(settings.degradation.patch_sets()["extractor"], material, 0)
    of_both = _plan(asked.patch_sets()["extractor"], material, 0)
    assert not any(isinstance(part, PairPart) for part in of_formulas)
    assert any(isinstance(part, PairPart) for part in of_both)
    assert sum(part.num_rows for part in of_both) == sum(part.num_rows for part in of_formulas)


def test_too_few_scenes_of_a_source_are_refused(data: Path) -> None:
    save_two(data)
    with pytest.raises(PhotoError, match=r"paired, scenes: at least 3 are needed .* but 2 can"):
        list_material(config(data, PHOTOS, {"reader": "paired", "root": "two", "tasks": ["rain"]}))


def save_more(data: Path) -> None:
    for number in range(4):
        save(data / "more" / f"{number}.png", 900 + number)


def save_two(data: Path) -> None:
    for number in range(2):
        save(data / "two/input" / f"{number}.png", 700 + number)
        save(data / "two/target" / f"{number}.png", 800 + number)


def test_other_pairs_or_weights_make_other_tables_and_only_those_that_take_them(data: Path) -> None:
    before = specs(config(data, PHOTOS, RAIN))
    weighted = specs(config(data, PHOTOS, RAIN | {"weight": 2}))
    changed = {name for name in before if before[name] != weighted[name]}
    assert changed == {"train", "route", "val_in"}
    save(data / "Rain100L/train/input/rain-001.png", 999)
    repainted = specs(config(data, PHOTOS, RAIN))
    changed = {name for name in before if before[name] != repainted[name]}
    assert changed in ({"train", "route"}, {"route"}, {"val_in"})


def test_what_was_trained_on_counts_the_clean_sides_of_pairs(data: Path) -> None:
    settings = config(data, PHOTOS, RAIN)
    material = list_material(settings)
    seen = trained_on(json.loads(json.dumps(specs(settings)["train"])))
    assert seen == {photo.sha256 for photo in material.clean_of("train")}
    assert not seen & {photo.sha256 for photo in material.clean_of("val")}


def test_a_source_for_one_part_stands_for_that_part(data: Path) -> None:
    settings = config(data, PHOTOS, RAIN | {"part": "val"}, {"root": "measured", "part": "val"})
    for number in range(2):
        save(data / "measured" / f"{number}.png", 500 + number)
    material = list_material(settings)
    assert {photo.name.partition("/")[0] for photo in material.photos_of("val")} == {"measured"}
    assert len(material.sources[1].pairs_of("val")) == 5


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ({"reader": "rain100l", "root": "RESIDE"}, DatasetError, "in none of the layouts"),
        ({"reader": "cbsd68", "root": "photos"}, ConfigError, "noise25 .* 'clean', which is"),
        ({"reader": "paired", "root": "two"}, ConfigError, r"paired .*; give its tasks"),
        (PHOTOS | {"tasks": ["rain"]}, ConfigError, "leave its tasks out"),
        ({"reader": "unpaired", "root": "two"}, ConfigError, "has no clean images"),
        ({"reader": "did", "root": "DID", "split": "test"}, ConfigError, "parts of files"),
    ],
)
def test_sources_that_cannot_be_trained_on_are_refused(
    data: Path, source: dict[str, Any], error: type[Exception], words: str
) -> None:
    save_two(data)
    for number in range(3):
        save(data / "DID/DID-MDN-test" / f"{number}.jpg", 600 + number, size=(40, 96))
    with pytest.raises(error, match=words):
        list_material(config(data, PHOTOS, source))


def test_pairs_too_small_or_of_unequal_size_are_refused_by_name_before_any_work(data: Path) -> None:
    save(data / "Rain100L/train/input/rain-002.png", 1, size=(20, 48))
    save(data / "Rain100L/train/target/norain-003.png", 2, size=(40, 50))
    with pytest.raises(PhotoError) as caught:
        list_material(config(data, PHOTOS, RAIN))
    message = str(caught.value)
    assert "2 of 5 pairs of rain100l" in message
    assert "train/input/rain-002.png" not in message
    assert "rain-002.png is 48 x 20 px, smaller than 32 px" in message
    assert "rain-003.png is 48 x 40 px and its clean norain-003.png 50 x 40 px" in message


def test_settings_that_contradict_each_other_are_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="both say what to train on"):
        config(data, PHOTOS, photographs={"source": "elsewhere"})
    with pytest.raises(ConfigError, match="at least one source must have a weight"):
        config(data, PHOTOS | {"weight": 0})
    for wrong in ({"reader": "rain10l"}, {"scene": "[0-9]+"}, {"scene": "("}, {"alike": 2.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            config(data, PHOTOS | wrong)


def test_films_and_near_copies_are_scenes(data: Path) -> None:
    for film in range(3):
        for frame in range(4):
            name = f"GOPR{film}-{frame:06d}.png"
            save(data / "GoPro/train/input" / name, 50 + 10 * film + frame)
            save(data / "GoPro/train/target" / name, 80 + 10 * film + frame)
    gopro = {"reader": "gopro", "split": "train", "root": "GoPro"}
    films = list_material(config(data, PHOTOS, gopro)).sources[1]
    assert len({films.splits[p.name] for p in films.pairs if p.name[:5] == "GOPR0"}) == 1
    assert Counter(films.splits.values()) == {"train": 4, "route": 4, "val": 4}
    by_hand = gopro | {"scene": r"-0*(\d+)$"}
    frames = list_material(config(data, PHOTOS, by_hand)).sources[1]
    assert len({frames.splits[p.name] for p in frames.pairs if p.name.endswith("3")}) == 1
    copies = config(data, PHOTOS, RAIN | {"alike": 0.9})
    for number in range(2, 4):
        path = data / "Rain100L/train/target" / f"norain-{number:03d}.png"
        save(path, 201, shade=1.0 - 0.1 * number)
    rain = list_material(copies).sources[1]
    names = [p.name for p in rain.pairs if p.gt.name[-7:-4] in {"001", "002", "003"}]
    assert len(names) == 3
    assert len({rain.splits[name] for name in names}) == 1


def pair_files(reader: str, scene: int, number: int) -> tuple[str, ...]:
    """Return the files of a pair of a scene, as the set has them."""
    ecc = "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"
    shot = f"Data/{scene}{number}_00{scene}_S6_00100_00060_3200_L/{scene}{number}"
    of_hide = f"{number}fromGOPR000{scene}.MP4.png"
    return {
        "realblur_j": tuple(
            f"{ecc}/scene00{scene}/{side}/{side}_{number}.png" for side in ("blur", "gt")
        ),
        "sidd": (f"{shot}_NOISY_SRGB_010.PNG", f"{shot}_GT_SRGB_010.PNG"),
        "gopro": tuple(
            f"train/GOPR000{scene}_0{number}_00/{side}/01.png" for side in ("blur", "sharp")
        ),
        "hide": (f"train/{of_hide}", f"GT/{of_hide}"),
        "polyu": (
            f"C_5_{number}_{'abc'[scene]}_1_real.JPG",
            f"C_5_{number}_{'abc'[scene]}_1_mean.JPG",
        ),
        "cc15": (f"real/d{scene}_iso3200_{number}.png", f"mean/d{scene}_iso3200_{number}.png"),
    }[reader]


@pytest.mark.parametrize("reader", ["realblur_j", "sidd", "gopro", "hide", "polyu", "cc15"])
def test_scenes_that_a_reader_knows_are_in_one_part(data: Path, reader: str) -> None:
    listed = []
    for scene in range(3):
        for number in range(1, 5):
            files = pair_files(reader, scene, number)
            listed.append(" ".join(reversed(files)))
            for side, name in enumerate(files):
                save(data / "own" / name, 100 + 10 * scene + number + 500 * side)
    (data / "own/RealBlur_J_train_list.txt").write_text("\n".join(listed))
    split = "test" if reader in ("polyu", "cc15") else "train"
    source = {"reader": reader, "split": split, "root": "own"}
    own = list_material(config(data, PHOTOS, source)).sources[1]
    assert Counter(own.splits.values()) == {"train": 4, "route": 4, "val": 4}
    assert len({(pair.scene, own.splits[pair.name]) for pair in own.pairs}) == 3


def test_the_scenes_of_both_kinds_of_realblur_are_the_same(data: Path) -> None:
    for letter, scene, number in itertools.product("JR", range(3), range(1, 3)):
        for side, place in enumerate(("train/input", "train/target")):
            seed = 100 * ord(letter) + 10 * scene + number + 500 * side
            save(data / letter / place / f"scene00{scene}_{number}.png", seed)
    blurred = [
        {"reader": f"realblur_{letter.lower()}", "split": "train", "root": letter}
        for letter in "JR"
    ]
    _, *both = list_material(config(data, PHOTOS, *blurred)).sources
    assert [len(own.pairs) for own in both] == [6, 6]
    assert len({(pair.scene, own.splits[pair.name]) for own in both for pair in own.pairs}) == 3


def test_scenes_of_one_clean_picture_each_are_divided_as_their_pictures(data: Path) -> None:
    for kind in ("clear", *CDD11):
        for number in range(6):
            save(data / "CDD-11/CDD-11_train" / kind / f"{number}.png", 900 + number)
    sources = [RAIN, HAZE, {"reader": "cdd11", "split": "train", "root": "CDD-11"}]
    settings = config(data, PHOTOS, *sources)
    for own in list_material(settings).sources[1:]:
        parts = split_scenes(
            sorted({pair.gt.sha256 for pair in own.pairs}),
            val_fraction=settings.photographs.val_fraction,
            route_fraction=settings.photographs.route_fraction,
            seed=settings.seed,
            what="pictures",
        )
        assert own.splits == {pair.name: parts[pair.gt.sha256] for pair in own.pairs}


def test_folders_that_are_not_there_are_named(data: Path) -> None:
    away = config(data, PHOTOS, HAZE | {"root": "Nowhere"}, {"root": "bundled"})
    assert missing_folders(away) == [f"reside in {data}/Nowhere"]
