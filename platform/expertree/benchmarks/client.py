"""A caller of a served application, who keeps one connection."""

import dataclasses
import http.client
from email.message import Message
from typing import Self
from urllib.parse import urlsplit


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: The HTTP status.
        headers: By name, in any case.
        body: All of it.
    """

    status: int
    headers: Message
    body: bytes


class Client:
    """Asks one question after the other; a context manager, for its connection.

    Args:
        url: Of the application.
        timeout_s: That each answer may take.
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
        """Ask, and read the whole answer.

        Args:
            method: Of HTTP.
            path: With its query.
            body: A PNG, if there is one.

        Raises:
            OSError: If there is no connection, or it broke.
            http.client.HTTPException: If the answer is not HTTP, or is cut off.
        """
        headers = {} if body is None else {"Content-Type": "image/png"}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return Answer(status=response.status, headers=response.headers, body=response.read())
