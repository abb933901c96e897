"""Ranges wider than the paper's: drawn only where they are given, and applied as they say."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from expertree import config as strict
from expertree.degradation import fields, physics
from expertree.degradation.captions import ALL_DEGREES, caption
from expertree.degradation.ranges import (
    PAPER_RANGES,
    BlurRanges,
    HazeRanges,
    JpegRanges,
    LowLightRanges,
    MotionRanges,
    NoiseRanges,
    RainRanges,
    RangesConfig,
    Span,
)
from expertree.degradation.recipe import Recipe, draw_recipe
from expertree.degradation.registry import REGISTRY
from expertree.degradation.synthesis import degrade

WIDE = RangesConfig(
    noise=NoiseRanges(sigma=Span(usual=(3.0, 55.0), beyond=(55.0, 70.0)), correlated_share=0.5),
    jpeg=JpegRanges(quality=Span(usual=(95.0, 10.0), beyond=(10.0, 5.0)), double_share=0.5),
    blur=BlurRanges(std_px=Span(usual=(0.5, 4.0), beyond=(4.0, 6.0)), disk_share=0.5),
    motion_blur=MotionRanges(shaken_share=0.5),
    low_light=LowLightRanges(gamma=Span(usual=(1.0, 4.0), beyond=(4.0, 5.0))),
    haze=HazeRanges(beta=Span(usual=(0.2, 3.0), beyond=(3.0, 4.0)), airlight=(0.6, 1.0)),
    rain=RainRanges(strength=Span(usual=(20.0, 200.0), beyond=(200.0, 300.0))),
)


def draw(task, ranges, severity="in", seed=0):
    rng = np.random.default_rng(seed)
    return draw_recipe(rng, tasks=(task,), kind="single", severity=severity, ranges=ranges)


def picture():
    rng = np.random.default_rng(0)
    return rng.integers(60, 190, (8, 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)


@pytest.mark.parametrize("task", REGISTRY)
def test_without_ranges_recipes_are_as_they_were(task):
    for severity in ("in", "out", "any", 0.3):
        rng = np.random.default_rng(4)
        rng.integers(1)  # which of one task it is
        usual = REGISTRY[task].draw(rng, severity)
        assert draw(task, PAPER_RANGES, severity, seed=4).parameters == {task: usual}


@pytest.mark.parametrize("task", [name for name in REGISTRY if name != "snow"])
@pytest.mark.parametrize("severity", ["in", "out", "any", 0.0, 1.0])
def test_wide_recipes_survive_json_have_a_degree_and_give_the_same_image_twice(task, severity):
    for seed in range(6):
        recipe = draw(task, WIDE, severity, seed)
        again = Recipe.from_json(recipe.to_json())
        assert again.to_json() == recipe.to_json()
        assert caption(recipe) in ALL_DEGREES
        once, twice = degrade(picture(), recipe), degrade(picture(), again)
        assert np.array_equal(once, twice)


@pytest.mark.parametrize(
    ("task", "name", "low", "high"),
    [
        ("noise", "sigma", 3, 55),
        ("jpeg", "quality", 10, 95),
        ("low_light", "gamma", 1, 4),
        ("haze", "beta", 0.2, 3),
        ("haze", "airlight", 0.6, 1),
        ("rain", "strength", 20, 200),
    ],
)
def test_values_fill_the_range_in_distribution_and_lie_beyond_it_out_of_it(task, name, low, high):
    inside = [draw(task, WIDE, "in", s).parameters[task][name] for s in range(300)]
    assert low <= min(inside) < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < max(inside) <= high
    if name != "airlight":
        outside = {draw(task, WIDE, "out", s).parameters[task][name] for s in range(20)}
        is_beyond = [value <= low if name == "quality" else value >= high for value in outside]
        assert all(is_beyond)


def test_a_point_of_shift_goes_from_the_mildest_to_the_severest():
    points = [draw("noise", WIDE, point).parameters["noise"]["sigma"] for point in (0.0, 1.0)]
    assert points == [3.0, 70.0]


def test_on_a_scale_of_logarithms_each_doubling_is_as_likely():
    quality = Span(usual=(88.0, 11.0), beyond=(11.0, 6.0), scale="log")
    ranges = RangesConfig(jpeg=JpegRanges(quality=quality))
    drawn = np.array(
        [draw("jpeg", ranges, "in", s).parameters["jpeg"]["quality"] for s in range(900)]
    )
    assert drawn.min() == 11
    assert drawn.max() >= 86
    for low in (11, 22, 44):
        assert np.mean((low <= drawn) & (drawn < 2 * low)) == pytest.approx(1 / 3, abs=0.05)
    points = [
        draw("jpeg", ranges, point).parameters["jpeg"]["quality"] for point in (0.0, 0.5, 1.0)
    ]
    assert points == [88, 23, 6]  # 23 is the geometric mean of both
    with pytest.raises(ValueError, match=r"haze\.beta must be above 0 for a scale of logarithms"):
        RangesConfig(haze=HazeRanges(beta=Span(usual=(0.0, 1.0), beyond=(1.0, 2.0), scale="log")))


def test_correlated_noise_has_its_deviation_and_neighbours_that_agree():
    flat = np.full((200, 200, 3), 0.5, dtype=np.float32)
    rng = np.random.default_rng(0)
    noisy = physics.add_correlated_noise(flat, sigma=20.0, correlation_px=0.8, rng=rng)
    noise = (noisy - flat) * 255
    assert noise.std() == pytest.approx(20.0, rel=0.03)
    assert np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] > 0.5
    plain = physics.add_noise(flat, sigma=20.0, rng=np.random.default_rng(0)) - flat
    assert abs(np.corrcoef(plain[:, 1:].ravel(), plain[:, :-1].ravel())[0, 1]) < 0.02


def test_patches_show_parts_of_one_hazy_scene():
    def depth(**window):
        rng = np.random.default_rng(3)
        return fields.depth_field(64, 96, rng, fields.Window(**window) if window else fields.WHOLE)

    scene = depth()
    quarters = [depth(times=2.0, x=x, y=y) for y in (0.0, 1.0) for x in (0.0, 1.0)]
    joined = np.vstack([np.hstack(quarters[:2]), np.hstack(quarters[2:])])[::2, ::2]
    assert np.abs(joined - scene).max() < 0.04
    assert all(np.ptp(quarter) < np.ptp(scene) for quarter in quarters)
    one = depth(times=1.0, x=0.3, y=0.7)
    assert np.array_equal(one, scene) or np.abs(one - scene).max() < 1e-5


def test_a_patch_of_a_hazy_photograph_varies_less_than_all_of_it():
    ranges = RangesConfig(haze=HazeRanges(scene_times=(3.0, 3.0)))
    grey = np.full((64, 64, 3), 40, dtype=np.uint8)

    def spread(ranges):
        return np.mean([np.ptp(degrade(grey, draw("haze", ranges, seed=s))) for s in range(20)])

    assert spread(ranges) < 0.6 * spread(PAPER_RANGES)
    with pytest.raises(ValueError, match="scene_times must be two numbers from 1 up"):
        RangesConfig(haze=HazeRanges(scene_times=(0.5, 2.0)))


def test_kernels_of_focus_and_shake_sum_to_one_and_fill_their_size():
    for radius_px in (1.0, 2.5, 6.0):
        disk = physics.disk_kernel(radius_px=radius_px)
        assert disk.sum() == pytest.approx(1.0)
        assert np.array_equal(disk, disk[::-1])
        assert np.array_equal(disk, disk.T)
        assert 1.0 / disk.max() == pytest.approx(np.pi * radius_px**2, rel=0.1)
    shaken = [
        physics.shake_kernel(size_px=15, rng=np.random.default_rng(seed)) for seed in range(20)
    ]
    assert all(kernel.sum() == pytest.approx(1.0) and kernel.min() >= 0 for kernel in shaken)
    spans = [max(np.ptp(np.argwhere(kernel > 0), axis=0)) for kernel in shaken]
    assert set(spans) <= {13, 14}
    assert len({kernel.tobytes() for kernel in shaken}) == 20
    with pytest.raises(ValueError, match="odd size"):
        physics.shake_kernel(size_px=8, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="positive radius"):
        physics.disk_kernel(radius_px=0.0)


def test_a_first_coding_lies_on_a_grid_of_its_own():
    image = physics.from_u8(picture())
    first = physics.code_jpeg_shifted(image, quality=20, shift_x_px=3, shift_y_px=5)
    assert first.shape == image.shape
    aligned = physics.code_jpeg_shifted(image, quality=20, shift_x_px=0, shift_y_px=0)
    assert np.array_equal(aligned, physics.code_jpeg(image, quality=20))
    assert not np.array_equal(first, aligned)
    stream = io.BytesIO()
    framed = np.pad(picture(), ((5, 0), (3, 0), (0, 0)), mode="edge")
    PillowImage.fromarray(framed).save(stream, format="JPEG", quality=20)
    expected = np.array(PillowImage.open(stream).convert("RGB"))[5:, 3:]
    assert np.array_equal(physics.to_u8(first), expected)


def test_values_that_mean_nothing_are_refused_by_name():
    with pytest.raises(ValueError, match=r"noise\.correlated_share must lie in"):
        RangesConfig(noise=NoiseRanges(correlated_share=1.5))
    with pytest.raises(ValueError, match=r"jpeg\.quality must lie in \[1, 100\]"):
        dataclasses.replace(WIDE, jpeg=JpegRanges(quality=Span(usual=(120, 50), beyond=(50, 5))))
    with pytest.raises(ValueError, match=r"noise\.sigma needs usual and beyond"):
        RangesConfig(noise=NoiseRanges(sigma=Span(usual=(3, 55))))
    given = {"noise": {"sigma": {"usual": [3, 55], "beyond": [55, 70]}}}
    assert strict.load(RangesConfig, given).noise.sigma == WIDE.noise.sigma
