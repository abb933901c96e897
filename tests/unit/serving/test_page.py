"""The page against the real endpoint, in a real browser."""

import hashlib
import json
import time
from collections.abc import Iterator
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
from page_endpoint import served
from told import INSTRUCT, SLER, single, told_restorer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def endpoint(restorer: Restorer) -> Iterator[str]:
    with served(LocalEngine(restorer), HttpConfig()) as url:
        yield url


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return data.chelsea()[60:200, 100:280]


@pytest.fixture
def page(browser: Any, endpoint: str) -> Any:
    """The browser with the page open and the model known."""
    browser.open(endpoint)
    calm = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.call("Emulation.setEmulatedMedia", features=calm)
    browser.evaluate("localStorage.clear(); sessionStorage.clear()")
    browser.until("document.querySelector('#names input')")
    return browser


def take(page: Any, file: bytes, name: str, kind: str = "image/png") -> None:
    """Drop a file and wait for what becomes of it."""
    page.drop(file, name, kind)
    settle(page)


def settle(page: Any) -> None:
    page.until("['done', 'failed'].includes(document.body.dataset.state)")


def text(page: Any, selector: str) -> str:
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def click(page: Any, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def is_shown(page: Any, selector: str) -> bool:
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).checkVisibility()")


def pixels(page: Any, image: str) -> np.ndarray:
    return decode_u8(page.file_behind(image))


def expert_on_screen(page: Any) -> int:
    return int(text(page, "#experts [aria-pressed=true] small").split()[0].lstrip("#"))


def test_a_dropped_photo_is_restored_to_the_pixel_and_its_route_is_told(
    page: Any, endpoint: str, restorer: Restorer, photo: np.ndarray
) -> None:
    take(page, encode_png(photo), "cat.png")
    restoration = restorer.restore(photo)
    assert np.array_equal(pixels(page, "before"), photo)
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


def test_the_line_follows_the_mouse_and_the_keyboard(page: Any, photo: np.ndarray) -> None:
    take(page, encode_png(photo), "cat.png")
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
    page: Any, restorer: Restorer, photo: np.ndarray
) -> None:
    take(page, encode_png(photo), "cat.png")
    first = expert_on_screen(page)
    other = next(expert for expert in restorer.tree.experts() if expert not in {first, 0})
    click(page, "#more-experts")
    click(page, f"[data-expert='{other}']")
    page.until(f"document.querySelector('[data-expert=\"{other}\"]').ariaPressed === 'true'")
    assert np.array_equal(pixels(page, "after"), restorer.restore(photo, Wish(expert=other)).image)
    num_asked = len(page.addresses)
    click(page, f"[data-expert='{first}']")
    page.until(f"document.querySelector('[data-expert=\"{first}\"]').ariaPressed === 'true'")
    assert np.array_equal(pixels(page, "after"), restorer.restore(photo).image)
    assert [url for url in page.addresses[num_asked:] if "/v1/" in url] == []


def test_words_about_the_photo_prune_the_tree(
    page: Any, restorer: Restorer, photo: np.ndarray
) -> None:
    take(page, encode_png(photo), "cat.png")
    name = restorer.bundle.guide.names[0]
    click(page, f"#names input[value={name}]")
    page.evaluate("document.getElementById('confidence').value = '2'")
    click(page, "#instruct button[type=submit]")
    settle(page)
    expected = restorer.restore(photo, Wish(instruction=[name], confidence=2))
    assert np.array_equal(pixels(page, "after"), expected.image)


