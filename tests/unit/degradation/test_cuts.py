import dataclasses
import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from expertree.degradation import physics
from expertree.degradation.cuts import MASK_SCALES, cut_map, maps_of
from expertree.degradation.looks import NATURAL
from expertree.degradation.maps import (
    DepthConfig,
    MapsConfig,
    SnowMasksConfig,
    decode_map,
    list_maps,
)
from expertree.degradation.parts import make_part, plan_patches
from expertree.degradation.photographs import list_photographs, load_photo
from expertree.degradation.recipe import MapCut, Recipe
from expertree.degradation.registry import REGISTRY, Maps
from expertree.degradation.synthesis import degrade
from expertree.degradation.table import DegradationConfig
from expertree.errors import PhotoError
from expertree.images.io import decode_u8, encode_png
from expertree.images.metrics import psnr_rgb

SIDE_PX = 32
TABLE = DegradationConfig(
    patch_px=SIDE_PX,
    num_train=48,
    num_extractor=12,
    num_route=12,
    route_smaller_share=0.0,
    num_val_in=12,
    num_val_out=24,
    num_val_clean=0,
    num_shift=0,
    mixed_fraction=0.5,
    chooser_clean_fraction=0.0,
    looks=NATURAL,
    chooser_mixed_fraction=0.5,
)
SINGLE = dataclasses.replace(TABLE, mixed_fraction=0.0, chooser_mixed_fraction=0.0)
SPLITS = ("train", "route", "val")


@pytest.fixture
def folder(tmp_path):
    """Three photographs, each with depth and light; four masks of rain, two of each snow."""
    rng = np.random.default_rng(0)
    for name in SPLITS:
        for kind in ("photos", "depth", "light"):
            (tmp_path / kind).mkdir(exist_ok=True)
        image = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
        (tmp_path / "photos" / f"{name}.png").write_bytes(encode_png(image))
        metres = rng.uniform(1.0, 9.0, (50, 70))
        np.save(tmp_path / "depth" / f"{name}.npy", metres)
        light = rng.integers(0, 65536, (50, 70), dtype=np.uint16)
        cv2.imwrite(str(tmp_path / "light" / f"{name}.png"), light)
    for kind, number in (("rain", 4), ("small", 2), ("medium", 2), ("large", 2)):
        (tmp_path / kind).mkdir()
        for n in range(number):
            mask = rng.integers(0, 256, (36, 80), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / kind / f"{n}.png"), mask)
    return tmp_path


def all_maps(folder):
    return MapsConfig(
        depth=DepthConfig(folder=str(folder / "depth")),
        illumination=str(folder / "light"),
        rain=str(folder / "rain"),
        snow=SnowMasksConfig(**{size: str(folder / size) for size in ("small", "medium", "large")}),
    )


def plan(folder, config, table=TABLE):
    photos = list_photographs(str(folder / "photos"), min_side_px=SIDE_PX)[0]
    maps = list_maps(config, photos, patch_px=SIDE_PX)
    return [
        part
        for patch_set in table.patch_sets().values()
        for part in plan_patches(
            patch_set,
            [photo for photo in photos if Path(photo.name).stem == patch_set.part],
            seed=0,
            maps=maps,
        )
    ]


def rows_of(parts):
    return [row for part in parts for row in make_part(part, load_photo(part.photo)).to_pylist()]


def test_rows_are_made_again_from_recipe_and_folders(folder):
    config = all_maps(folder)
    seen = set()
    for row in rows_of(plan(folder, config)):
        recipe = Recipe.from_json(row["recipe"])
        assert recipe.to_json() == row["recipe"]
        assert set(recipe.maps) == {REGISTRY[t].takes for t in recipe.tasks} - {None}
        maps = maps_of(recipe, config, height_px=SIDE_PX, width_px=SIDE_PX)
        clean = decode_u8(row["gt"])
        np.testing.assert_array_equal(degrade(clean, recipe, maps), decode_u8(row["lq"]))
        seen |= {(name, recipe.maps[name].file) for name in recipe.maps}
    assert {name for name, _ in seen} == {"depth", "illumination", "rain_streaks", "snow_mask"}
    assert {file for name, file in seen if name == "rain_streaks"} == {f"{n}.png" for n in range(4)}


