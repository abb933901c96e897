"""A made-up run: numbers of a plausible size, photographs that are real."""

import pytest

from expertree.report import Run, render_report
from made_up_photographs import made_up_images
from made_up_run import made_up_run


@pytest.fixture(scope="session")
def images() -> dict[str, bytes]:
    return made_up_images()


@pytest.fixture
def run() -> Run:
    return made_up_run()


@pytest.fixture(scope="session")
def html(images: dict[str, bytes]) -> str:
    return render_report(made_up_run(), images)["report.html"].decode()
