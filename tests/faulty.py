"""A server that speaks S3, and a proxy before it that answers some requests as bad days do."""

import http.client
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["busy", "cut"] | None
"""`busy` is a 503 before anything was done, `cut` an answer whose second half does not come."""

BUCKET = "bucket"

_OWN_HEADERS = {"connection", "transfer-encoding", "keep-alive", "server", "date"}


class FaultyProxy:
    """Passes requests on to a server; `fault_of` gets the number and the method of each."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.fault_of: Callable[[int, str], Fault] = lambda _number, _method: None
        self.faults: list[Fault] = []
        self.numbers = itertools.count()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def num_busy(self) -> int:
        return self.faults.count("busy")

    @property
    def num_cut(self) -> int:
        return self.faults.count("cut")

    def start(self) -> None:
        """Listen, on the same port as before."""
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def uri(self, path: str) -> str:
        return (
            f"s3://{BUCKET}/{path}?region=us-east-1&endpoint_override=http://127.0.0.1:{self.port}"
        )


class _Handler(BaseHTTPRequestHandler):
    """Reads a whole request, asks the server, and gives its answer, or a part of it."""

    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def log_message(self, *_: object) -> None:
        pass

    def _pass_on(self) -> None:
        body = self._body()
        fault = self.proxy.fault_of(next(self.proxy.numbers), self.command)
        self.close_connection = True  # so that no connection outlives `stop`
        if fault == "busy":
            self.proxy.faults.append(fault)
            self._answer(503, [], b"")
            return
        link = http.client.HTTPConnection("127.0.0.1", self.proxy.target_port, timeout=20)
        link.request(self.command, self.path, body, dict(self.headers.items()))
        answer = link.getresponse()
        data = answer.read()
        link.close()
        if fault == "cut" and len(data) > 1:
            self.proxy.faults.append(fault)
            self._answer(answer.status, answer.getheaders(), data, num_sent=len(data) // 2)
            return
        self._answer(answer.status, answer.getheaders(), data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        del self.headers["Transfer-Encoding"]
        return b"".join(parts)

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        data: bytes,
        *,
        num_sent: int | None = None,
    ) -> None:
        self.send_response(status)
        given = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        if "content-length" not in given:
            self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:num_sent])


@contextmanager
def s3_server() -> Iterator[FaultyProxy]:
    """Start a server with one bucket, behind a proxy without faults."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - seconds

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    link = http.client.HTTPConnection("127.0.0.1", port)
    link.request("PUT", f"/{BUCKET}", headers={"Host": "s3.amazonaws.com"})
    assert link.getresponse().status == 200
    proxy = FaultyProxy(port)
    yield proxy
    proxy.stop()
    server.stop()