def test_parts_are_the_same_bytes_in_any_order_and_after_pickling(folder):
    parts = plan(folder, all_maps(folder))
    again = pickle.loads(pickle.dumps(parts))[::-1]
    assert rows_of(parts) == [row for part in again[::-1] for row in rows_of([part])]


def test_maps_of_a_photograph_are_cut_where_the_patch_is(folder):
    for row in rows_of(plan(folder, all_maps(folder))):
        recipe = Recipe.from_json(row["recipe"])
        photo = decode_u8((folder / "photos" / row["photo"]).read_bytes())
        for name in {"depth", "illumination"} & set(recipe.maps):
            cut = recipe.maps[name]
            assert Path(cut.file).stem == Path(row["photo"]).stem
            place = np.s_[cut.top_px : cut.top_px + SIDE_PX, cut.left_px : cut.left_px + SIDE_PX]
            np.testing.assert_array_equal(photo[place], decode_u8(row["gt"]))


def test_maps_become_smaller_with_their_photograph(folder):
    config, table = all_maps(folder), dataclasses.replace(TABLE, route_smaller_share=1.0)
    sides = set()
    for row in rows_of(plan(folder, config, table)):
        recipe = Recipe.from_json(row["recipe"])
        clean = decode_u8(row["gt"])
        maps = maps_of(recipe, config, height_px=SIDE_PX, width_px=SIDE_PX)
        np.testing.assert_array_equal(degrade(clean, recipe, maps), decode_u8(row["lq"]))
        for name in {"depth", "illumination"} & set(recipe.maps):
            cut = recipe.maps[name]
            photo = decode_u8((folder / "photos" / row["photo"]).read_bytes())
            rows = slice(cut.top_px, cut.top_px + cut.height_px)
            own = photo[rows, cut.left_px : cut.left_px + cut.width_px]
            made = cv2.resize(own, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
            np.testing.assert_array_equal(made, clean)
            sides |= {cut.height_px} if row["split"] == "route" else set()
    assert min(sides) > SIDE_PX
    assert max(sides) == 50  # the height of the photographs


def test_masks_are_cut_as_large_as_their_scale_and_file_allow(folder):
    sides = set()
    for row in rows_of(plan(folder, all_maps(folder))):
        for name, cut in Recipe.from_json(row["recipe"]).maps.items():
            if name in ("rain_streaks", "snow_mask"):
                assert cut.height_px == cut.width_px
                assert cut.height_px >= round(MASK_SCALES[0] * SIDE_PX)
                assert cut.top_px + cut.height_px <= 36
                assert cut.left_px + cut.width_px <= 80
                sides.add(cut.height_px)
    assert len(sides) > 3


def test_snow_takes_the_masks_of_its_size(folder):
    table = dataclasses.replace(
        TABLE, tasks=("snow",), mixed_fraction=0.0, chooser_mixed_fraction=0.0
    )
    config = MapsConfig(snow=SnowMasksConfig(large=str(folder / "large")))
    for row in rows_of(plan(folder, config, table)):
        recipe = Recipe.from_json(row["recipe"])
        assert bool(recipe.maps) == (recipe.parameters["snow"]["size"] == "large")
        assert recipe.maps or row["split"] != "val_out"


def test_without_real_maps_rows_are_what_they_were(folder):
    procedural, real = plan(folder, MapsConfig()), plan(folder, all_maps(folder))
    for one, other in zip(rows_of(procedural), rows_of(real), strict=True):
        assert one["gt"] == other["gt"]
        recipe, mapped = Recipe.from_json(one["recipe"]), Recipe.from_json(other["recipe"])
        assert recipe == dataclasses.replace(mapped, maps={})
        assert (one["lq"] == other["lq"]) == (not mapped.maps)
        assert '"maps"' not in one["recipe"]


def test_a_part_carries_few_masks_however_many_there_are(folder):
    for n in range(40):
        shutil.copy(folder / "rain" / "0.png", folder / "rain" / f"copy{n}.png")
    parts = plan(folder, all_maps(folder))
    assert {len(part.maps.rain) for part in parts} == {16}
    assert len({part.maps.rain for part in parts}) == len(parts)
    assert all(set(part.maps.depth) == {part.photo.name} for part in parts)


def test_haze_on_a_real_depth_map_follows_the_formula():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    depth = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    recipe = Recipe(tasks=("haze",), parameters={"haze": {"beta": 1.2, "airlight": 0.9}}, seed=1)
    transmission = np.exp(-1.2 * depth.astype(float))[..., None]
    slow = image / 255.0 * transmission + 0.9 * (1 - transmission)
    hazy = degrade(image, recipe, Maps(depth=depth))
    assert np.abs(hazy - 255.0 * slow).max() < 0.51


def test_streaks_are_added_as_they_are_at_strength_100_and_in_proportion():
    image = np.full((20, 30, 3), 50, np.uint8)
    streaks = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    rain = {"angle_deg": 0.0, "length_px": 20, "width_px": 3}
    for strength in (50.0, 100.0, 150.0):
        parameters = {"rain": {"strength": strength, **rain}}
        recipe = Recipe(tasks=("rain",), parameters=parameters, seed=1)
        rainy = degrade(image, recipe, Maps(rain_streaks=streaks))
        slow = np.clip(50 / 255 + np.clip(streaks * strength / 100, 0, 1), 0, 1)[..., None]
        assert np.abs(rainy - 255.0 * slow).max() < 0.51


def test_a_cut_is_scaled_linearly_to_the_image():
    whole = np.tile(np.linspace(0, 1, 50, dtype=np.float32), (40, 1))
    cut = MapCut(
        file="m", sha256="", meaning="opacity", top_px=5, left_px=10, height_px=20, width_px=20
    )
    np.testing.assert_array_equal(cut_map(whole, cut, 20, 20), whole[5:25, 10:30])
    larger = cut_map(whole, cut, 40, 40)
    np.testing.assert_allclose(larger[:, 1:-1:2][0], whole[0, 10:30][:-1] + 0.25 / 49, atol=1e-6)
    with pytest.raises(ValueError, match="does not lie inside a map of"):
        cut_map(whole[:10], cut, 20, 20)


def test_a_recipe_with_maps_needs_them(folder):
    config = all_maps(folder)
    rows = (Recipe.from_json(row["recipe"]) for row in rows_of(plan(folder, config)))
    recipe = next(recipe for recipe in rows if "depth" in recipe.maps)
    with pytest.raises(PhotoError, match=r"made with depth from .* no folder for it"):
        maps_of(
            recipe,
            dataclasses.replace(config, depth=DepthConfig()),
            height_px=SIDE_PX,
            width_px=SIDE_PX,
        )
    only = dataclasses.replace(recipe, maps={"depth": recipe.maps["depth"]})
    with pytest.raises(ValueError, match=r"recipe was made with depth from .*; give that map"):
        degrade(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8), only)


