"""Middleware that gives every request an id, safe headers and one measurement."""

import contextlib
import dataclasses
import logging
import re
import secrets
import time
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from expertree.serving.engine import Routed
from expertree.serving.http.problems import CLIENT_GONE
from expertree.serving.metrics import Measurement, Metrics
from expertree.serving.photos import RestoredFile

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_NOTE = "measured"
_HELD = "held"

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ImageMeasurement:
    """What a handler adds to the measurement of its request; see `Measurement`."""

    route: Routed
    num_pixels: int
    stages: Mapping[str, float]
    num_retries: int = 0


def measurement_of(file: RestoredFile) -> ImageMeasurement:
    """Return the note on a restoration."""
    return ImageMeasurement(
        route=file.route,
        num_pixels=file.num_pixels,
        stages=file.seconds,
        num_retries=file.num_retries,
    )


def attach_measurement(request: Request, found: ImageMeasurement) -> None:
    """Add a note to a request, for its measurement."""
    request.scope["state"][_NOTE] = found


def response_exit_stack(request: Request) -> contextlib.ExitStack:
    """Return a stack of contexts that stay open until the last byte of the answer is sent."""
    held: contextlib.ExitStack = request.scope["state"][_HELD]
    return held


class HeadMiddleware:
    """Middleware that answers HEAD as GET would be, without the body (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the application, as GET if it is HEAD."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, without_body)


class RequestMiddleware:
    """Middleware that gives each request an id, adds safe headers to its answer and measures it."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics | None = None, *, echoes_id: bool = True
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._echoes_id = echoes_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the application, and measure it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        request_id = _named(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        code = CLIENT_GONE

        async def answer(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                headers = MutableHeaders(scope=message)
                if self._echoes_id:
                    headers.setdefault("X-Request-Id", request_id)
                else:
                    del headers["X-Request-Id"]
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
            await send(message)

        try:
            with contextlib.ExitStack() as scope["state"][_HELD]:
                await self._app(scope, receive, answer)
        except Exception:
            code = 500
            raise
        finally:
            self._measure(scope, code, time.perf_counter() - begin)

    def _measure(self, scope: Scope, code: int, seconds: float) -> None:
        endpoint = getattr(scope.get("route"), "path", "")
        found: ImageMeasurement | None = scope["state"].get(_NOTE)
        _logger.info(
            "%s %s %d %.3f s, request %s",
            scope["method"],
            endpoint or "-",
            code,
            seconds,
            scope["state"]["request_id"],
        )
        if self._metrics is None:
            return
        measurement = Measurement(
            endpoint=endpoint, method=scope["method"], code=code, seconds=seconds
        )
        self._metrics.record(measurement if found is None else with_image(measurement, found))


def with_image(measurement: Measurement, found: ImageMeasurement) -> Measurement:
    """Return a measurement with the content of a note."""
    return dataclasses.replace(
        measurement,
        level=found.route.level,
        expert=found.route.expert,
        num_pixels=found.num_pixels,
        num_retries=found.num_retries,
        stages=found.stages,
    )


def _named(given: str | None) -> str:
    """Return the caller's own id if it is fit for a log, else a random one."""
    return given if given and _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
