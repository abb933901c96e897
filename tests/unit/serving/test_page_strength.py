"""The page mixes what was restored, leaves what is good, and lets a visitor insist."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from expertree.images.io import decode_u8, encode_png
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving import HttpConfig, LocalEngine
from pages import (
    asked,
    click,
    downloaded,
    expert_on_screen,
    is_shown,
    pixels,
    served,
    set_strength,
    settle,
    take,
    text,
)
from photographs import by_opencv, encoded, exif_block, matrix_profile

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def careful_endpoint(careful: Restorer) -> Iterator[str]:
    with served(LocalEngine(careful), HttpConfig()) as url:
        yield url


def test_what_is_better_left_as_it_is_is_said_and_one_can_insist_and_go_back(
    page: Any, careful_endpoint: str, careful: Restorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    _, good = two_kinds
    page.open(careful_endpoint, width=360, height=740)
    page.until("document.querySelector('#names input')")
    take(page, encode_png(good), "good.png")
    assert text(page, "#as-is h2") == "This photograph is better left as it is"
    assert is_shown(page, "#as-is")
    assert "better left as it is" in text(page, "#live")
    assert not is_shown(page, "#strength-row")
    assert not is_shown(page, "#download")
    assert not is_shown(page, "#divider")
    assert page.evaluate("document.querySelectorAll('#tree .node.taken').length") == 0
    assert text(page, "#experts [aria-pressed=true] b") == "left as it is"
    assert np.array_equal(pixels(page, "after"), good)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    click(page, "#insist")
    settle(page)
    expected = careful.restore(good, Wish(insist=True))
    assert "insist=true" in asked(page)[-1]
    assert np.array_equal(pixels(page, "after"), expected.image)
    assert expert_on_screen(page) == expected.route.expert
    assert not is_shown(page, "#as-is")
    assert is_shown(page, "#strength-row")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    num_asked = len(asked(page))
    click(page, "[data-expert=none]")
    page.until("document.getElementById('as-is').checkVisibility()")
    click(page, "#insist")
    page.until("!document.getElementById('as-is').checkVisibility()")
    assert len(asked(page)) == num_asked
    assert page.complaints == []


def test_strength_mixes_on_the_screen_and_in_the_download_without_another_request(
    page: Any, restorer: Restorer, cat: np.ndarray, tmp_path: Path
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    take(page, encode_png(cat), "cat.png")
    num_asked = len(asked(page))
    opacity = "Number(getComputedStyle(document.getElementById('after')).opacity)"
    under = "document.getElementById('input').checkVisibility()"
    assert page.evaluate(opacity) == 1
    assert not page.evaluate(under)
    page.evaluate("document.getElementById('strength').focus()")
    page.press("ArrowLeft")
    assert text(page, "#strength-value") == "99 %"
    set_strength(page, 40)
    assert page.evaluate(opacity) == pytest.approx(0.4)
    assert page.evaluate(under)
    assert np.array_equal(pixels(page, "input"), cat)
    assert text(page, "#after-tag").startswith("mixed")
    click(page, "#download")
    mixed = decode_u8(downloaded(tmp_path / "restored-cat.png"))
    assert np.array_equal(mixed, restorer.restore(cat, Wish(strength=0.4)).image)
    set_strength(page, 0)
    click(page, "#download")
    assert np.array_equal(decode_u8(downloaded(tmp_path / "restored-cat.png")), cat)
    set_strength(page, 100)
    click(page, "#download")
    assert downloaded(tmp_path / "restored-cat.png") == page.file_behind("after")
    assert len(asked(page)) == num_asked
    click(page, "#curl")
    assert "strength" not in text(page, "#curl-text")
    set_strength(page, 40)
    click(page, "#curl")
    assert "strength=0.4" in text(page, "#curl-text")
    take(page, encode_png(cat[:, ::-1].copy()), "next.png")
    assert text(page, "#strength-value") == "100 %"
    assert page.complaints == []


def test_a_file_of_its_own_format_is_asked_for_in_the_strength_that_is_shown(
    page: Any, cat: np.ndarray, tmp_path: Path
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    _, encoded = cv2.imencode(".jpg", cat[..., ::-1])
    take(page, encoded.tobytes(), "cat.jpg", "image/jpeg")
    set_strength(page, 40)
    click(page, "#download")
    assert downloaded(tmp_path / "restored-cat.jpg")[:2] == b"\xff\xd8"
    assert "strength=0.4" in asked(page)[-1]


def test_an_example_tells_what_a_strength_gains(page: Any) -> None:
    page.until("document.querySelectorAll('#examples button').length === 6")
    click(page, "#examples button")
    settle(page)
    set_strength(page, 0)
    before, after = (text(page, f"#{side}-tag b") for side in ("before", "after"))
    assert before == after


@pytest.mark.parametrize("kind", ["sixteen bits", "a profile", "transparency", "notes", "a JPEG"])
def test_less_than_full_strength_keeps_what_the_file_was(
    page: Any, endpoint: str, cat: np.ndarray, tmp_path: Path, kind: str
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    suffix, file = spoiled(cat, kind)
    take(page, file, f"cat{suffix}", f"image/{suffix[1:]}")
    set_strength(page, 40)
    click(page, "#download" if suffix == ".png" else "#download-png")
    found = downloaded(tmp_path / "restored-cat.png")
    assert text(page, "#download-png") == "PNG, without loss"
    assert "strength=0.4" in asked(page)[-1]
    assert "format=png" in asked(page)[-1]
    query = asked(page)[-1].partition("?")[2]
    expected = httpx.post(f"{endpoint}v1/restore?{query}", content=file).content
    assert found == expected
    assert page.complaints == []


def spoiled(cat: np.ndarray, kind: str) -> tuple[str, bytes]:
    """A photograph whose mixture a canvas would make another kind of picture."""
    image = Image.fromarray(cat)
    if kind == "sixteen bits":
        return ".png", by_opencv(".png", cat.astype(np.uint16) * 257)
    if kind == "transparency":
        image.putalpha(200)
    if kind == "a JPEG":
        return ".jpeg", encoded(image, "JPEG")
    more = {"a profile": {"icc_profile": matrix_profile()}, "notes": {"exif": exif_block()}}
    return ".png", encoded(image, "PNG", **more.get(kind, {}))