def test_a_recipe_refuses_maps_that_no_task_takes():
    cut = MapCut(file="m", sha256="", meaning="depth", top_px=0, left_px=0, height_px=9, width_px=9)
    with pytest.raises(ValueError, match=r"maps are \['depth'\], which the tasks \('noise',\)"):
        Recipe(tasks=("noise",), parameters={"noise": {"sigma": 20.0}}, seed=1, maps={"depth": cut})


DATA = Path(os.environ.get("EXPERTREE_DATA", "nothing"))
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="EXPERTREE_DATA does not name a folder of photographs"
)


@needs_data
@pytest.mark.parametrize("kind", ["middlebury", "ots_outdoor"])
def test_haze_follows_measured_and_estimated_depth(tmp_path, kind):
    (tmp_path / "photos").mkdir()
    (tmp_path / "depth").mkdir()
    if kind == "middlebury":
        for path in (DATA / "depth" / "middlebury").glob("*_rgb.png"):
            name = path.name.replace("_rgb", "")
            shutil.copy(path, tmp_path / "photos" / name)
            disparity = path.with_name(path.name.replace("_rgb", "_disparity"))
            shutil.copy(disparity, tmp_path / "depth" / name)
        meaning = "disparity"
    else:
        shutil.copytree(DATA / "dehaze" / kind / "clear", tmp_path / "photos", dirs_exist_ok=True)
        shutil.copytree(DATA / "dehaze" / kind / "depth", tmp_path / "depth", dirs_exist_ok=True)
        meaning = "nearness"
    config = MapsConfig(depth=DepthConfig(folder=str(tmp_path / "depth"), meaning=meaning))
    photos = list_photographs(str(tmp_path / "photos"), min_side_px=128)[0]
    maps = list_maps(config, photos, patch_px=128)
    for photo in photos:
        image = load_photo(photo)
        depth = decode_map(Path(maps.depth[photo.name].location).read_bytes(), meaning)
        assert 0.0 <= depth.min() < 0.4
        assert 0.85 < depth.max() <= 1.0
        recipe = Recipe(
            tasks=("haze",), parameters={"haze": {"beta": 1.5, "airlight": 1.0}}, seed=1
        )
        change = degrade(image, recipe, Maps(depth=depth)).mean(axis=2) - image.mean(axis=2)
        room = 255.0 - image.mean(axis=2)
        far, near = depth > np.quantile(depth, 0.8), depth < np.quantile(depth, 0.2)
        assert change[far].sum() / room[far].sum() > 1.2 * change[near].sum() / room[near].sum()