def test_the_download_has_the_format_of_the_photo(
    page: Any, photo: np.ndarray, tmp_path: Path
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    _, encoded = cv2.imencode(".jpg", photo[..., ::-1])
    take(page, encoded.tobytes(), "cat.jpg", "image/jpeg")
    click(page, "#download")
    click(page, "#download-png")
    jpeg, png = tmp_path / "restored-cat.jpg", tmp_path / "restored-cat.png"
    deadline = time.monotonic() + 20
    while not (jpeg.exists() and png.exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert jpeg.read_bytes()[:2] == b"\xff\xd8"
    assert np.array_equal(decode_u8(png.read_bytes()), pixels(page, "after"))


def test_a_broken_file_is_explained_and_the_next_one_is_taken(page: Any, photo: np.ndarray) -> None:
    take(page, b"not a photograph", "broken.jpg", "image/jpeg")
    assert is_shown(page, "#error")
    assert len(text(page, "#error-title")) > 5
    assert len(text(page, "#error-detail")) > 20
    assert not is_shown(page, "#viewer")
    take(page, encode_png(photo), "cat.png")
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
    browser: Any, restorer: Restorer, photo: np.ndarray
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
        take(browser, encode_png(photo), "cat.png")
        assert np.array_equal(pixels(browser, "after"), restorer.restore(photo).image)
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


def asked(page: Any) -> list[str]:
    return [url for url in page.addresses if "/v1/re" in url or "/v1/jobs" in url]


def set_strength(page: Any, value: int) -> None:
    page.evaluate(
        f"(() => {{ const own = document.getElementById('strength'); own.value = '{value}';"
        "own.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def downloaded(path: Path) -> bytes:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    data = path.read_bytes()
    path.unlink()
    return data


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
    page: Any, restorer: Restorer, photo: np.ndarray, tmp_path: Path
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    take(page, encode_png(photo), "cat.png")
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
    assert np.array_equal(pixels(page, "input"), photo)
    assert text(page, "#after-tag").startswith("mixed")
    click(page, "#download")
    mixed = decode_u8(downloaded(tmp_path / "restored-cat.png"))
    assert np.array_equal(mixed, restorer.restore(photo, Wish(strength=0.4)).image)
    set_strength(page, 0)
    click(page, "#download")
    assert np.array_equal(decode_u8(downloaded(tmp_path / "restored-cat.png")), photo)
    set_strength(page, 100)
    click(page, "#download")
    assert downloaded(tmp_path / "restored-cat.png") == page.file_behind("after")
    assert len(asked(page)) == num_asked
    click(page, "#curl")
    assert "strength" not in text(page, "#curl-text")
    set_strength(page, 40)
    click(page, "#curl")
    assert "strength=0.4" in text(page, "#curl-text")
    take(page, encode_png(photo[:, ::-1].copy()), "next.png")
    assert text(page, "#strength-value") == "100 %"
    assert page.complaints == []


def test_a_file_of_its_own_format_is_asked_for_in_the_strength_that_is_shown(
    page: Any, photo: np.ndarray, tmp_path: Path
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    _, encoded = cv2.imencode(".jpg", photo[..., ::-1])
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


def test_a_narrow_window_does_not_scroll_sideways(
    browser: Any, endpoint: str, photo: np.ndarray
) -> None:
    browser.open(endpoint, width=360, height=740)
    take(browser, encode_png(photo), "cat.png")
    click(browser, "#curl")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360


def test_one_network_is_shown_without_a_tree_and_with_what_its_layers_chose(
    page: Any, parts: Any, tmp_path: Path, photo: np.ndarray
) -> None:
    restorer = told_restorer(single(parts, tmp_path), tmp_path, SLER)
    with served(LocalEngine(restorer), HttpConfig()) as url:
        page.open(url)
        page.until("document.querySelector('#names input')")
        assert not is_shown(page, "#tree")
        assert text(page, "#card-title") == "One network"
        take(page, encode_png(photo), "cat.png")
        assert [is_shown(page, own) for own in ("#tree", "#choices", "#layers")] == [
            False,
            False,
            True,
        ]
        assert page.evaluate("document.querySelectorAll('#layer-map rect.taken').length") == 8
        assert np.array_equal(pixels(page, "after"), restorer.restore(photo).image)
        assert page.complaints == []


def test_words_are_asked_for_where_networks_are_told_them(
    page: Any, parts: Any, tmp_path: Path, photo: np.ndarray
) -> None:
    restorer, words = told_restorer(parts, tmp_path, INSTRUCT), "take the rain off, please"
    with served(LocalEngine(restorer), HttpConfig()) as url:
        page.open(url)
        page.until("document.querySelector('#names input')")
        take(page, encode_png(photo), "cat.png")
        assert is_shown(page, "#text")
        assert not is_shown(page, "#layers")
        page.evaluate(f"document.getElementById('text').value = {json.dumps(words)}")
        page.evaluate("document.getElementById('instruct').requestSubmit()")
        settle(page)
        expected = restorer.restore(photo, Wish(words=words)).image
        assert np.array_equal(pixels(page, "after"), expected)
