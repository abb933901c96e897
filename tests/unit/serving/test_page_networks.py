"""The page of one network without a tree, and of networks that are told words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest

from expertree import Restorer
from expertree.images.io import encode_png
from expertree.images.photo_file import read_photo, write_photo
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
    settle,
    take,
    text,
)
from told import SLER, single, told_restorer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


def test_one_network_is_shown_without_a_tree_and_with_what_its_layers_chose(
    page: Any, parts: Any, tmp_path: Path, cat: np.ndarray
) -> None:
    restorer = told_restorer(single(parts, tmp_path), tmp_path, SLER)
    with served(LocalEngine(restorer), HttpConfig()) as url:
        page.open(url)
        page.until("document.querySelector('#names input')")
        assert not is_shown(page, "#tree")
        assert text(page, "#card-title") == "One network"
        take(page, encode_png(cat), "cat.png")
        assert [is_shown(page, own) for own in ("#tree", "#choices", "#layers")] == [
            False,
            False,
            True,
        ]
        assert page.evaluate("document.querySelectorAll('#layer-map rect.taken').length") == 8
        assert np.array_equal(pixels(page, "after"), restorer.restore(cat).image)
        assert page.complaints == []


def test_words_are_asked_for_where_networks_are_told_them(
    page: Any, told_bundle: Callable[[str], Path], cat: np.ndarray
) -> None:
    restorer, words = Restorer.load(told_bundle("instructir")), "take the rain off, please"
    with served(LocalEngine(restorer), HttpConfig()) as url:
        page.open(url)
        page.until("document.querySelector('#names input')")
        take(page, encode_png(cat), "cat.png")
        assert is_shown(page, "#text")
        assert not is_shown(page, "#layers")
        page.evaluate(f"document.getElementById('text').value = {json.dumps(words)}")
        page.evaluate("document.getElementById('instruct').requestSubmit()")
        settle(page)
        expected = restorer.restore(cat, Wish(words=words)).image
        assert np.array_equal(pixels(page, "after"), expected)


def test_the_download_is_told_the_words_that_the_screen_was_told(
    page: Any, told_bundle: Callable[[str], Path], cat: np.ndarray, tmp_path: Path
) -> None:
    restorer, words = Restorer.load(told_bundle("instructir")), "take the rain off, please"
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    _, jpeg = cv2.imencode(".jpg", cat[..., ::-1])
    with served(LocalEngine(restorer), HttpConfig()) as url:
        page.open(url)
        page.until("document.querySelector('#names input')")
        take(page, jpeg.tobytes(), "cat.jpg", "image/jpeg")
        page.evaluate(f"document.getElementById('text').value = {json.dumps(words)}")
        page.evaluate("document.getElementById('confidence').value = '2'")
        page.evaluate("document.getElementById('instruct').requestSubmit()")
        settle(page)
        click(page, "#download")
        found = downloaded(tmp_path / "restored-cat.jpg")
        query = parse_qs(urlsplit(asked(page)[-1]).query)
        expert = expert_on_screen(page)
    assert query == {"instruction": [words], "confidence": ["2"], "expert": [str(expert)]}
    photo = read_photo(jpeg.tobytes(), max_pixels=None)
    told = restorer.restore(photo.tensor(), Wish(words=words, expert=expert)).image
    assert found == write_photo(photo, told)
