"""Answer every error, the framework's own included, with a problem of RFC 9457."""

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from expertree.errors import (
    DamagedImageError,
    DeadlineError,
    ExpertreeError,
    MemoryShortageError,
    OptionError,
    OverloadError,
    TooLargeError,
    UnavailableError,
    UnsupportedFormatError,
)

MEDIA_TYPE = "application/problem+json"

CLIENT_GONE = 499
"""Status, in logs and metrics, of a request whose caller left before the answer."""

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A problem of RFC 9457, which says what went wrong with a request.

    Attributes:
        type: Kind of problem, as a URI reference to its explanation on the docs page.
        title: The kind in words, always the same.
        status: The HTTP status.
        detail: What happened this time, and what to do.
        request_id: Id of the request in logs.
        option: The option that is wrong, where one is.
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    option: str | None = None


KINDS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be understood"),
    "no-key": (401, "A key is needed"),
    "forbidden": (403, "This is not allowed from there"),
    "not-found": (404, "There is no such thing"),
    "no-such-method": (405, "This method does not exist here"),
    "not-acceptable": (406, "No answer of the kind asked for"),
    "slow-body": (408, "The body came in too slowly"),
    "conflict": (409, "Not in this state"),
    "too-large": (413, "The body is too large"),
    "too-many-pixels": (413, "The image has too many pixels"),
    "unsupported-format": (415, "Not an image that is read here"),
    "bad-image": (422, "The image is damaged"),
    "bad-option": (422, "An option is wrong"),
    "used-key": (422, "The idempotency key belongs to another request"),
    "overload": (429, "Too much at once"),
    "internal": (500, "A mistake on this side"),
    "unavailable": (503, "Not ready"),
    "out-of-memory": (503, "Too little memory"),
    "deadline": (504, "It took too long"),
}
"""Every kind of problem, with its status and title."""

_BY_STATUS = {status: kind for kind, (status, _) in reversed(KINDS.items())}

_BY_ERROR: tuple[tuple[type[ExpertreeError], str], ...] = (
    (UnsupportedFormatError, "unsupported-format"),
    (TooLargeError, "too-many-pixels"),
    (DamagedImageError, "bad-image"),
    (OptionError, "bad-option"),
    (MemoryShortageError, "out-of-memory"),
    (UnavailableError, "unavailable"),
    (OverloadError, "overload"),
    (DeadlineError, "deadline"),
)
"""Kinds of problem by class of error; the first that fits counts."""

_ABOUT_THE_IMAGE = (UnsupportedFormatError, TooLargeError, DamagedImageError)


class ProblemError(Exception):
    """The request is to be answered with a problem."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        option: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Make the error from a kind, one of `KINDS`, and a sentence on what happened."""
        super().__init__(kind, detail)
        self.kind, self.detail, self.option = kind, detail, option
        self.headers = dict(headers or {})

    def problem(self, request_id: str | None = None) -> Problem:
        """Return the problem that the caller is sent."""
        status, title = KINDS[self.kind]
        return Problem(
            type=f"/docs#{self.kind}",
            title=title,
            status=status,
            detail=self.detail,
            request_id=request_id,
            option=self.option,
        )


def problem_of(error: Exception) -> ProblemError:
    """Return an error as a problem; an unforeseen one is `internal`, and its text is not told."""
    if isinstance(error, ProblemError):
        return error
    for kind_of_error, kind in _BY_ERROR:
        if isinstance(error, kind_of_error):
            detail = f"The image {error}" if isinstance(error, _ABOUT_THE_IMAGE) else str(error)
            headers = {}
            if isinstance(error, OverloadError):
                headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
            return ProblemError(kind, _sentence(detail), headers=headers)
    return ProblemError("internal", "The request could not be answered; its id is in the log.")


def install(app: FastAPI) -> None:
    """Make an application answer every error with a problem."""
    app.add_exception_handler(HTTPException, _answer_framework)
    app.add_exception_handler(ProblemError, _answer)
    app.add_exception_handler(ExpertreeError, _answer)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_mistake)


def problem_response(error: ProblemError, request_id: str | None) -> Response:
    """Return the response with a problem."""
    problem = error.problem(request_id)
    named = {} if request_id is None else {"X-Request-Id": request_id}
    return Response(
        json.dumps(as_json(problem)),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **named, **error.headers},
    )


def as_json(problem: Problem) -> dict[str, Any]:
    """Return a problem as JSON, without members that are None."""
    content = dataclasses.asdict(problem)
    return {name: value for name, value in content.items() if value is not None}


def request_id_of(request: Request) -> str | None:
    """Return the id under which a request is logged."""
    found: str | None = request.scope.get("state", {}).get("request_id")
    return found


async def _answer(request: Request, error: Exception) -> Response:
    return problem_response(problem_of(error), request_id_of(request))


async def _answer_framework(request: Request, error: Exception) -> Response:
    """Answer 404, 405 and every other error that the framework raises by itself."""
    if not isinstance(error, HTTPException):
        raise error
    kind = _BY_STATUS.get(error.status_code, "bad-request")
    details: dict[str, str] = {
        "not-found": f"There is nothing at {request.url.path}; /docs lists what there is.",
        "no-such-method": f"{request.method} cannot be used on {request.url.path}.",
    }
    headers = dict(error.headers or {})
    if kind == "no-such-method":
        headers["Allow"] = ", ".join(sorted(_methods_at(request)))
    problem = ProblemError(kind, details.get(kind, _sentence(str(error.detail))), headers=headers)
    return problem_response(problem, request_id_of(request))


def _methods_at(request: Request) -> set[str]:
    """Return the methods of all routes of a path; the framework gives only the first one's."""
    found: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found | {"HEAD"} if "GET" in found else found


async def _answer_nobody(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _answer_mistake(request: Request, error: Exception) -> Response:
    request_id = request_id_of(request)
    _logger.error("request %s failed", request_id, exc_info=error)
    return problem_response(problem_of(error), request_id)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."
