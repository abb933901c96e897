import dataclasses
import hashlib

import numpy as np
import pytest

from expertree.degradation.fresh import NO_REAL_MAPS, FreshDegradation, RealMaps
from expertree.degradation.maps import MapsConfig, list_maps
from expertree.degradation.recipe import MapCut, Recipe, draw_recipe
from expertree.degradation.registry import DEFAULT_TASKS
from expertree.degradation.synthesis import degrade
from expertree.images.io import encode_png

CLEAN = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


def recipe_of(task):
    return draw_recipe(np.random.default_rng(1), tasks=(task,), kind="single", severity="in")


@pytest.mark.parametrize("task", DEFAULT_TASKS)
def test_a_seed_gives_the_bits_of_the_recipe_with_that_seed(task):
    recipe = recipe_of(task)
    made = FreshDegradation(NO_REAL_MAPS)(CLEAN, recipe, 77)
    assert (made == degrade(CLEAN, dataclasses.replace(recipe, seed=77))).all()


@pytest.mark.parametrize("task", ["noise", "rain", "snow", "haze"])
def test_another_seed_gives_another_random_part(task):
    fresh = FreshDegradation(NO_REAL_MAPS)
    assert (fresh(CLEAN, recipe_of(task), 1) != fresh(CLEAN, recipe_of(task), 2)).any()


@pytest.fixture
def maps(tmp_path):
    """Ten masks of rain, and the light on a photograph, left dark and right bright."""
    rng = np.random.default_rng(2)
    for name in ("rain", "light"):
        (tmp_path / name).mkdir()
    for number in range(10):
        grey = rng.integers(0, 256, (64, 64, 1), dtype=np.uint8).repeat(3, 2)
        (tmp_path / "rain" / f"{number}.png").write_bytes(encode_png(grey))
    light = np.zeros((48, 48, 3), dtype=np.uint8)
    light[:, 24:] = 255
    (tmp_path / "light" / "photo.png").write_bytes(encode_png(light))
    config = MapsConfig(rain=str(tmp_path / "rain"))
    return dataclasses.replace(config, illumination=str(tmp_path / "light")), list_maps(
        config, [], patch_px=32
    )


def test_masks_are_drawn_anew_and_the_light_of_the_photograph_stays(maps, tmp_path):
    folders, found = maps
    recipe = Recipe(
        tasks=("low_light", "rain"),
        parameters={"low_light": {"gamma": 2.0}} | recipe_of("rain").parameters,
        seed=0,
        maps={"illumination": light_of(tmp_path), "rain_streaks": mask_of(found.rain[0])},
    )
    fresh = FreshDegradation(RealMaps.of(folders, found))
    flat = np.full_like(CLEAN, 128)
    made = [fresh(flat, recipe, seed) for seed in range(6)]
    assert len({image.tobytes() for image in made}) == 6
    assert (made[0] == fresh(flat, recipe, 0)).all()
    for image in made:
        assert image[:, :24].mean() < image[:, 24:].mean()


def test_without_masks_to_draw_from_the_recipe_keeps_its_own(maps):
    folders, found = maps
    own = {"rain_streaks": mask_of(found.rain[0])}
    recipe = dataclasses.replace(recipe_of("rain"), maps=own)
    fresh = FreshDegradation(RealMaps(folders=folders))
    assert (fresh(CLEAN, recipe, 1) == fresh(CLEAN, recipe, 2)).all()


def mask_of(file):
    place = {"top_px": 0, "left_px": 0, "height_px": 48, "width_px": 48}
    return MapCut(file=file.name, sha256=file.sha256, meaning="opacity", **place)


def light_of(folder):
    data = (folder / "light" / "photo.png").read_bytes()
    place = {"top_px": 0, "left_px": 0, "height_px": 48, "width_px": 48}
    return MapCut(
        file="photo.png", sha256=hashlib.sha256(data).hexdigest(), meaning="light", **place
    )
