"""A page that is left, or stopped, leaves no job on the endpoint."""

import time
from collections.abc import Iterator
from typing import Any

import cv2
import pytest
from skimage import data

from expertree.images.io import encode_png
from expertree.restorer import Restorer
from expertree.serving import HttpConfig, JobLimits
from expertree.serving.jobs import JobTable, LocalJobs
from pages import Held, click, served

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


@pytest.fixture
def table() -> JobTable:
    return JobTable(JobLimits())


@pytest.fixture
def held(browser: Any, restorer: Restorer, table: JobTable) -> Iterator[Any]:
    """The page while it waits for a large photo."""
    engine = Held(restorer)
    with served(engine, HttpConfig(), jobs=LocalJobs(table)) as url:
        browser.open(url)
        browser.until("document.querySelector('#names input')")
        large = cv2.resize(data.chelsea(), (1510, 1000), interpolation=cv2.INTER_CUBIC)
        browser.drop(encode_png(large), "large.png", "image/png")
        until(lambda: len(table._jobs) == 1)
        browser.until(
            "/tile|queue|Restoring/.test(document.getElementById('stage-name').textContent)"
        )
        yield browser
        engine.may.set()


def until(is_so: Any) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_another_page_in_its_place(held: Any, table: JobTable) -> None:
    held.open("about:blank")
    until(lambda: not table._jobs)


def test_cancelled(held: Any, table: JobTable) -> None:
    click(held, "#cancel")
    until(lambda: not table._jobs)
