"""An open page while the endpoint goes over to another bundle: nothing breaks or is mislabelled."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from expertree.images.io import encode_png
from expertree.restorer import Restorer
from expertree.serving import HttpConfig, LocalEngine
from expertree.storage import Storage
from pages import click, downloaded, expert_on_screen, is_shown, pixels, served, settle, take, text
from told import single

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


class Updated:
    """An engine that answers by one bundle, and by another once it is told so."""

    def __init__(self, *restorers: Restorer) -> None:
        self.engines = [LocalEngine(restorer) for restorer in restorers]
        self.at = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engines[self.at], name)


@pytest.fixture(scope="module")
def alone(parts: Any, tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    """One network without a tree."""
    folder = tmp_path_factory.mktemp("alone")
    single(parts, folder).write(Storage.open(folder / "bundle"))
    return Restorer.load(folder / "bundle")


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Updated]]:
    """Opens the page of an endpoint that goes from one bundle to another."""
    stack: list[Any] = []

    def open_page(*restorers: Restorer) -> Updated:
        engine = Updated(*restorers)
        stack.append(served(engine, HttpConfig()))  # type: ignore[arg-type]
        browser.open(stack[-1].__enter__())
        browser.until("document.querySelector('#names input')")
        return engine

    yield open_page
    for own in stack:
        own.__exit__(None, None, None)


def press(page: Any, expert: int) -> None:
    page.evaluate(f"document.querySelector('[data-expert=\"{expert}\"]').click()")
    page.until("document.body.dataset.state === 'done'")


def test_an_expert_that_is_there_no_more_gives_way_to_the_new_choice(
    opened: Any, browser: Any, restorer: Restorer, alone: Restorer, cat: np.ndarray
) -> None:
    engine = opened(restorer, alone)
    take(browser, encode_png(cat), "cat.png")
    engine.at = 1
    other = next(
        node for node in restorer.tree.experts() if node not in {0, expert_on_screen(browser)}
    )
    click(browser, "#more-experts")
    press(browser, other)
    assert np.array_equal(pixels(browser, "after"), alone.restore(cat).image)
    assert not is_shown(browser, "#tree")
    assert not is_shown(browser, "#choices")
    assert text(browser, "#model").startswith("one network")
    engine.at = 0
    click(browser, "#instruct button[type=submit]")
    settle(browser)
    assert np.array_equal(pixels(browser, "after"), restorer.restore(cat).image)
    assert is_shown(browser, "#tree")
    assert expert_on_screen(browser) == restorer.route(cat).expert
    assert text(browser, "#about").startswith("Noise, blur")
    assert "A router" in text(browser, "#about")


def test_an_expert_of_the_same_number_is_not_taken_for_the_old_one(
    opened: Any,
    browser: Any,
    restorer: Restorer,
    careful: Restorer,
    two_kinds: tuple[np.ndarray, np.ndarray],
) -> None:
    spoiled = two_kinds[0]
    engine = opened(restorer, careful)
    take(browser, encode_png(spoiled), "a.png")
    first = expert_on_screen(browser)
    wanted = careful.restore(spoiled)
    other = next(
        node for node in restorer.tree.experts() if node not in {first, wanted.route.expert}
    )
    engine.at = 1
    click(browser, "#more-experts")
    press(browser, other)
    assert expert_on_screen(browser) == wanted.route.expert
    assert np.array_equal(pixels(browser, "after"), wanted.image)
    assert "the router's choice" in text(browser, "#experts [aria-pressed=true]")


def test_no_file_of_another_model_is_taken_away_under_the_old_ones_name(
    opened: Any, browser: Any, restorer: Restorer, alone: Restorer, cat: np.ndarray, tmp_path: Path
) -> None:
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    engine = opened(restorer, alone)
    _, encoded = cv2.imencode(".jpg", cat[..., ::-1])
    take(browser, encoded.tobytes(), "cat.jpg", "image/jpeg")
    click(browser, "[data-expert='0']")
    settle(browser)
    engine.at = 1
    click(browser, "#download")
    browser.until("document.body.dataset.state === 'failed'")
    assert text(browser, "#error-title") == "Another model has taken over"
    click(browser, "#again")
    browser.until("document.body.dataset.state === 'done'")
    assert not is_shown(browser, "#tree")
    click(browser, "#download")
    assert downloaded(tmp_path / "restored-cat.jpg")[:2] == b"\xff\xd8"


def test_photos_of_the_tray_are_told_by_the_model_that_restored_them(
    opened: Any, browser: Any, restorer: Restorer, alone: Restorer, cat: np.ndarray, tmp_path: Path
) -> None:
    engine = opened(alone, restorer)
    engine.at = 1
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode_png(cat))
    browser.drop_paths(tmp_path / "a.png", tmp_path / "b.png")
    photos = "[...document.querySelectorAll('#tray-photos button')]"
    browser.until(f"{photos}.filter((own) => own.dataset.photo === 'restored').length === 2")
    words = browser.evaluate(f"{photos}.map((own) => own.lastElementChild.textContent)")
    assert [own.startswith("expert for ") for own in words] == [True, True]