@needs_data
@pytest.mark.parametrize("name", ["1_1_0.90179", "1_2_0.97842", "2_1_0.99082", "2_2_0.76381"])
def test_haze_on_a_measured_depth_map_is_the_haze_of_reside(name):
    scene, _, airlight = name.split("_")
    its = DATA / "dehaze" / "its_indoor"
    hazy = decode_u8((its / "hazy" / f"{name}.png").read_bytes())
    clear = decode_u8((its / "clear" / f"{scene}.png").read_bytes())
    depth = decode_map((its / "depth_u16" / f"{scene}.png").read_bytes(), "depth")
    a = float(airlight)
    from_haze = clear / 255.0 - a
    share = (hazy / 255.0 - a) / np.where(np.abs(from_haze) < 0.1, np.nan, from_haze)
    beta = float(np.nanmedian(-np.log(np.clip(share, 0.01, 1.0)) / depth[..., None]))
    recipe = Recipe(tasks=("haze",), parameters={"haze": {"beta": beta, "airlight": a}}, seed=1)
    assert psnr_rgb(degrade(clear, recipe, Maps(depth=depth)), hazy) > 45.0
    flat = np.full_like(depth, depth.mean())
    assert psnr_rgb(degrade(clear, recipe, Maps(depth=flat)), hazy) < 36.0


@needs_data
def test_masks_of_others_spoil_patches(folder):
    config = MapsConfig(
        rain=str(DATA / "masks" / "rain_streaks"),
        snow=SnowMasksConfig(medium=str(DATA / "masks" / "snow")),
    )
    table = dataclasses.replace(
        TABLE, tasks=("rain", "snow"), num_train=16, mixed_fraction=0.0, chooser_mixed_fraction=0.0
    )
    real = [r for r in rows_of(plan(folder, config, table)) if '"maps"' in r["recipe"]]
    assert {tuple(row["tasks"]) for row in real} == {("rain",), ("snow",)}
    for row in real:
        clean, spoiled = decode_u8(row["gt"]), decode_u8(row["lq"])
        assert (physics.from_u8(spoiled) >= physics.from_u8(clean) - 1 / 255).all()
