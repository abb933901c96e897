import json
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

CHOSEN = "document.querySelectorAll('#route-tree .chosen, #route-levels .chosen').length"


@pytest.fixture(scope="module")
def url(html: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(html, encoding="utf-8")
    return file.as_uri()


def draw_everything(browser: Any) -> None:
    """Open every tab and stop at every chart, so that each is drawn."""
    browser.evaluate(
        """(async () => {
          for (const panel of document.querySelectorAll('[role=tabpanel]')) panel.hidden = false;
          for (const chart of document.querySelectorAll('[data-figure]')) {
            chart.scrollIntoView({behavior: 'instant'});
            while (!('drawn' in chart.dataset)) await new Promise((go) => setTimeout(go, 20));
          }
        })()"""
    )


def test_the_page_draws_everything_without_a_complaint_or_a_request(browser: Any, url: str) -> None:
    browser.open(url)
    draw_everything(browser)
    assert browser.complaints == []
    assert url in browser.addresses
    assert {address.split(":")[0] for address in browser.addresses} <= {"file", "data", "blob"}
    assert browser.evaluate("document.querySelectorAll('.main-svg').length") >= 8


def position(browser: Any) -> float:
    return float(browser.evaluate("document.getElementById('compare').ariaValueNow"))


def box(browser: Any) -> tuple[float, float, float]:
    """Left, width and middle height of the picture in the window."""
    return tuple(
        browser.evaluate(
            "(() => { const frame = document.getElementById('compare');"
            "frame.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = frame.getBoundingClientRect();"
            "return [b.left, b.width, b.top + b.height / 2]; })()"
        )
    )


def test_the_line_follows_the_mouse_while_it_is_held(browser: Any, url: str) -> None:
    browser.open(url)
    left, width, y = box(browser)
    assert position(browser) == 50
    browser.mouse("mousePressed", left + 0.5 * width, y)
    browser.mouse("mouseMoved", left + 0.75 * width, y)
    assert position(browser) == pytest.approx(75, abs=1)
    browser.mouse("mouseMoved", left + 2 * width, y)
    assert position(browser) == 100
    browser.mouse("mouseReleased", left + 0.25 * width, y)
    browser.mouse("mouseMoved", left + 0.4 * width, y)
    assert position(browser) != pytest.approx(40, abs=1)


def test_the_line_follows_a_finger(browser: Any, url: str) -> None:
    browser.open(url, width=390, height=844)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    left, width, y = box(browser)
    for kind, share in (("touchStart", 0.5), ("touchMove", 0.4), ("touchMove", 0.2)):
        points = [{"x": left + share * width, "y": y}]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert position(browser) == pytest.approx(20, abs=1)


def test_the_line_moves_by_the_keyboard(browser: Any, url: str) -> None:
    browser.open(url)
    browser.evaluate("document.getElementById('compare').focus()")
    for key, expected in (("ArrowRight", 52), ("PageDown", 42), ("End", 100), ("Home", 0)):
        browser.press(key)
        assert position(browser) == expected


def test_another_example_shows_its_pictures_and_its_route(browser: Any, url: str) -> None:
    browser.open(url)
    first = browser.evaluate("document.getElementById('left-image').src")
    browser.evaluate("document.querySelectorAll('.thumb')[2].click()")
    assert browser.evaluate("document.getElementById('left-image').src") != first
    assert browser.evaluate("document.getElementById('route-title').textContent") == "medium noise"
    sentence = browser.evaluate("document.getElementById('route-sentence').textContent")
    assert sentence == "Restored by expert #6 (noise) at level 2, with confidence 92 %."
    assert browser.evaluate("document.getElementById('left-tag').textContent") == "input20.30 dB"


def test_a_picture_that_is_left_as_it_is_says_so(browser: Any, url: str) -> None:
    browser.open(url)
    assert browser.evaluate(CHOSEN) == 2  # a leaf and a level
    browser.evaluate("document.querySelectorAll('.thumb')[6].click()")
    sentence = browser.evaluate("document.getElementById('route-sentence').textContent")
    assert sentence == "Left as it is, with confidence 92 %."
    assert browser.evaluate(CHOSEN) == 0


def test_one_network_and_the_clean_image_can_be_chosen(browser: Any, url: str) -> None:
    browser.open(url)
    for side, place in (("left", 1), ("right", 2)):
        browser.evaluate(f"document.querySelectorAll('#{side}-choice button')[{place}].click()")
    left, right = (f"document.getElementById('{side}-image').alt" for side in ("left", "right"))
    assert browser.evaluate(left).endswith("one network")
    assert browser.evaluate(right).endswith("clean")


def test_tabs_are_walked_by_arrow_keys(browser: Any, url: str) -> None:
    browser.open(url)
    browser.evaluate("document.getElementById('results-tabs-0').focus()")
    browser.press("ArrowLeft")
    assert browser.evaluate("document.activeElement.id") == "results-tabs-3"
    hidden = "[...document.querySelectorAll('[role=tabpanel]')].map((panel) => panel.hidden)"
    assert browser.evaluate(hidden) == [True, True, True, False]


def test_the_page_and_its_charts_follow_the_colour_scheme(browser: Any, url: str) -> None:
    browser.open(url)
    draw_everything(browser)
    page = "getComputedStyle(document.body).backgroundColor"
    bar = "document.querySelector('[data-figure=timeline] .point path').style.fill"
    light = (browser.evaluate(page), browser.evaluate(bar))
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", features=dark)
    browser.until(f"{bar} !== {json.dumps(light[1])}")
    assert browser.evaluate(page) != light[0]


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_width_makes_the_page_scroll_sideways(browser: Any, url: str, width: int) -> None:
    browser.open(url, width=width, height=900)
    draw_everything(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
