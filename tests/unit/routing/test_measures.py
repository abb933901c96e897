"""What formulas measure in a picture: coding, colours and light."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from expertree.degradation.photographs import list_photographs, load_photo
from expertree.embedding.views import visible_part
from expertree.images.io import to_float
from expertree.routing.measures import NAMES, NEAR_ZERO, measure, measure_windows

SIDE_PX = 128


def column(found: torch.Tensor, name: str) -> float:
    return float(found[0, NAMES.index(name)])


def measured(image_u8: np.ndarray) -> torch.Tensor:
    return measure(to_float(image_u8)[None], view="spread", side_px=SIDE_PX)


def coded(image_u8: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image_u8).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A photograph that was never coded at this size."""
    photos, _ = list_photographs("bundled", min_side_px=400)
    image = cv2.resize(load_photo(photos[0]), (400, 300), interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng(0).normal(0.0, 1.0, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5), (7, 1)])
def test_the_grid_of_a_coded_picture_is_found_wherever_it_was_cut(
    photo: np.ndarray, top: int, left: int
) -> None:
    whole = measured(photo)
    for quality, band, least in ((90, "high", 0.02), (60, "middle", 0.1), (30, "low", 0.1)):
        cut = coded(photo, quality)[top : top + SIDE_PX, left : left + SIDE_PX]
        own = photo[top : top + SIDE_PX, left : left + SIDE_PX]
        name = f"grid {band}"
        assert column(measured(cut), name) > column(measured(own), name) + least, quality
    assert column(whole, "grid low") < 0.02


def test_coarser_coding_leaves_more_zeros(photo: np.ndarray) -> None:
    found = [column(measured(coded(photo, q)), "zeros middle") for q in (95, 75, 50, 20)]
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.2


def test_zeros_are_those_of_the_cosine_transform() -> None:
    noise = np.random.default_rng(0).normal(0.5, 1.5 / 255.0, (15, 15)).astype(np.float32)
    shares = []
    for top in range(8):
        for left in range(8):
            found = np.abs(cv2.dct(255.0 * noise[top : top + 8, left : left + 8]))
            diagonals = np.add.outer(np.arange(8), np.arange(8))
            bands = [(1, 3), (4, 6), (7, 9)]
            inside = [(first <= diagonals) & (diagonals <= last) for first, last in bands]
            shares.append([(found[band] < NEAR_ZERO).mean() for band in inside])
    table = np.array(shares)
    own = table[table.sum(axis=1).argmax()]
    others = (table.sum(axis=0) - own) / 63
    cut = torch.from_numpy(noise).expand(1, 3, 15, 15)
    found = measure_windows(cut)[0, :6].numpy()
    assert found == pytest.approx([*own, *(own - others)], abs=1e-5)


def test_haze_lifts_the_dark_channel_and_takes_colour(photo: np.ndarray) -> None:
    hazy = (0.5 * photo + 0.5 * 230).astype(np.uint8)
    before, after = measured(photo), measured(hazy)
    assert column(after, "dark channel") > column(before, "dark channel") + 0.2
    assert column(after, "darkest") > column(before, "darkest") + 0.2
    assert column(after, "saturation") < column(before, "saturation")
    assert column(after, "chroma") == pytest.approx(column(before, "chroma") / 2, rel=0.1)


def test_shares_of_shadows_and_highlights_are_counted() -> None:
    image = np.full((SIDE_PX, SIDE_PX, 3), 128, np.uint8)
    image[:32], image[-16:] = 0, 255
    found = measured(image)
    assert column(found, "shadows") == pytest.approx(0.25)
    assert column(found, "highlights") == pytest.approx(0.125)
    assert column(found, "saturation") == 0.0


@pytest.mark.parametrize("view", ["spread", "centre_crop", "full"])
def test_what_an_extractor_does_not_look_at_is_not_measured(photo: np.ndarray, view: str) -> None:
    large = np.tile(photo, (2, 2, 1))
    part = visible_part(large, view, SIDE_PX)
    one, other = (measure(to_float(own)[None], view=view, side_px=SIDE_PX) for own in (large, part))
    assert torch.equal(one, other)


def test_each_image_of_a_batch_is_measured_by_itself(photo: np.ndarray) -> None:
    both = torch.stack([to_float(photo), to_float(coded(photo, 30))])
    found = measure(both, view="spread", side_px=SIDE_PX)
    assert torch.allclose(found[:1], measured(photo), atol=1e-6)
    assert torch.allclose(found[1:], measured(coded(photo, 30)), atol=1e-6)


@pytest.mark.parametrize("sides", [(1, 1), (3, 40), (200, 9)])
def test_the_smallest_pictures_have_finite_measures(sides: tuple[int, int]) -> None:
    found = measure(torch.rand(1, 3, *sides), view="spread", side_px=64)
    assert found.shape == (1, len(NAMES))
    assert torch.isfinite(found).all()


def test_the_dark_channel_is_that_of_he(photo: np.ndarray) -> None:
    part = photo[:SIDE_PX, :SIDE_PX].astype(np.float64) / 255.0
    least = part.min(axis=2)
    places = range(0, SIDE_PX - 14, 4)
    slow = np.mean([least[i : i + 15, j : j + 15].min() for i in places for j in places])
    assert column(measured(photo[:SIDE_PX, :SIDE_PX]), "dark channel") == pytest.approx(slow, 1e-4)
