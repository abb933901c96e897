"""An HTTP client of a served application, which keeps one connection."""

import dataclasses
import http.client
from email.message import Message
from typing import Self
from urllib.parse import urlsplit


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to a request.

    Attributes:
        status: The HTTP status.
        headers: Headers by name, in upper or lower case.
        body: The whole body.
    """

    status: int
    headers: Message
    body: bytes


class Client:
    """A client that sends one request after the other; a context manager, for its connection.

    Args:
        url: URL of the application.
        timeout_s: Seconds that each answer may take.
    """

    def __init__(self, url: str, *, timeout_s: float = 300.0) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=timeout_s
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send a request, and read the whole answer.

        Args:
            method: HTTP method.
            path: Path with its query.
            body: A PNG, if there is one.

        Raises:
            OSError: If there is no connection, or it broke.
            http.client.HTTPException: If the answer is not HTTP, or is cut off.
        """
        headers = {} if body is None else {"Content-Type": "image/png"}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return Answer(status=response.status, headers=response.headers, body=response.read())
