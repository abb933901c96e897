"""What holds for every degradation, alone and mixed, in and out of distribution."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expertree.degradation import parameters as p
from expertree.degradation.captions import ALL_DEGREES, SEPARATOR, caption
from expertree.degradation.parameters import DISTRIBUTIONS
from expertree.degradation.recipe import Recipe, draw_recipe
from expertree.degradation.registry import MIXABLE, REGISTRY
from expertree.degradation.synthesis import degrade

BOUNDS = {
    "low_light": {"gamma": p.LOW_LIGHT_GAMMA},
    "motion_blur": {"size_px": {"in": (5, 13), "out": (17, 25)}, "angle_deg": (0, 180)},
    "blur": {
        "size_px": (7, 23),
        "std_x_px": p.BLUR_STD_PX,
        "std_y_px": p.BLUR_STD_PX,
        "angle_deg": (0, 180),
    },
    "noise": {"sigma": p.NOISE_SIGMA},
    "rain": {
        "strength": p.RAIN_STRENGTH,
        "angle_deg": (-45, 45),
        "length_px": (20, 40),
        "width_px": (3, 11),
    },
    "snow": {"density": p.SNOW_DENSITY, "angle_deg": p.SNOW_ANGLE_DEG},
    "haze": {"beta": p.HAZE_BETA, "airlight": (0.8, 1.0)},
    "jpeg": {"quality": {"in": (15, 50), "out": (5, 14)}},
}


@st.composite
def drawn(draw):
    """A recipe with what it was drawn from."""
    kind = draw(st.sampled_from(["single", "mixed"]))
    allowed = MIXABLE if kind == "mixed" else tuple(REGISTRY)
    at_least = 2 if kind == "mixed" else 1
    tasks = tuple(draw(st.lists(st.sampled_from(allowed), min_size=at_least, unique=True)))
    distribution = draw(st.sampled_from(DISTRIBUTIONS))
    rng = np.random.default_rng(draw(st.integers(0, 2**63 - 1)))
    return draw_recipe(rng, tasks=tasks, kind=kind, severity=distribution), tasks, distribution


@st.composite
def pictures(draw):
    """Blocks of colour with some texture, of any shape."""
    height, width = draw(st.tuples(st.integers(17, 70), st.integers(17, 70)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    blocks = np.kron(coarse, np.ones((8, 8, 1), dtype=int))[:height, :width]
    return np.clip(blocks + rng.integers(-9, 10, blocks.shape), 0, 255).astype(np.uint8)


@settings(max_examples=120)
@given(drawn=drawn())
def test_a_recipe_keeps_order_gates_ranges_and_degrees(drawn):
    recipe, tasks, distribution = drawn
    assert set(recipe.tasks) <= set(tasks)
    assert recipe.tasks == tuple(task for task in REGISTRY if task in recipe.tasks)
    assert len(recipe.tasks) == 1 or set(recipe.tasks) <= set(MIXABLE)
    for task in recipe.tasks:
        parameters = dict(recipe.parameters[task])
        if task == "snow":
            assert parameters.pop("size") in p.SNOW_SIZES[distribution]
        assert set(parameters) == set(BOUNDS[task])
        for name, bounds in BOUNDS[task].items():
            low, high = bounds[distribution] if isinstance(bounds, dict) else bounds
            assert low <= parameters[name] <= high
    degrees = caption(recipe).split(SEPARATOR)
    assert len(degrees) == len(recipe.tasks)
    assert set(degrees) <= set(ALL_DEGREES)


@settings(max_examples=60)
@given(drawn=drawn(), image=pictures(), num_threads=st.sampled_from([1, 3]))
def test_what_was_stored_makes_the_same_image_again(drawn, image, num_threads):
    recipe, _, _ = drawn
    before = image.copy()
    first = degrade(image, recipe)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(num_threads)
    try:
        again = degrade(image, Recipe.from_json(recipe.to_json()))
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)
    assert first.shape == image.shape
    assert first.dtype == np.uint8


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("task", list(REGISTRY))
def test_every_degradation_leaves_a_mark(task, distribution):
    image = np.random.default_rng(0).integers(0, 200, (40, 48, 3), dtype=np.uint8)
    rng = np.random.default_rng(5)
    recipe = draw_recipe(rng, tasks=(task,), kind="single", severity=distribution)
    assert (degrade(image, recipe) != image).any()
