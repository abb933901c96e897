"""The page of one network without a tree, and of networks that are told words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expertree import Restorer
from expertree.images.io import encode_png
from expertree.routing import Wish
from expertree.serving import HttpConfig, LocalEngine
from pages import is_shown, pixels, served, settle, take, text
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
