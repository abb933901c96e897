"""Reading a pair, and the cuts of a protocol."""

import cv2
import numpy as np
import pytest

from expertree.datasets import Pair, Protocol, read_pair
from expertree.degradation.recipe import Recipe
from expertree.errors import DatasetError

NOISE = Recipe(tasks=("noise",), parameters={"noise": {"sigma": 25.0}}, seed=1)


@pytest.fixture
def files(tmp_path):
    """Images whose pixels say where they were."""

    def write(name, height_px, width_px, first=0):
        rows, columns = np.mgrid[first : first + height_px, first : first + width_px]
        image = np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)
        path = tmp_path / name
        assert cv2.imwrite(str(path), image[..., ::-1])
        return path

    return write


def test_a_pair_of_files_is_read_as_it_is(files):
    lq, gt = read_pair(
        Pair(name="a", lq=files("lq.png", 20, 30), gt=files("gt.png", 20, 30)), Protocol()
    )
    assert lq.shape == gt.shape == (20, 30, 3)
    assert gt[3, 7].tolist() == [3, 7, 0]


def test_the_frame_of_a_clean_image_is_cut_off(files):
    # SOTS indoor: clean images of 640 x 480, of which hazy ones show the inner 620 x 460.
    pair = Pair(name="a", lq=files("lq.png", 20, 30, first=5), gt=files("gt.png", 30, 40))
    lq, gt = read_pair(pair, Protocol(gt_has_frame=True))
    np.testing.assert_array_equal(lq, gt)
    with pytest.raises(DatasetError, match=r"lq.png' is 30 x 20 px, but .*gt.png' 40 x 30 px"):
        read_pair(pair, Protocol())


def test_both_are_cut_around_the_centre_to_a_multiple(files):
    pair = Pair(name="a", lq=files("lq.png", 37, 50), gt=files("gt.png", 37, 50))
    lq, gt = read_pair(pair, Protocol(multiple_px=16))
    assert lq.shape == gt.shape == (32, 48, 3)
    assert lq[0, 0].tolist() == gt[0, 0].tolist() == [2, 1, 0]


def test_a_recipe_works_on_what_is_left_after_the_cut(files):
    gt = files("gt.png", 37, 50)
    lq, clean = read_pair(Pair(name="a", gt=gt, recipe=NOISE), Protocol(multiple_px=16))
    assert lq.shape == clean.shape == (32, 48, 3)
    assert 5 < np.abs(lq.astype(int) - clean).mean() < 25


def test_a_damaged_or_missing_file_is_named(files, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(files("gt.png", 20, 30).read_bytes()[:60])
    with pytest.raises(DatasetError, match=r"broken.png' is damaged"):
        read_pair(Pair(name="a", gt=broken, recipe=NOISE), Protocol())
    with pytest.raises(DatasetError, match=r"none.png' cannot be read: No such file"):
        read_pair(Pair(name="a", gt=tmp_path / "none.png", recipe=NOISE), Protocol())


def test_an_image_smaller_than_the_multiple_is_refused(files):
    with pytest.raises(DatasetError, match="an image of 30 x 10 px is smaller than 16"):
        read_pair(
            Pair(name="a", gt=files("gt.png", 10, 30), recipe=NOISE), Protocol(multiple_px=16)
        )
