"""What every test gets: Ray and W&B that are nobody else's, checked signatures, a browser."""

import base64
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from jaxtyping import install_import_hook

from expertree.testing import check_arrays

# Before the first `import ray`, which reads some of them once: clusters of tests have a token of
# their own, never the one in the home directory, and no driver joins a cluster that is running.
# Ray's workers would be the last to run (niceness 15) and stand still beside any busy process.
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "WANDB_MODE": "offline",
}

# How long one example takes says how busy the machine is; pytest's timeout is for what hangs.
hypothesis.settings.register_profile("expertree", deadline=None)
hypothesis.settings.load_profile("expertree")

# Before the first import of these: their functions' arrays are held against their signatures.
# Not orchestration: Ray sends its functions to workers, which know nothing of the hook.
CHECKED = (
    *("images", "degradation", "datasets", "embedding", "hierarchy", "experts", "routing"),
    *("restorer", "evaluation", "classical"),
)
install_import_hook(
    [f"expertree.{name}" for name in CHECKED],
    f"{check_arrays.__module__}.{check_arrays.__name__}",
)

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Browser:
    """A headless Chromium with one page, driven by its own protocol over two pipes."""

    def __init__(self, profile: Path) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Chromium reads commands from descriptor 3 and writes answers to 4; the shell puts ours
        # there in a way that does not collide, whatever numbers they have here.
        script = 'exec 8<&"$0" 9>&"$1"; shift; exec "$@" 3<&8 4>&9 8<&- 9>&-'
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", script, str(to_browser), str(from_browser), *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def evaluate(self, expression: str) -> Any:
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, url: str, *, width: int = 1200, height: int = 900) -> None:
        self.events.clear()
        self.call("Emulation.setEmulatedMedia", features=[])
        self._size(width, height, mobile=width < 600)
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def resize(self, width: int, height: int) -> None:
        """Change the window, and wait until the page has been laid out anew and told of it."""
        self._size(width, height, mobile=False)
        self.until(f"innerWidth === {width}")
        self.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def _size(self, width: int, height: int, *, mobile: bool) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def until(self, condition: str) -> None:
        self.evaluate(
            "new Promise((resolve, reject) => { let turns = 0; const look = () => {"
            f"if ({condition}) resolve(true);"
            "else if (++turns > 400) reject(new Error('never so'));"
            "else setTimeout(look, 50); }; look(); })"
        )

    def mouse(self, kind: str, x: float, y: float) -> None:
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1
        )

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """Exceptions, errors and warnings since the page was opened."""
        return [
            event
            for event in self.events
            if event["method"] in {"Runtime.exceptionThrown", "Log.entryAdded"}
            or (
                event["method"] == "Runtime.consoleAPICalled"
                and event["params"]["type"] in {"error", "warning"}
            )
        ]

    @property
    def addresses(self) -> list[str]:
        """What was asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def drop(self, file: bytes, name: str, kind: str) -> None:
        """Drop a file on the page."""
        arguments = ", ".join(map(json.dumps, (base64.b64encode(file).decode(), name, kind)))
        self.evaluate(
            "((base64, name, type) => {"
            "const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));"
            "const transfer = new DataTransfer();"
            "transfer.items.add(new File([bytes], name, {type}));"
            "dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, cancelable: true})); })"
            f"({arguments})"
        )

    def drop_paths(self, *paths: Path) -> None:
        """Drag files and folders of this machine onto the page, as a file manager does."""
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=200, y=300, data=data)

    def choose(self, selector: str, *paths: Path) -> None:
        """Choose files, or a folder, in an input of the page."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def file_behind(self, image: str) -> bytes:
        """The file that an image of the page shows, by the image's id."""
        address = self.evaluate(
            f"fetch(document.getElementById('{image}').src).then((answer) => answer.blob())"
            ".then((blob) => new Promise((done) => { const reader = new FileReader();"
            "reader.onload = () => done(reader.result); reader.readAsDataURL(blob); }))"
        )
        return base64.b64decode(address.partition(",")[2])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._read, 1 << 16)
            assert data, "the browser went away"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests that look at pages; skips them where none is installed."""
    if CHROMIUM is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
