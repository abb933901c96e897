import cv2
import numpy as np
import pytest

from expertree.degradation import fields, physics
from expertree.degradation.recipe import Recipe, draw_recipe
from expertree.degradation.registry import REGISTRY, Maps
from expertree.degradation.synthesis import degrade


def picture(height_px=64, width_px=80, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.random((height_px // 8, width_px // 8, 3), dtype=np.float32)
    return cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_LINEAR)


def test_haze_is_the_scattering_formula_pixel_by_pixel():
    image, depth = picture(), picture(seed=1)[..., 0]
    hazy = physics.add_haze(image, depth=depth, beta=1.3, airlight=0.9)
    for y, x in [(0, 0), (10, 20), (63, 79)]:
        t = np.exp(-1.3 * depth[y, x])
        np.testing.assert_allclose(hazy[y, x], t * image[y, x] + 0.9 * (1 - t), atol=1e-6)


def test_snow_is_the_mask_formula():
    image, mask = picture(), picture(seed=1)[..., 0]
    expected = image * (1 - mask[..., None]) + mask[..., None]
    np.testing.assert_allclose(physics.add_snow(image, mask=mask), expected, atol=1e-6)


def test_rain_is_added_and_clipped():
    image, streaks = picture(), picture(seed=1)[..., 0]
    expected = np.minimum(image + streaks[..., None], 1)
    np.testing.assert_allclose(physics.add_rain(image, streaks=streaks), expected, atol=1e-6)


def test_low_light_is_the_illumination_formula():
    image, light = picture(), 0.1 + 0.9 * picture(seed=1)[..., 0]
    expected = np.clip(image / light[..., None] * light[..., None] ** 2.2, 0, 1)
    found = physics.darken(image, illumination=light, gamma=2.2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gamma_one_changes_nothing():
    image = picture()
    light = fields.illumination_map(image)
    np.testing.assert_array_equal(physics.darken(image, illumination=light, gamma=1.0), image)


def test_noise_has_the_asked_for_deviation_and_no_mean():
    grey = np.full((200, 200, 3), 0.5, np.float32)
    noise = physics.add_noise(grey, sigma=25.0, rng=np.random.default_rng(0)) - grey
    assert 255 * noise.std() == pytest.approx(25.0, rel=0.01)
    assert 255 * noise.mean() == pytest.approx(0.0, abs=0.3)


def test_blur_equals_an_obvious_convolution():
    image = picture(24, 24)
    kernel = physics.gaussian_kernel(size_px=7, std_x_px=2.0, std_y_px=1.0, angle_deg=30.0)
    padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect")
    slow = np.zeros_like(image)
    for dy in range(7):
        for dx in range(7):
            slow += kernel[dy, dx] * padded[dy : dy + 24, dx : dx + 24]
    np.testing.assert_allclose(physics.blur(image, kernel=kernel), slow, atol=1e-5)


@pytest.mark.parametrize("size_px", [7, 15, 23])
def test_an_isotropic_blur_along_each_axis_is_that_of_its_kernel_to_the_bit(size_px):
    image = picture(64, 80)
    kernel = physics.gaussian_kernel(size_px=size_px, std_x_px=2.3, std_y_px=2.3)
    fast = physics.blur_isotropic(image, size_px=size_px, std_px=2.3)
    np.testing.assert_array_equal(fast, physics.blur(image, kernel=kernel))


def test_an_isotropic_kernel_is_the_outer_product_of_two_gaussians():
    kernel = physics.gaussian_kernel(size_px=11, std_x_px=2.0, std_y_px=2.0)
    taps = cv2.getGaussianKernel(11, 2.0)
    np.testing.assert_allclose(kernel, taps @ taps.T, atol=1e-7)


def test_an_anisotropic_kernel_lies_along_its_direction():
    flat = physics.gaussian_kernel(size_px=11, std_x_px=3.0, std_y_px=1.0)
    rising = physics.gaussian_kernel(size_px=11, std_x_px=3.0, std_y_px=1.0, angle_deg=90.0)
    assert flat[5, 9] > flat[9, 5]
    np.testing.assert_allclose(rising, flat.T, atol=1e-7)


@pytest.mark.parametrize("size_px", [5, 13, 25])
@pytest.mark.parametrize("angle_deg", [0.0, 37.0, 90.0])
def test_a_motion_kernel_keeps_the_light_and_is_point_symmetric(size_px, angle_deg):
    kernel = physics.motion_kernel(size_px=size_px, angle_deg=angle_deg)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-7)


def test_a_level_motion_kernel_is_one_row():
    kernel = physics.motion_kernel(size_px=9, angle_deg=0.0)
    np.testing.assert_allclose(kernel[4], 1 / 9, atol=1e-6)
    assert kernel.sum() == pytest.approx(kernel[4].sum(), abs=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: physics.gaussian_kernel(size_px=8, std_x_px=1.0, std_y_px=1.0),
        lambda: physics.gaussian_kernel(size_px=7, std_x_px=0.0, std_y_px=1.0),
        lambda: physics.motion_kernel(size_px=10, angle_deg=0.0),
    ],
)
def test_impossible_kernels_are_refused(make):
    with pytest.raises(ValueError, match="odd size"):
        make()


def test_depth_is_smooth_and_in_range():
    for seed in range(20):
        depth = fields.depth_field(64, 80, np.random.default_rng(seed))
        assert depth.shape == (64, 80)
        assert 0.0 <= depth.min() <= 0.35
        assert 0.75 <= depth.max() <= 1.0
        assert max(np.abs(np.diff(depth, axis=a)).max() for a in (0, 1)) < 0.06


def test_illumination_is_a_smoothed_maximum():
    image = picture()
    light = fields.illumination_map(image)
    brightest = image.max(axis=2)
    assert light.shape == brightest.shape
    assert np.abs(np.diff(light, axis=1)).mean() < np.abs(np.diff(brightest, axis=1)).mean()
    assert light.mean() == pytest.approx(brightest.mean(), abs=0.02)


@pytest.mark.parametrize("angle_deg", [-45.0, 0.0, 30.0])
def test_rain_falls_in_its_direction(angle_deg):
    layer = fields.rain_layer(
        160,
        160,
        np.random.default_rng(0),
        strength=80.0,
        angle_deg=angle_deg,
        length_px=30,
        width_of_streak_px=9,
    )
    dx, dy = np.gradient(layer)[::-1]
    tensor = np.array([[np.sum(dx * dx), np.sum(dx * dy)], [np.sum(dx * dy), np.sum(dy * dy)]])
    along = np.linalg.eigh(tensor)[1][:, 0]
    found = np.rad2deg(np.arctan(along[0] / along[1]))
    assert found == pytest.approx(angle_deg, abs=3.0)


def coverage_of_rain(strength):
    rng = np.random.default_rng(0)
    args = {"angle_deg": 10.0, "length_px": 30, "width_of_streak_px": 5}
    return fields.rain_layer(128, 128, rng, strength=strength, **args).mean()


def test_stronger_rain_covers_more():
    covered = [coverage_of_rain(s) for s in (0.0, 50.0, 100.0, 150.0)]
    assert covered[0] == 0.0
    assert covered == sorted(covered)
    assert covered[3] > 2 * covered[1]


def test_larger_snow_covers_more():
    covered = [
        fields.snow_mask(
            128, 128, np.random.default_rng(0), size=size, density=1.0, angle_deg=0.0
        ).mean()
        for size in ("small", "medium", "large")
    ]
    assert 0.0 < covered[0] < covered[1] < covered[2] < 0.5


@pytest.mark.parametrize("distribution", ["in", "out"])
@pytest.mark.parametrize("task", list(REGISTRY))
def test_every_degradation_keeps_shape_type_and_range(task, distribution):
    image = picture(37, 53) if task != "haze" else picture(40, 56)
    rng = np.random.default_rng(0)
    for _ in range(5):
        recipe = draw_recipe(rng, tasks=(task,), kind="single", severity=distribution)
        spoiled = degrade(physics.to_u8(image), recipe)
        assert spoiled.shape == image.shape
        assert spoiled.dtype == np.uint8


def severity(task, parameters):
    image = physics.to_u8(picture(128, 128))
    recipe = Recipe(tasks=(task,), parameters={task: parameters}, seed=4)
    return np.abs(degrade(image, recipe).astype(int) - image).mean()


@pytest.mark.parametrize(
    ("task", "slight", "severe"),
    [
        ("noise", {"sigma": 15.0}, {"sigma": 50.0}),
        ("haze", {"beta": 0.5, "airlight": 0.9}, {"beta": 2.0, "airlight": 0.9}),
        ("low_light", {"gamma": 1.2}, {"gamma": 2.5}),
        ("jpeg", {"quality": 50}, {"quality": 5}),
        ("motion_blur", {"size_px": 5, "angle_deg": 0.0}, {"size_px": 25, "angle_deg": 0.0}),
    ],
)
def test_a_severe_degradation_changes_more_than_a_slight_one(task, slight, severe):
    assert severity(task, severe) > 1.3 * severity(task, slight) > 0


def test_adding_a_degradation_does_not_change_the_randomness_of_another():
    image = np.full((32, 32, 3), 128, np.uint8)
    noise = {"noise": {"sigma": 15.0}}
    dry = degrade(image, Recipe(tasks=("noise",), parameters=noise, seed=9))
    haze = {**noise, "haze": {"beta": 0.0, "airlight": 0.9}}
    both = degrade(image, Recipe(tasks=("noise", "haze"), parameters=haze, seed=9))
    np.testing.assert_array_equal(dry, both)


@pytest.mark.parametrize(
    ("task", "parameters", "maps"),
    [
        ("haze", {"beta": 1.5, "airlight": 1.0}, "depth"),
        ("low_light", {"gamma": 2.0}, "illumination"),
        ("snow", {"size": "small", "density": 1.0, "angle_deg": 0.0}, "snow_mask"),
    ],
)
def test_a_real_map_replaces_the_procedural_one(task, parameters, maps):
    image = physics.to_u8(picture())
    recipe = Recipe(tasks=(task,), parameters={task: parameters}, seed=1)
    real = np.ones(image.shape[:2], np.float32)
    real[:, :40] = 0.25
    procedural, given = degrade(image, recipe), degrade(image, recipe, Maps(**{maps: real}))
    assert (procedural != given).any()
    if task == "snow":
        assert (given[:, 40:] == 255).all()


def test_a_map_that_does_not_fit_is_refused():
    image = np.zeros((20, 30, 3), np.uint8)
    recipe = Recipe(tasks=("haze",), parameters={"haze": {"beta": 1.0, "airlight": 0.9}}, seed=1)
    with pytest.raises(ValueError, match=r"depth must have .* \[20, 30\], got \[30, 20\]"):
        degrade(image, recipe, Maps(depth=np.zeros((30, 20), np.float32)))
    with pytest.raises(ValueError, match=r"depth must lie in \[0, 1\]"):
        degrade(image, recipe, Maps(depth=np.full((20, 30), 2.0, np.float32)))


def test_a_float_image_is_refused():
    recipe = Recipe(tasks=("noise",), parameters={"noise": {"sigma": 1.0}}, seed=1)
    with pytest.raises(ValueError, match="uint8"):
        degrade(picture(), recipe)
