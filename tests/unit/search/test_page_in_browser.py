"""The page of a search as a browser shows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from expertree.search.write import render_search

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

EXAMPLE = Path(__file__).parents[1] / "search" / "example_search.json"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("search") / "search.html"
    file.write_bytes(render_search(json.loads(EXAMPLE.read_text()))["search.html"])
    return file.as_uri()


def kept(browser: Any) -> list[str]:
    """Trials whose rows are not faded, from above to below."""
    return browser.evaluate(
        "[...document.querySelectorAll('tr[data-trial]:not(.out)')].map((row) => row.dataset.trial)"
    )


def test_everything_is_drawn_without_a_complaint_or_a_request(browser: Any, url: str) -> None:
    browser.open(url)
    browser.evaluate(
        """(async () => {
          for (const chart of document.querySelectorAll('[data-figure]')) {
            chart.scrollIntoView({behavior: 'instant'});
            while (!('drawn' in chart.dataset)) await new Promise((go) => setTimeout(go, 20));
          }
        })()"""
    )
    assert browser.complaints == []
    assert {address.split(":")[0] for address in browser.addresses} <= {"file", "data", "blob"}
    assert browser.evaluate("document.querySelectorAll('#parallel path').length") == 9


def test_dragging_along_an_axis_keeps_some_trials_and_a_click_lets_go(
    browser: Any, url: str
) -> None:
    browser.open(url)
    everyone = kept(browser)
    x, top, bottom = browser.evaluate(
        "(() => { const grab = document.querySelector('[data-axis=\"psnr_in\"] .grab');"
        "grab.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const b = grab.getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top, b.bottom]; })()"
    )
    browser.mouse("mousePressed", x, top)
    browser.mouse("mouseMoved", x, top + 0.3 * (bottom - top))
    browser.mouse("mouseReleased", x, top + 0.3 * (bottom - top))
    best = kept(browser)
    assert "6" in best
    assert len(best) < len(everyone)
    assert f"{len(best)} of 9 trials" in browser.evaluate(
        "document.getElementById('kept').textContent"
    )
    browser.mouse("mousePressed", x, bottom - 2)
    browser.mouse("mouseReleased", x, bottom - 2)
    assert kept(browser) == everyone


def test_the_table_is_sorted_by_a_click_on_its_heading(browser: Any, url: str) -> None:
    browser.open(url)
    record = json.loads(EXAMPLE.read_text())
    browser.evaluate("document.querySelector('[data-sort=\"psnr_out\"]').click()")
    psnr = [record["trials"][int(number)]["objectives"]["psnr_out"] for number in kept(browser)]
    assert psnr == sorted(psnr, reverse=True)
    browser.evaluate("document.querySelector('[data-sort=\"psnr_out\"]').click()")
    assert [
        record["trials"][int(number)]["objectives"]["psnr_out"] for number in kept(browser)
    ] == sorted(psnr)


def test_nothing_is_wider_than_a_narrow_window(browser: Any, url: str) -> None:
    browser.open(url, width=390, height=800)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
