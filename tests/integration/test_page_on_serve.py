"""The page over several replicas of everything: no request may depend on who answered the last."""

import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from expertree import Restorer
from expertree.images.io import decode_u8, encode_png
from expertree.orchestration.serving.app import serving
from expertree.serving.deployments import (
    GatewayConfig,
    PoolConfig,
    RouterReplicas,
    ServeConfig,
)
from expertree.serving.settings import HttpConfig
from served import free_port, two_bundles

pytestmark = [
    *(pytest.mark.ray, pytest.mark.slow, pytest.mark.browser),
    pytest.mark.timeout(600),
]

TWO = {"min_replicas": 2, "max_replicas": 2, "num_cpus": 0.1}


def wait_for_both(url: str) -> None:
    """Wait until no gateway says any more that its model is loading."""
    in_a_row, deadline_s = 0, time.monotonic() + 60
    while in_a_row < 10:
        assert time.monotonic() < deadline_s
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=10):
                in_a_row += 1
        except urllib.error.HTTPError:
            in_a_row = 0
            time.sleep(0.2)


def restored(page: Any) -> np.ndarray:
    page.until("['done', 'failed'].includes(document.body.dataset.state)")
    assert page.evaluate("document.getElementById('error').hidden")
    return decode_u8(page.file_behind("after"))


def test_a_page_over_two_gateways_shows_what_the_restorer_makes(
    browser: Any, tmp_path: Path
) -> None:
    bundle, _ = two_bundles(tmp_path)
    config = ServeConfig(
        bundle=bundle,
        http=HttpConfig(port=free_port()),
        num_cores=1,
        gateway=GatewayConfig(**TWO),
        router=RouterReplicas(**TWO),
        pools=(PoolConfig(**TWO),),
    )
    restorer = Restorer.load(bundle)
    cat = data.chelsea()
    with serving(config) as running:
        wait_for_both(running.url)
        browser.open(f"{running.url}/")
        browser.until("document.querySelector('#names input')")
        for left_px in range(0, 120, 20):
            photo = np.ascontiguousarray(cat[40:140, left_px : left_px + 160])
            browser.drop(encode_png(photo), f"cat-{left_px}.png", "image/png")
            assert np.array_equal(restored(browser), restorer.restore(photo).image)
        large = cv2.resize(cat, (1510, 1000), interpolation=cv2.INTER_CUBIC)
        browser.drop(encode_png(large), "large.png", "image/png")
        assert np.array_equal(restored(browser), restorer.restore(large).image)
        assert browser.complaints == []
