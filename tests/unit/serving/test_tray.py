"""Several photos on the page: chosen, dropped as files and as folders, taken away in one file."""

import contextlib
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from expertree.images.io import decode_u8, encode_png
from expertree.restorer import Restorer
from expertree.serving import HttpConfig, LocalEngine
from pages import Held, served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

PHOTOS = "[...document.querySelectorAll('#tray-photos button')]"
DONE = f"{PHOTOS}.length && {PHOTOS}.every((own) => !/waiting|working/.test(own.dataset.photo))"


@pytest.fixture(scope="module")
def endpoint(careful: Restorer) -> Iterator[str]:
    with served(LocalEngine(careful), HttpConfig()) as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path, two_kinds: tuple[np.ndarray, np.ndarray]) -> Path:
    """A folder as people have them, below one that says where it comes from."""
    spoiled, good = two_kinds
    place = tmp_path / "holiday"
    (place / "first day").mkdir(parents=True)
    (place / ".thumbnails").mkdir()
    (place / "a.png").write_bytes(encode_png(spoiled))
    (place / "good.png").write_bytes(encode_png(good))
    (place / "broken.png").write_bytes(encode_png(spoiled)[:300])
    cv2.imwrite(str(place / "first day" / "b.jpg"), data.chelsea()[60:160, 100:220, ::-1])
    (place / "first day" / "a.png").write_bytes(encode_png(spoiled[::-1].copy()))
    (place / "film.mov").write_bytes(b"a film")
    (place / "notes.txt").write_text("notes")
    (place / ".thumbnails" / "a.png").write_bytes(encode_png(good))
    return place


def text(page: Any, selector: str) -> str:
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def click(page: Any, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def states(page: Any) -> dict[str, str]:
    """What became of each photo, by its path."""
    found = page.evaluate(f"{PHOTOS}.map((own) => [own.title.split(':')[0], own.dataset.photo])")
    return dict(found)


def downloaded(path: Path) -> zipfile.ZipFile:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return zipfile.ZipFile(path)


PATHS = {
    "holiday/a.png": "restored",
    "holiday/broken.png": "failed",
    "holiday/good.png": "left",
    "holiday/first day/a.png": "restored",
}


@pytest.mark.parametrize("is_dropped", [True, False])
def test_a_folder_is_restored_and_taken_away_in_one_file(
    page: Any, folder: Path, tmp_path: Path, careful: Restorer, is_dropped: bool
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    if is_dropped:
        page.drop_paths(folder)
    else:
        page.choose("#folder", folder)
    page.until(DONE)
    found = states(page)
    assert found.items() >= PATHS.items()
    assert found.keys() == {*PATHS, "holiday/first day/b.jpg"}
    assert text(page, "#left-out") == "2 other files were left out (.mov and .txt)."
    assert "1 failed" in text(page, "#tray-lead")
    assert text(page, "#tray-download") == "Download 4 of 5 as ZIP"
    click(page, "#tray-download")
    with downloaded(tmp_path / "restored.zip") as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == found.keys() - {"holiday/broken.png"}
        assert archive.read("holiday/good.png") == (folder / "good.png").read_bytes()
        spoiled = decode_u8((folder / "a.png").read_bytes())
        expected = careful.restore(spoiled).image
        np.testing.assert_array_equal(decode_u8(archive.read("holiday/a.png")), expected)
        assert archive.read("holiday/first day/b.jpg")[:2] == b"\xff\xd8"
        then = time.localtime((folder / "a.png").stat().st_mtime)
        assert archive.getinfo("holiday/a.png").date_time[:5] == then[:5]
    assert page.complaints == []


def test_one_that_is_opened_is_shown_as_ever_and_more_can_come(
    page: Any, folder: Path, tmp_path: Path, careful: Restorer
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.drop_paths(folder / "a.png", folder / "good.png")
    page.until(DONE)
    assert not page.evaluate("document.getElementById('viewer').checkVisibility()")
    click(page, "#tray-photos button")
    page.until("document.body.dataset.state === 'done'")
    expected = careful.restore(decode_u8((folder / "a.png").read_bytes())).image
    np.testing.assert_array_equal(decode_u8(page.file_behind("after")), expected)
    assert page.evaluate(f"{PHOTOS}.map((own) => own.ariaPressed)") == ["true", "false"]
    page.drop_paths(folder / "first day" / "a.png")
    page.until(f"{PHOTOS}.length === 3 && {DONE}")
    assert page.evaluate("document.getElementById('viewer').checkVisibility()")
    click(page, "#tray-download")
    with downloaded(tmp_path / "restored.zip") as archive:
        assert archive.namelist() == ["a.png", "good.png", "a (2).png"]


def test_on_a_phone_nothing_is_wider_than_the_screen(
    page: Any, folder: Path, endpoint: str
) -> None:
    page.open(endpoint, width=390, height=844)
    page.until("document.querySelector('#names input')")
    page.choose("#file", *sorted(folder.glob("*.png")))
    page.until(DONE)
    assert len(states(page)) == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_folder_without_photos_is_said_to_have_none(page: Any, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    page.drop_paths(tmp_path / "texts")
    page.until("document.getElementById('left-out').checkVisibility()")
    said = text(page, "#left-out")
    assert said == "One other file was left out (.txt). There was no photo among them."
    assert page.evaluate("document.body.dataset.state") == "empty"


def test_it_can_be_stopped_and_goes_on(browser: Any, folder: Path, careful: Restorer) -> None:
    engine = Held(careful)
    with served(engine, HttpConfig()) as url, contextlib.ExitStack() as stack:
        stack.callback(engine.may.set)
        browser.open(url)
        browser.until("document.querySelector('#names input')")
        browser.drop_paths(folder / "a.png", folder / "good.png")
        browser.until(f"{PHOTOS}.some((own) => own.dataset.photo === 'working')")
        click(browser, "#tray-stop")
        browser.until(f"{PHOTOS}.every((own) => own.dataset.photo === 'waiting')")
        browser.until("document.getElementById('tray-stop').textContent === 'Go on'")
        engine.may.set()
        click(browser, "#tray-stop")
        browser.until(DONE)
        assert text(browser, "#tray-lead").startswith("1 restored, 1 better left as it is.")
