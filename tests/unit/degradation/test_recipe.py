import json
import os
import subprocess
import sys

import numpy as np
import pytest

from expertree.degradation import parameters as p
from expertree.degradation.parameters import DISTRIBUTIONS
from expertree.degradation.recipe import GATE_PROBABILITY, Recipe, draw_recipe
from expertree.degradation.registry import DEFAULT_TASKS, MIXABLE, REGISTRY
from expertree.degradation.synthesis import degrade

EVERY_TASK = tuple(REGISTRY)


def picture(side_px=48, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (side_px // 8, side_px // 8, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))


def recipe_of(seed, kind="single", distribution="in", tasks=EVERY_TASK):
    rng = np.random.default_rng(seed)
    return draw_recipe(rng, tasks=tasks, kind=kind, severity=distribution)


OTHER_WORKERS = {
    "three threads, other hashes": {"PYTHONHASHSEED": "7", "THREADS": "3", "OMP_NUM_THREADS": "1"},
    "older processor": {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR",
        "OPENCV_CPU_DISABLE": "AVX2,FMA3,AVX,FP16",
        "OPENCV_IPP": "disabled",
    },
}

REPLAY = """
import os
import sys
import cv2
import numpy as np
from expertree.degradation.recipe import Recipe
from expertree.degradation.synthesis import degrade

cv2.setNumThreads(int(os.environ.get("THREADS", "1")))
image = np.load(sys.argv[1])
for line in sys.stdin:
    sys.stdout.buffer.write(degrade(image, Recipe.from_json(line)).tobytes())
"""


@pytest.mark.parametrize("worker", list(OTHER_WORKERS))
def test_recipes_replay_bit_for_bit_on_another_worker(worker, tmp_path):
    recipes = [
        recipe
        for distribution in DISTRIBUTIONS
        for seed in range(6)
        for recipe in (
            *(recipe_of(seed, "single", distribution, (task,)) for task in EVERY_TASK),
            *(recipe_of(100 * seed + n, "mixed", distribution) for n in range(2)),
        )
    ]
    image = picture(96)
    np.save(tmp_path / "image.npy", image)
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", REPLAY, str(tmp_path / "image.npy")],
        input="\n".join(recipe.to_json() for recipe in recipes).encode(),
        capture_output=True,
        check=True,
        env={**os.environ, **OTHER_WORKERS[worker]},
    )
    replayed = np.frombuffer(found.stdout, np.uint8).reshape(len(recipes), *image.shape)
    for recipe, pixels in zip(recipes, replayed, strict=True):
        np.testing.assert_array_equal(pixels, degrade(image, recipe), err_msg=str(recipe.tasks))


@pytest.mark.parametrize(
    ("task", "name", "bounds"),
    [
        ("low_light", "gamma", p.LOW_LIGHT_GAMMA),
        ("blur", "std_x_px", p.BLUR_STD_PX),
        ("blur", "std_y_px", p.BLUR_STD_PX),
        ("noise", "sigma", p.NOISE_SIGMA),
        ("rain", "strength", p.RAIN_STRENGTH),
        ("haze", "beta", p.HAZE_BETA),
    ],
)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_parameters_fill_their_range_and_stay_inside(task, name, bounds, distribution):
    low, high = bounds[distribution]
    rng = np.random.default_rng(0)
    values = [REGISTRY[task].draw(rng, distribution)[name] for _ in range(500)]
    assert low <= min(values) < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < max(values) <= high


@pytest.mark.parametrize(
    ("task", "name", "options"),
    [
        ("jpeg", "quality", {"in": set(range(15, 51)), "out": set(range(5, 15))}),
        ("snow", "size", {"in": {"small", "medium"}, "out": {"large"}}),
        ("motion_blur", "size_px", {"in": {5, 7, 9, 11, 13}, "out": {17, 19, 21, 23, 25}}),
        ("blur", "size_px", {d: {7, 9, 11, 13, 15, 17, 19, 21, 23} for d in DISTRIBUTIONS}),
        ("rain", "length_px", {d: set(range(20, 41)) for d in DISTRIBUTIONS}),
        ("rain", "width_px", {d: {3, 5, 7, 9, 11} for d in DISTRIBUTIONS}),
    ],
)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_discrete_parameters_take_each_of_their_values(task, name, options, distribution):
    rng = np.random.default_rng(0)
    values = {REGISTRY[task].draw(rng, distribution)[name] for _ in range(600)}
    assert values == options[distribution]


def test_half_of_the_gaussian_kernels_are_isotropic():
    rng = np.random.default_rng(0)
    drawn = [REGISTRY["blur"].draw(rng, "in") for _ in range(1000)]
    share = np.mean([d["std_x_px"] == d["std_y_px"] for d in drawn])
    assert 0.45 < share < 0.55


def test_a_mixture_has_two_tasks_or_more_in_physical_order_and_no_jpeg():
    for seed in range(300):
        recipe = recipe_of(seed, "mixed")
        assert len(recipe.tasks) >= 2
        assert recipe.tasks == tuple(task for task in MIXABLE if task in recipe.tasks)


def test_gates_open_half_of_the_time():
    counts = [len(recipe_of(seed, "mixed").tasks) for seed in range(2000)]
    gates = np.random.default_rng(1).random((20000, 6)) < GATE_PROBABILITY
    expected = gates.sum(axis=1)
    assert np.mean(counts) == pytest.approx(expected[expected >= 2].mean(), abs=0.1)


def test_a_mixture_takes_only_the_tasks_that_are_allowed():
    seen = {t for s in range(50) for t in recipe_of(s, "mixed", tasks=("haze", "rain")).tasks}
    assert seen == {"haze", "rain"}


def test_a_mixture_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        recipe_of(0, "mixed", tasks=("noise", "jpeg"))


def test_the_same_generator_gives_the_same_recipe():
    assert recipe_of(11, "mixed") == recipe_of(11, "mixed")
    assert recipe_of(11, "mixed") != recipe_of(12, "mixed")


def test_motion_blur_is_there_but_not_by_default():
    assert "motion_blur" in REGISTRY
    assert "motion_blur" not in DEFAULT_TASKS
    assert len(DEFAULT_TASKS) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["haze", "noise"]}, "physical order"),
        ({"tasks": ["fog"]}, "unknown degradation 'fog'"),
        ({"tasks": ["noise"]}, "parameters are for"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_a_recipe_that_cannot_be_cooked_is_refused(change, message):
    recipe = Recipe(
        tasks=("noise", "haze"),
        parameters={"noise": {"sigma": 20.0}, "haze": {"beta": 1.0, "airlight": 0.9}},
        seed=1,
    )
    data = {**json.loads(recipe.to_json()), **change}
    with pytest.raises(ValueError, match=message):
        Recipe.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["[]", "{}", '{"tasks": []}', "not json"])
def test_something_that_is_no_recipe_is_refused(text):
    with pytest.raises(ValueError, match=r"not a recipe|Expecting"):
        Recipe.from_json(text)


# A Gaussian's degree also depends on its kernel's size, which is drawn at any severity.
@pytest.mark.parametrize("task", [task for task in EVERY_TASK if task != "blur"])
def test_severity_runs_from_the_mildest_in_to_the_severest_out_of_distribution(task):
    rng, known = np.random.default_rng(0), REGISTRY[task]
    ranks = [
        known.degrees.index(known.degree(known.draw(rng, severity)))
        for severity in np.linspace(0, 1, 15).tolist()
    ]
    assert ranks == sorted(ranks)
    assert ranks[-1] == len(known.degrees) - 1


def test_a_severity_fixes_what_a_degree_is_made_of():
    rng = np.random.default_rng(0)
    assert {REGISTRY["noise"].draw(rng, 0.5)["sigma"] for _ in range(9)} == {32.5}


def test_an_unknown_severity_is_refused():
    with pytest.raises(ValueError, match="'in', 'out', 'any' or a number"):
        recipe_of(0, distribution="far")
