"""The endpoint with its page, in this process, for a browser."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn

from expertree.serving import HttpConfig, LocalEngine, create_app


@contextlib.contextmanager
def served(engine: LocalEngine, config: HttpConfig) -> Iterator[str]:
    """The address of an engine that answers on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        app = create_app(engine, config)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join(timeout=20)
