"""Admission of requests, by their keys and by the sites that they come from."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from fastapi import Request

from expertree.serving.http.keys import ANONYMOUS, Authenticator
from expertree.serving.http.problems import ProblemError
from expertree.serving.settings import HttpConfig, is_loopback

Admit: TypeAlias = Callable[[Request], AsyncIterator[None]]
"""A dependency of FastAPI that is entered while a request is answered."""

_OWNER = "owner"

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def make_admission(config: HttpConfig) -> Admit:
    """Make the dependency that admits a request, or refuses it with a problem.

    Without keys on loopback every page that somebody has open in a browser could ask. So a request
    that comes from another site's page is refused, and so is one for a name that is not this
    machine's own (DNS rebinding).

    Args:
        config: Keys and sites.
    """
    authenticator = Authenticator(config.keys)

    async def admit(request: Request) -> AsyncIterator[None]:
        _check_host(request, config)
        _check_origin(request, config)
        key = authenticator.authenticate(request.headers.get("authorization"))
        request.scope["state"][_OWNER] = ANONYMOUS if key is None else key.name
        with authenticator.admitted(key):
            yield

    return admit


def owner_of(request: Request) -> str:
    """Return the name of the owner of a request that has been admitted."""
    owner: str = request.scope["state"][_OWNER]
    return owner


def _check_host(request: Request, config: HttpConfig) -> None:
    if config.keys or not config.is_local:
        return
    host = request.headers.get("host", "")
    with contextlib.suppress(ValueError):
        if is_loopback(urlsplit(f"//{host}").hostname or ""):
            return
    raise ProblemError(
        "forbidden",
        f"This endpoint has no keys and answers on this machine only, not as {host[:80]!r}.",
    )


def _check_origin(request: Request, config: HttpConfig) -> None:
    origin = request.headers.get("origin")
    if origin is None or request.method in _READING or origin in config.cors_origins:
        return
    if origin.partition("://")[2].lower() != request.headers.get("host", "").lower():
        raise ProblemError(
            "forbidden", f"Pages of {origin[:80]!r} may not ask; see cors_origins of the endpoint."
        )
