import cv2
import numpy as np
import pytest

from expertree.degradation.maps import (
    DepthConfig,
    MapsConfig,
    SnowMasksConfig,
    decode_map,
    list_maps,
    load_map,
)
from expertree.degradation.photographs import list_photographs
from expertree.errors import PhotoError
from expertree.images.io import encode_png

RNG = np.random.default_rng(0)


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        assert cv2.imwrite(str(path), values)


def encoded(values):
    return cv2.imencode(".png", np.asarray(values))[1].tobytes()


@pytest.fixture
def photos(tmp_path):
    for name in ("a.png", "sub/b.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)))
    return list_photographs(str(tmp_path / "photos"), min_side_px=16)[0]


def depth_config(folder, **others):
    return MapsConfig(depth=DepthConfig(folder=str(folder), **others))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_depth_is_a_share_of_the_farthest_point(dtype):
    values = np.array([[0, 50, 200]], dtype=dtype)
    np.testing.assert_allclose(decode_map(encoded(values), "depth"), [[0, 0.25, 1]])


def test_nearness_is_largest_at_the_camera():
    values = np.array([[250, 125, 0]], dtype=np.uint8)
    np.testing.assert_allclose(decode_map(encoded(values), "nearness"), [[0, 0.5, 1]])


def test_disparity_is_the_reciprocal_of_depth():
    values = np.array([[200, 100, 50]], dtype=np.uint8)
    np.testing.assert_allclose(
        decode_map(encoded(values), "disparity"), [[0.25, 0.5, 1]], rtol=0.03
    )


def test_an_unknown_disparity_is_that_of_the_nearest_known_pixel():
    values = np.full((20, 30), 80, np.uint8)
    values[:, 15:] = 40
    whole = decode_map(encoded(values), "disparity")
    values[5:9, 2:6] = 0
    values[12:14, 20:28] = 0
    np.testing.assert_array_equal(decode_map(encoded(values), "disparity"), whole)


def test_light_and_opacity_are_shares_of_the_full_scale():
    values = np.array([[0, 13107, 65535]], dtype=np.uint16)
    np.testing.assert_allclose(decode_map(encoded(values), "light"), [[0, 0.2, 1]], rtol=1e-6)
    grey = np.repeat(np.array([[0, 51, 255]], dtype=np.uint8)[..., None], 3, axis=2)
    np.testing.assert_allclose(decode_map(encoded(grey), "opacity"), [[0, 0.2, 1]], rtol=1e-6)


def test_an_array_of_metres_is_a_depth_map(tmp_path, photos):
    metres = np.linspace(2.0, 9.0, 40 * 60).reshape(40, 60)
    for name in ("a.npy", "sub/b.npy"):
        save(tmp_path / "depth" / name, metres)
    files = list_maps(depth_config(tmp_path / "depth"), photos, patch_px=16)
    assert set(files.depth) == {"a.png", "sub/b.png"}
    depth = load_map(files.depth["sub/b.png"], files.meaning)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, metres / 9.0, rtol=1e-6)


def test_maps_may_lie_beside_the_photographs(tmp_path, photos):
    for name in ("a.npy", "sub/b.npy"):
        save(tmp_path / "photos" / name, np.ones((40, 60)))
    files = list_maps(depth_config(tmp_path / "photos"), photos, patch_px=16)
    assert {file.name for file in files.depth.values()} == {"a.npy", "sub/b.npy"}


def test_masks_are_found_in_all_subfolders(tmp_path):
    for name in ("1.png", "more/2.png", "more/3.jpg", ".hidden/4.png", "notes.txt"):
        path = tmp_path / "rain" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(np.zeros((20, 30), np.uint8)))
    files = list_maps(MapsConfig(rain=str(tmp_path / "rain")), [], patch_px=16)
    assert [file.name for file in files.rain] == ["1.png", "more/2.png", "more/3.jpg"]


def test_the_key_follows_contents_and_meaning_but_not_the_folder(tmp_path, photos):
    keys = []
    for folder, value in (("one", 7), ("two", 7), ("three", 8)):
        for name in ("a.png", "sub/b.png"):
            save(tmp_path / folder / name, np.full((40, 60), value, np.uint8))
        config = depth_config(tmp_path / folder)
        keys.append(list_maps(config, photos, patch_px=16).key)
    near = depth_config(tmp_path / "one", meaning="nearness")
    keys.append(list_maps(near, photos, patch_px=16).key)
    assert keys[0] == keys[1]
    assert len({*keys, None}) == 4
    assert list_maps(MapsConfig(), photos, patch_px=16).key is None


