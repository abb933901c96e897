"""The example client against a real server."""

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from expertree.images.io import decode_u8, encode_png
from expertree.restorer import Restorer
from expertree.routing import Wish
from expertree.serving import HttpConfig, LocalEngine
from pages import served

CLIENT = Path(__file__).parents[3] / "serve" / "client.py"


@pytest.fixture(scope="module")
def client() -> ModuleType:
    spec = importlib.util.spec_from_file_location("client", CLIENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def url(restorer: Restorer) -> Iterator[str]:
    """Where a server listens, with room for one request in work and one that waits."""
    with served(LocalEngine(restorer, max_queued=1), HttpConfig()) as address:
        yield address.removesuffix("/")


def test_it_restores_and_says_the_route(
    client: ModuleType, url: str, restorer: Restorer, photo: np.ndarray, png: bytes
) -> None:
    restored, route = client.Endpoint(url).restore(png, {"expert": "0"})
    assert np.array_equal(decode_u8(restored), restorer.restore(photo, Wish(expert=0)).image)
    assert route.startswith("expert=0, ")


def test_it_follows_a_job_to_its_file(
    client: ModuleType, url: str, restorer: Restorer, photo: np.ndarray
) -> None:
    large = cv2.resize(photo, (300, 200))
    job = client.Endpoint(url).restore_as_job(encode_png(large), {"tile": "128"}, "a-key")
    *_, last = job
    expected = restorer.restore(large, Wish(tile_px=128)).image
    assert np.array_equal(decode_u8(last["file"]), expected)


def test_it_says_what_the_endpoint_says_is_wrong(client: ModuleType, url: str) -> None:
    with pytest.raises(RuntimeError, match="not an image"):
        client.Endpoint(url).restore(b"no image", {})


def test_it_comes_back_where_the_endpoint_is_busy(client: ModuleType, url: str, png: bytes) -> None:
    answers = []

    def ask() -> None:
        answers.append(client.Endpoint(url).restore(png, {}))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(answers) == 6
