import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Browser:
    """A headless Chromium with one page, driven by its own protocol over two pipes."""

    def __init__(self, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Chromium reads commands from descriptor 3 and writes answers to 4; the shell puts ours
        # there in a way that does not collide, whatever numbers they have here.
        script = 'exec 8<&"$0" 9>&"$1"; shift; exec "$@" 3<&8 4>&9 8<&- 9>&-'
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, str(to_browser), str(from_browser), *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def evaluate(self, expression: str) -> Any:
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, url: str, *, width: int = 1200, height: int = 900) -> None:
        self.events.clear()
        self.call("Emulation.setEmulatedMedia", features=[])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def until(self, condition: str) -> None:
        self.evaluate(
            "new Promise((resolve, reject) => { let turns = 0; const look = () => {"
            f"if ({condition}) resolve(true);"
            "else if (++turns > 400) reject(new Error('never so'));"
            "else setTimeout(look, 50); }; look(); })"
        )

    def mouse(self, kind: str, x: float, y: float) -> None:
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
        )

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._read, 1 << 16)
            assert data, "the browser went away"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def url(html: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(html, encoding="utf-8")
    return file.as_uri()


def draw_everything(browser: Browser) -> None:
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


def test_the_page_draws_everything_without_a_complaint_or_a_request(
    browser: Browser, url: str
) -> None:
    browser.open(url)
    draw_everything(browser)
    complaints = [
        event
        for event in browser.events
        if event["method"] in {"Runtime.exceptionThrown", "Log.entryAdded"}
        or (
            event["method"] == "Runtime.consoleAPICalled"
            and event["params"]["type"] in {"error", "warning"}
        )
    ]
    assert complaints == []
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert url in asked
    assert {address.split(":")[0] for address in asked} <= {"file", "data", "blob"}
    assert browser.evaluate("document.querySelectorAll('.main-svg').length") >= 8


def position(browser: Browser) -> float:
    return float(browser.evaluate("document.getElementById('compare').ariaValueNow"))


def box(browser: Browser) -> tuple[float, float, float]:
    """Left, width and middle height of the picture in the window."""
    return tuple(
        browser.evaluate(
            "(() => { const frame = document.getElementById('compare');"
            "frame.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = frame.getBoundingClientRect();"
            "return [b.left, b.width, b.top + b.height / 2]; })()"
        )
    )


def test_the_line_follows_the_mouse_while_it_is_held(browser: Browser, url: str) -> None:
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


def test_the_line_follows_a_finger(browser: Browser, url: str) -> None:
    browser.open(url, width=390, height=844)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
    left, width, y = box(browser)
    for kind, share in (("touchStart", 0.5), ("touchMove", 0.4), ("touchMove", 0.2)):
        points = [{"x": left + share * width, "y": y}]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    browser.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert position(browser) == pytest.approx(20, abs=1)


def test_the_line_moves_by_the_keyboard(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.evaluate("document.getElementById('compare').focus()")
    for key, expected in (("ArrowRight", 52), ("PageDown", 42), ("End", 100), ("Home", 0)):
        browser.press(key)
        assert position(browser) == expected


def test_another_example_shows_its_pictures_and_its_route(browser: Browser, url: str) -> None:
    browser.open(url)
    first = browser.evaluate("document.getElementById('left-image').src")
    browser.evaluate("document.querySelectorAll('.thumb')[2].click()")
    assert browser.evaluate("document.getElementById('left-image').src") != first
    assert browser.evaluate("document.getElementById('route-title').textContent") == "medium noise"
    sentence = browser.evaluate("document.getElementById('route-sentence').textContent")
    assert sentence == "Restored by expert #6 (noise) at level 2, with confidence 92 %."
    assert browser.evaluate("document.getElementById('left-tag').textContent") == "input20.30 dB"


def test_one_network_and_the_clean_image_can_be_chosen(browser: Browser, url: str) -> None:
    browser.open(url)
    for side, place in (("left", 1), ("right", 2)):
        browser.evaluate(f"document.querySelectorAll('#{side}-choice button')[{place}].click()")
    assert browser.evaluate("document.getElementById('left-image').alt").endswith("one network")
    assert browser.evaluate("document.getElementById('right-image').alt").endswith("clean")


def test_tabs_are_walked_by_arrow_keys(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.evaluate("document.getElementById('results-tabs-0').focus()")
    browser.press("ArrowLeft")
    assert browser.evaluate("document.activeElement.id") == "results-tabs-3"
    hidden = "[...document.querySelectorAll('[role=tabpanel]')].map((panel) => panel.hidden)"
    assert browser.evaluate(hidden) == [True, True, True, False]


def test_the_page_and_its_charts_follow_the_colour_scheme(browser: Browser, url: str) -> None:
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
def test_no_width_makes_the_page_scroll_sideways(browser: Browser, url: str, width: int) -> None:
    browser.open(url, width=width, height=900)
    draw_everything(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
