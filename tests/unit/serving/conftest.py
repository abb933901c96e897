"""A served bundle, asked without a socket, or by its page in a browser."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from skimage import data

from expertree.images.io import encode_png
from expertree.restorer import Restorer
from expertree.serving import HttpConfig, LocalEngine, create_app
from pages import served


class Asker:
    """Asks an application, each time as a client of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, path, **request)

        return asyncio.run(send())

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def problem(self, response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
        """The problem that a response must be."""
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        content = response.json()
        assert content["type"] == f"/docs#{kind}"
        assert content["status"] == status
        assert content["detail"].endswith((".", "!", "?"))
        assert content["request_id"] == response.headers["x-request-id"]
        return content


@pytest.fixture(scope="session")
def asker() -> type[Asker]:
    return Asker


@pytest.fixture(scope="session")
def restorer(bundle_path: Path) -> Restorer:
    return Restorer.load(bundle_path)


@pytest.fixture
def ask(restorer: Restorer) -> Asker:
    """Asks the application as a laptop serves it."""
    return Asker(create_app(LocalEngine(restorer, model_id="tiny"), HttpConfig()))


@pytest.fixture
def ask_with(restorer: Restorer) -> Callable[..., Asker]:
    """Asks an application with a configuration of its own."""

    def make(config: HttpConfig, **parts: Any) -> Asker:
        return Asker(create_app(LocalEngine(restorer), config, **parts))

    return make


@pytest.fixture(scope="session")
def careful(careful_bundle_path: Path) -> Restorer:
    """What leaves some images as they are."""
    return Restorer.load(careful_bundle_path)


@pytest.fixture
def ask_careful(careful: Restorer) -> Asker:
    """Asks an application that leaves some images as they are."""
    return Asker(create_app(LocalEngine(careful, model_id="careful"), HttpConfig()))


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def png(photo: np.ndarray) -> bytes:
    return encode_png(photo)


@pytest.fixture(scope="session")
def cat() -> np.ndarray:
    return data.chelsea()[60:200, 100:280]


@pytest.fixture(scope="module")
def endpoint(restorer: Restorer) -> Iterator[str]:
    """The address of the small bundle's endpoint."""
    with served(LocalEngine(restorer), HttpConfig()) as url:
        yield url


@pytest.fixture
def page(browser: Any, endpoint: str) -> Any:
    """The browser with the page open and the model known."""
    browser.open(endpoint)
    calm = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.call("Emulation.setEmulatedMedia", features=calm)
    browser.evaluate("localStorage.clear(); sessionStorage.clear()")
    browser.until("document.querySelector('#names input')")
    return browser
