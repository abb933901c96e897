import dataclasses

import numpy as np
import pytest

from expertree.degradation.looks import (
    NATURAL,
    LooksConfig,
    desaturate,
    draw_look,
    draw_saved,
    tone,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
LUMA = IMAGE @ np.array([0.299, 0.587, 0.114])


def saturation(image):
    return float((image.max(axis=2).astype(int) - image.min(axis=2)).mean())


def test_without_saturation_a_picture_is_its_luma():
    grey = desaturate(IMAGE, 0.0)
    assert (grey == grey[..., :1]).all()
    assert np.abs(grey[..., 0] - LUMA).max() <= 0.51


def test_all_of_the_saturation_is_the_picture_itself():
    assert (desaturate(IMAGE, 1.0) == IMAGE).all()


def test_saturation_falls_in_proportion():
    assert saturation(desaturate(IMAGE, 0.5)) == pytest.approx(saturation(IMAGE) / 2, rel=0.02)


def test_a_toned_picture_has_one_colour_and_keeps_black():
    white = np.array([1.0, 0.9, 0.7], dtype=np.float32)
    toned = tone(np.full((2, 2, 3), 255, dtype=np.uint8), white, 1.0)
    assert toned[0, 0].tolist() == [255, 230, 178]
    assert (tone(np.zeros((2, 2, 3), dtype=np.uint8), white, 1.0) == 0).all()


def test_natural_photographs_are_left_as_they_are():
    rng = np.random.default_rng(0)
    assert all((draw_look(IMAGE, rng, NATURAL) == IMAGE).all() for _ in range(20))
    assert all(draw_saved(rng, NATURAL) is None for _ in range(20))


def test_looks_occur_as_often_as_their_shares_say():
    rng = np.random.default_rng(0)
    config = dataclasses.replace(
        NATURAL, grey_share=0.3, pale_share=0.2, saved_share=0.4, quality=(80, 90)
    )
    made = [saturation(draw_look(IMAGE, rng, config)) for _ in range(600)]
    assert np.mean(np.array(made) == 0.0) == pytest.approx(0.3, abs=0.06)
    assert np.mean(np.array(made) == saturation(IMAGE)) == pytest.approx(0.5, abs=0.06)
    saved = [draw_saved(rng, config) for _ in range(600)]
    files = [one for one in saved if one is not None]
    assert len(files) / 600 == pytest.approx(0.4, abs=0.06)
    assert {one.subsampling for one in files} == {"4:2:0", "4:4:4"}
    assert min(one.quality for one in files) >= 80
    assert max(one.quality for one in files) <= 90


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pale_share": 1.5}, "pale_share must lie in"),
        ({"pale_share": 0.6, "grey_share": 0.5}, "add up to at most 1"),
        ({"quality": (90, 80)}, "quality"),
    ],
)
def test_shares_and_qualities_that_do_not_exist_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        LooksConfig(**values)
