import numpy as np
import pytest

from expertree.degradation.captions import ALL_DEGREES, caption, caption_of_kinds, degree
from expertree.degradation.recipe import Recipe, draw_recipe
from expertree.degradation.registry import REGISTRY


def gaussian(size_px, std_px):
    return {"size_px": size_px, "std_x_px": std_px, "std_y_px": std_px, "angle_deg": 0.0}


@pytest.mark.parametrize(
    ("task", "parameters", "expected"),
    [
        ("rain", {"strength": 0.0}, "small rain"),
        ("rain", {"strength": 49.999}, "small rain"),
        ("rain", {"strength": 50.0}, "medium rain"),
        ("rain", {"strength": 99.999}, "medium rain"),
        ("rain", {"strength": 100.0}, "large rain"),
        ("rain", {"strength": 150.0}, "large rain"),
        ("noise", {"sigma": 14.999}, "small noise"),
        ("noise", {"sigma": 15.0}, "medium noise"),
        ("noise", {"sigma": 34.999}, "medium noise"),
        ("noise", {"sigma": 35.0}, "large noise"),
        ("noise", {"sigma": 50.0}, "large noise"),
        ("haze", {"beta": 0.999}, "normal haze"),
        ("haze", {"beta": 1.0}, "thick haze"),
        ("motion_blur", {"size_px": 13}, "small blur"),
        ("motion_blur", {"size_px": 17}, "large blur"),
        ("blur", gaussian(23, 1.0), "small blur"),
        ("blur", gaussian(23, 3.0), "large blur"),
        ("blur", gaussian(7, 4.0), "small blur"),
        ("snow", {"size": "small"}, "small snow"),
        ("snow", {"size": "medium"}, "medium snow"),
        ("snow", {"size": "large"}, "large snow"),
        ("jpeg", {"quality": 5}, "large compression"),
        ("jpeg", {"quality": 14}, "large compression"),
        ("jpeg", {"quality": 15}, "medium compression"),
        ("jpeg", {"quality": 34}, "medium compression"),
        ("jpeg", {"quality": 35}, "small compression"),
        ("jpeg", {"quality": 50}, "small compression"),
        ("low_light", {"gamma": 1.0}, "light low-light"),
        ("low_light", {"gamma": 1.499}, "light low-light"),
        ("low_light", {"gamma": 1.5}, "heavy low-light"),
        ("low_light", {"gamma": 2.999}, "heavy low-light"),
    ],
)
def test_degrees_change_at_the_papers_limits(task, parameters, expected):
    assert degree(task, parameters) == expected


def test_there_are_18_degrees():
    assert len(ALL_DEGREES) == len(set(ALL_DEGREES)) == 18


@pytest.mark.parametrize("distribution", ["in", "out"])
@pytest.mark.parametrize("task", list(REGISTRY))
def test_every_recipe_has_one_of_the_degrees(task, distribution):
    rng = np.random.default_rng(0)
    for _ in range(200):
        recipe = draw_recipe(rng, tasks=(task,), kind="single", severity=distribution)
        assert caption(recipe) in ALL_DEGREES


def test_the_caption_of_a_mixture_joins_its_parts_in_order():
    recipe = Recipe(
        tasks=("low_light", "noise", "haze"),
        parameters={
            "haze": {"beta": 1.2, "airlight": 0.9},
            "noise": {"sigma": 20.0},
            "low_light": {"gamma": 1.2},
        },
        seed=0,
    )
    assert caption(recipe) == "light low-light, medium noise, thick haze"


@pytest.mark.parametrize(
    ("task", "parameters", "message"),
    [
        ("noise", {"strength": 20.0}, "'sigma' must be a number"),
        ("snow", {"size": "huge"}, "small, medium or large"),
        ("fog", {}, "unknown degradation 'fog'"),
    ],
)
def test_parameters_without_a_degree_are_refused(task, parameters, message):
    with pytest.raises(ValueError, match=message):
        degree(task, parameters)


def test_what_is_beyond_the_papers_ranges_has_the_last_degree():
    assert degree("noise", {"sigma": 75.0}) == "large noise"
    assert degree("low_light", {"gamma": 4.0}) == "heavy low-light"
    assert degree("rain", {"strength": 300.0}) == "large rain"
    assert degree("jpeg", {"quality": 95}) == "small compression"
    assert degree("blur", {"radius_px": 7.0}) == "small blur"
    assert degree("blur", {"radius_px": 8.0}) == "large blur"


def test_kinds_alone_are_named_by_their_nouns():
    assert caption_of_kinds(["low_light", "jpeg"]) == "low-light, compression"
    assert caption_of_kinds(["real_noise"]) == "real noise"
