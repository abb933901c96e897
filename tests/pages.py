"""What a visitor does on the page of an endpoint, and sees there."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from expertree.images.io import decode_u8
from expertree.restorer import Restorer
from expertree.serving import HttpConfig, LocalEngine, create_app


class Held(LocalEngine):
    """Answers when it may."""

    def __init__(self, restorer: Restorer) -> None:
        super().__init__(restorer)
        self.may = threading.Event()

    async def restore(self, *arguments: Any, **more: Any) -> Any:
        while not self.may.is_set():
            await asyncio.sleep(0.02)
        return await super().restore(*arguments, **more)


@contextlib.contextmanager
def served(engine: LocalEngine, config: HttpConfig, **parts: Any) -> Iterator[str]:
    """The address of an engine that answers on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(engine, config, **parts)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join(timeout=20)


def take(page: Any, file: bytes, name: str, kind: str = "image/png") -> None:
    """Drop a file and wait for what becomes of it."""
    page.drop(file, name, kind)
    settle(page)


def settle(page: Any) -> None:
    page.until("['done', 'failed'].includes(document.body.dataset.state)")


def text(page: Any, selector: str) -> str:
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")


def click(page: Any, selector: str) -> None:
    page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


def is_shown(page: Any, selector: str) -> bool:
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).checkVisibility()")


def pixels(page: Any, image: str) -> np.ndarray:
    return decode_u8(page.file_behind(image))


def expert_on_screen(page: Any) -> int:
    return int(text(page, "#experts [aria-pressed=true] small").split()[0].lstrip("#"))


def asked(page: Any) -> list[str]:
    return [url for url in page.addresses if "/v1/re" in url or "/v1/jobs" in url]


def set_strength(page: Any, value: int) -> None:
    page.evaluate(
        f"(() => {{ const own = document.getElementById('strength'); own.value = '{value}';"
        "own.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def downloaded(path: Path) -> bytes:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    data = path.read_bytes()
    path.unlink()
    return data
