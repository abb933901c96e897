"""The small bundle, opened."""

from pathlib import Path

import pytest

from expertree import Restorer


@pytest.fixture(scope="module")
def restorer(bundle_path: Path) -> Restorer:
    return Restorer.load(bundle_path)
