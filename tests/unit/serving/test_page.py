"""The page against the real endpoint, in a real browser."""

import hashlib
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from expertree.errors import OverloadError
from expertree.images.io import decode_u8, encode_png
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving import HttpConfig, Key, LocalEngine, Pixels, RestoredPixels
from pages import (
    click,
    expert_on_screen,
    is_shown,
    pixels,
    served,
    settle,
    take,
    text,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


def test_a_dropped_photo_is_restored_to_the_pixel_and_its_route_is_told(
    page: Any, endpoint: str, restorer: Restorer, cat: np.ndarray
) -> None:
    take(page, encode_png(cat), "cat.png")
    restoration = restorer.restore(cat)
    assert np.array_equal(pixels(page, "before"), cat)
    assert np.array_equal(pixels(page, "after"), restoration.image)
    assert expert_on_screen(page) == restoration.route.expert
    assert f"#{restoration.route.expert} " in text(page, "#card-lead")
    assert page.evaluate("document.querySelectorAll('#tree .node.taken').length") == (
        restoration.route.level + 1
    )
    assert page.complaints == []
    assert {url for url in page.addresses if not url.startswith((endpoint, "blob:"))} == set()


def position(page: Any) -> float:
    return float(page.evaluate("document.getElementById('divider').ariaValueNow"))


def test_the_line_follows_the_mouse_and_the_keyboard(page: Any, cat: np.ndarray) -> None:
    take(page, encode_png(cat), "cat.png")
    assert position(page) == 50
    left, width, y = page.evaluate(
        "(() => { const b = document.getElementById('stage').getBoundingClientRect();"
        "return [b.left, b.width, b.top + b.height / 2]; })()"
    )
    page.mouse("mousePressed", left + 0.5 * width, y)
    page.mouse("mouseMoved", left + 0.75 * width, y)
    assert position(page) == pytest.approx(75, abs=1)
    page.mouse("mouseReleased", left + 0.75 * width, y)
    page.mouse("mouseMoved", left + 0.1 * width, y)
    assert position(page) == pytest.approx(75, abs=1)
    page.evaluate("document.getElementById('divider').focus()")
    for key, expected in (("End", 100), ("ArrowLeft", 98), ("PageDown", 88), ("Home", 0)):
        page.press(key)
        assert position(page) == expected


def test_at_one_to_one_a_pixel_is_a_pixel_and_arrow_keys_pan(page: Any) -> None:
    take(page, encode_png(data.astronaut()[:400]), "astronaut.png")
    page.resize(360, 800)
    click(page, "#zoom button:nth-child(2)")
    box = "document.getElementById('after').getBoundingClientRect()"
    assert page.evaluate(f"[{box}.width, {box}.height]") == [512, 400]
    page.evaluate("document.getElementById('stage').focus()")
    before = page.evaluate(f"{box}.left")
    page.press("ArrowRight")
    assert page.evaluate(f"{box}.left") < before
    page.press("0")
    assert page.evaluate(f"{box}.width") < 360


def test_another_expert_restores_the_photo_and_the_first_is_kept(
    page: Any, restorer: Restorer, cat: np.ndarray
) -> None:
    take(page, encode_png(cat), "cat.png")
    first = expert_on_screen(page)
    other = next(expert for expert in restorer.tree.experts() if expert not in {first, 0})
    click(page, "#more-experts")
    click(page, f"[data-expert='{other}']")
    page.until(f"document.querySelector('[data-expert=\"{other}\"]').ariaPressed === 'true'")
    assert np.array_equal(pixels(page, "after"), restorer.restore(cat, Wish(expert=other)).image)
    num_asked = len(page.addresses)
    click(page, f"[data-expert='{first}']")
    page.until(f"document.querySelector('[data-expert=\"{first}\"]').ariaPressed === 'true'")
    assert np.array_equal(pixels(page, "after"), restorer.restore(cat).image)
    assert [url for url in page.addresses[num_asked:] if "/v1/" in url] == []


def test_words_about_the_photo_prune_the_tree(
    page: Any, restorer: Restorer, cat: np.ndarray
) -> None:
    take(page, encode_png(cat), "cat.png")
    name = restorer.bundle.guide.names[0]
    click(page, f"#names input[value={name}]")
    page.evaluate("document.getElementById('confidence').value = '2'")
    click(page, "#instruct button[type=submit]")
    settle(page)
    expected = restorer.restore(cat, Wish(instruction=[name], confidence=2))
    assert np.array_equal(pixels(page, "after"), expected.image)


def test_the_download_has_the_format_of_the_photo(
    page: Any, cat: np.ndarray, tmp_path: Path
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    _, encoded = cv2.imencode(".jpg", cat[..., ::-1])
    take(page, encoded.tobytes(), "cat.jpg", "image/jpeg")
    click(page, "#download")
    click(page, "#download-png")
    jpeg, png = tmp_path / "restored-cat.jpg", tmp_path / "restored-cat.png"
    deadline = time.monotonic() + 20
    while not (jpeg.exists() and png.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert jpeg.read_bytes()[:2] == b"\xff\xd8"
    assert np.array_equal(decode_u8(png.read_bytes()), pixels(page, "after"))


def test_a_broken_file_is_explained_and_the_next_one_is_taken(page: Any, cat: np.ndarray) -> None:
    take(page, b"not a photograph", "broken.jpg", "image/jpeg")
    assert is_shown(page, "#error")
    assert len(text(page, "#error-title")) > 5
    assert len(text(page, "#error-detail")) > 20
    assert not is_shown(page, "#viewer")
    take(page, encode_png(cat), "cat.png")
    assert not is_shown(page, "#error")
    assert is_shown(page, "#viewer")


def test_a_large_photo_goes_as_a_job_that_is_deleted_afterwards(
    page: Any, restorer: Restorer
) -> None:
    large = cv2.resize(data.chelsea(), (1510, 1000), interpolation=cv2.INTER_CUBIC)
    take(page, encode_png(large), "large.png")
    assert pixels(page, "after").shape == large.shape
    assert expert_on_screen(page) == restorer.route(large).expert
    assert [url for url in page.addresses if "v1/restore" in url] == []
    jobs = [
        (event["params"]["request"]["method"], event["params"]["request"]["url"].split("?")[0])
        for event in page.events
        if event["method"] == "Network.requestWillBeSent"
        and "/v1/jobs" in event["params"]["request"]["url"]
    ]
    assert jobs[0][0] == "POST"
    assert jobs[-1][0] == "DELETE"
    assert "tiles" in text(page, "#timings")


class BusyAtFirst(LocalEngine):
    """Refuses the first image."""

    num_asked = 0

    async def restore(self, pixels: Pixels, wish: Wish, **more: Any) -> RestoredPixels:
        self.num_asked += 1
        if self.num_asked == 1:
            raise OverloadError("too many wait", retry_after_s=1.0)
        return await super().restore(pixels, wish, **more)


def test_a_key_is_asked_for_and_a_busy_endpoint_waited_for(
    browser: Any, restorer: Restorer, cat: np.ndarray
) -> None:
    key = Key(name="owner", sha256=hashlib.sha256(b"a long random token").hexdigest())
    engine = BusyAtFirst(restorer)
    with served(engine, HttpConfig(keys=(key,))) as url:
        browser.open(url)
        browser.until("document.body.dataset.state === 'failed'")
        assert is_shown(browser, "#key-form")
        browser.evaluate("document.getElementById('key').value = 'a long random token'")
        click(browser, "#key-form button")
        browser.until("document.querySelector('#names input')")
        assert not is_shown(browser, "#error")
        take(browser, encode_png(cat), "cat.png")
        assert np.array_equal(pixels(browser, "after"), restorer.restore(cat).image)
        assert engine.num_asked == 2


def test_an_example_shows_what_was_gained(page: Any) -> None:
    page.until("document.querySelectorAll('#examples button').length === 6")
    click(page, "#examples button")
    settle(page)
    assert text(page, "#before-tag").endswith(" dB")
    assert text(page, "#after-tag").endswith(" dB")
    click(page, "#sides button:last-child")
    page.until("document.getElementById('before-tag').textContent === 'clean'")


def test_dark_colours_follow_the_system_and_the_switch(page: Any, endpoint: str) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    click(page, "#theme")
    dark = page.evaluate(colour)
    assert dark != light
    assert page.evaluate("document.getElementById('theme').ariaPressed") == "true"
    page.open(endpoint)
    assert page.evaluate(colour) == dark
    page.evaluate("localStorage.clear()")
    page.open(endpoint)
    assert page.evaluate(colour) == light
    scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", features=scheme)
    assert page.evaluate(colour) == dark


def test_a_narrow_window_does_not_scroll_sideways(
    browser: Any, endpoint: str, cat: np.ndarray
) -> None:
    browser.open(endpoint, width=360, height=740)
    take(browser, encode_png(cat), "cat.png")
    click(browser, "#curl")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