def test_a_changed_map_is_refused(tmp_path):
    save(tmp_path / "snow" / "1.png", np.zeros((20, 30), np.uint8))
    config = MapsConfig(snow=SnowMasksConfig(large=str(tmp_path / "snow")))
    (file,) = list_maps(config, [], patch_px=16).snow["large"]
    save(tmp_path / "snow" / "1.png", np.ones((20, 30), np.uint8))
    with pytest.raises(PhotoError, match="has changed"):
        load_map(file, "opacity")
    (tmp_path / "snow" / "1.png").unlink()
    with pytest.raises(PhotoError, match="cannot be read"):
        load_map(file, "opacity")


def test_a_missing_folder_is_named_with_its_key(tmp_path):
    config = MapsConfig(snow=SnowMasksConfig(medium=str(tmp_path / "none")))
    with pytest.raises(PhotoError, match=r"photographs.maps.snow.medium: '.*none' is not a folder"):
        list_maps(config, [], patch_px=16)


def test_a_folder_without_masks_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no mask")
    with pytest.raises(PhotoError, match=r"photographs.maps.rain: .* has no masks"):
        list_maps(MapsConfig(rain=str(tmp_path)), [], patch_px=16)


def test_photographs_without_a_map_are_counted_and_named(tmp_path, photos):
    save(tmp_path / "depth" / "a.png", np.ones((40, 60), np.uint8))
    with pytest.raises(PhotoError, match=r"no map for 1 of 2 photographs: sub/b.png; .* \.npy"):
        list_maps(depth_config(tmp_path / "depth"), photos, patch_px=16)


def test_two_maps_for_a_photograph_are_refused(tmp_path, photos):
    for name in ("a.png", "a.npy", "sub/b.png"):
        save(tmp_path / "depth" / name, np.ones((40, 60), np.uint8))
    with pytest.raises(PhotoError, match=r"more than one map for 1 photographs: a.png"):
        list_maps(depth_config(tmp_path / "depth"), photos, patch_px=16)


def test_a_map_of_another_size_is_refused(tmp_path, photos):
    for name in ("a.png", "sub/b.png"):
        save(tmp_path / "light" / name, np.ones((40, 50), np.uint8))
    config = MapsConfig(illumination=str(tmp_path / "light"))
    with pytest.raises(PhotoError, match=r"a.png is 50 x 40 px and its photograph 60 x 40 px"):
        list_maps(config, photos, patch_px=16)


def test_a_mask_smaller_than_a_patch_is_refused(tmp_path):
    save(tmp_path / "1.png", np.zeros((20, 30), np.uint8))
    with pytest.raises(PhotoError, match=r"smaller than a patch of 32 px: 1.png is 30 x 20 px"):
        list_maps(MapsConfig(rain=str(tmp_path)), [], patch_px=32)


def test_damaged_files_are_counted_and_the_first_are_named(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"not an image")
    with pytest.raises(PhotoError, match=r"5 maps cannot be used: 0.png is not an .* and 2 more"):
        list_maps(MapsConfig(rain=str(tmp_path)), [], patch_px=16)


def npy(values, path):
    np.save(path, values)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("values", "meaning", "message"),
    [
        (np.full((3, 3), 1.5), "opacity", r"up to 1.5; floats must lie in \[0, 1\]"),
        (np.full((3, 3), -1.0), "depth", "negative or not finite"),
        (np.full((3, 3), np.nan), "depth", "negative or not finite"),
        (np.zeros((3, 3)), "disparity", "is 0 everywhere"),
        (np.zeros(3), "depth", r"must have two dimensions, has shape \[3\]"),
        (np.zeros((3, 3), complex), "depth", "must hold numbers"),
    ],
)
def test_values_that_mean_nothing_are_refused(tmp_path, values, meaning, message):
    with pytest.raises(ValueError, match=message):
        decode_map(npy(values, tmp_path / "map.npy"), meaning)
