"""Whoever comes by the keyboard, or listens to the page, keeps the place in it."""

from typing import Any

import numpy as np
import pytest

from expertree.images.io import encode_png
from expertree.restorer import Restorer
from expertree.serving import HttpConfig, LocalEngine
from pages import click, expert_on_screen, served, settle, take

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

FOCUSED = "document.activeElement.dataset.expert"
BUSY = "document.getElementById('card').ariaBusy"


def press(page: Any, selector: str) -> None:
    """Come to something by the keyboard, and press it."""
    page.evaluate(f'document.querySelector("{selector}").focus()')
    click(page, selector)


def test_the_focus_stays_on_the_expert_that_was_chosen(
    page: Any, restorer: Restorer, cat: np.ndarray
) -> None:
    take(page, encode_png(cat), "cat.png")
    assert page.evaluate(BUSY) == "false"
    first = expert_on_screen(page)
    other = next(node for node in restorer.tree.experts() if node not in {first, 0})
    click(page, "#more-experts")
    press(page, f"[data-expert='{other}']")
    assert page.evaluate(f"[{FOCUSED}, {BUSY}]") == [str(other), "true"]
    settle(page)
    page.until(f"document.querySelector('[data-expert=\"{other}\"]').ariaPressed === 'true'")
    assert page.evaluate(f"[{FOCUSED}, {BUSY}]") == [str(other), "false"]
    press(page, f"[data-expert='{first}']")
    page.until(f"document.querySelector('[data-expert=\"{first}\"]').ariaPressed === 'true'")
    assert page.evaluate(FOCUSED) == str(first)


def test_while_a_photo_is_restored_no_other_expert_is_begun_with(
    page: Any, restorer: Restorer, cat: np.ndarray
) -> None:
    take(page, encode_png(cat), "cat.png")
    click(page, "#more-experts")
    others = [node for node in restorer.tree.experts() if node != expert_on_screen(page)]
    for node in others[:2]:
        click(page, f"[data-expert='{node}']")
    settle(page)
    page.until(f"document.querySelector('[data-expert=\"{others[0]}\"]').ariaPressed === 'true'")
    assert [url for url in page.addresses if f"expert={others[1]}" in url] == []


def test_the_focus_goes_to_the_photo_where_what_was_pressed_is_hidden(
    browser: Any, careful: Restorer, two_kinds: tuple[np.ndarray, np.ndarray]
) -> None:
    with served(LocalEngine(careful), HttpConfig()) as url:
        browser.open(url)
        browser.until("document.querySelector('#names input')")
        take(browser, encode_png(two_kinds[1]), "good.png")
        press(browser, "#insist")
        assert browser.evaluate("document.activeElement.id") == "work"
        settle(browser)
        assert browser.evaluate("document.activeElement.id") == "work"
