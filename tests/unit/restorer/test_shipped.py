"""The shipped model: its size, its card, and that it helps and does not harm."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from expertree.degradation.recipe import Recipe
from expertree.degradation.synthesis import degrade
from expertree.errors import ArtefactError
from expertree.images.arrays import ImageU8
from expertree.restorer import SHIPPED, Restorer, find_bundle, shipped
from expertree.restorer.manifest import MANIFEST

SIDE_PX = 256


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.load()


def picture(name: str) -> ImageU8:
    whole: ImageU8 = getattr(data, name)()
    part = whole[: min(whole.shape[:2]), : min(whole.shape[:2])]
    return np.asarray(cv2.resize(part, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA))


def psnr(one: ImageU8, other: ImageU8) -> float:
    return cv2.PSNR(one, other)


def test_it_is_small_and_has_a_card() -> None:
    folder = Path(find_bundle().path())
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for word in ("Data", "Licence", "Commit", "bad at"):
        assert word in card


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_a_clean_photograph_stays_as_it_is(restorer: Restorer, name: str) -> None:
    clean = picture(name)
    assert psnr(restorer.restore(clean).image, clean) > 40


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_noise_is_taken_away(restorer: Restorer, name: str) -> None:
    clean = picture(name)
    recipe = Recipe(tasks=("noise",), parameters={"noise": {"sigma": 25.0}}, seed=1)
    noisy = degrade(clean, recipe)
    assert psnr(restorer.restore(noisy).image, clean) > psnr(noisy, clean) + 6


def test_a_folder_of_its_name_needs_a_path(tmp_path: Path) -> None:
    assert find_bundle(f"./{SHIPPED}").path() != find_bundle().path()
    assert find_bundle(tmp_path).path() == str(tmp_path)


def test_an_installation_without_models_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shipped, "_MODELS", tmp_path)
    with pytest.raises(ArtefactError, match=f"no model {SHIPPED}"):
        find_bundle()
    (tmp_path / SHIPPED).mkdir()
    assert not find_bundle().exists(MANIFEST)
